"""Detectors: from what a classifier makes of an image to one number, the higher the more in-distribution."""
