"""Plain values: no torch, no open files."""
