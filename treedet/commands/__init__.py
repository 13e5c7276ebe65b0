"""What the commands do, loaded only when one runs."""
