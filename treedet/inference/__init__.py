"""From a raster to crowns: plan, stream, detect, merge, write."""
