"""How good crowns are: numpy and scipy, no model, no file."""
