"""How good crowns are on annotated imagery, at several resolutions."""
