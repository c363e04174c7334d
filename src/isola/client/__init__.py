"""Typed Python library for the REST door, one file per noun."""
