"""Training samples: annotated images, rendered scenes, augmentation."""
