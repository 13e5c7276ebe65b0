"""Engines that run a network."""
