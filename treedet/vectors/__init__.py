"""Geometries in and out: crowns written to GIS files, annotations read from them."""
