"""Training: the Lightning module, its settings and the recipe of the bundled model."""
