"""Model files that come with the package."""
