"""Drivers of this kind; each file is found by its name."""
