"""Isola runs every kind of isolated Linux workload with one lifecycle and one API."""

__version__ = "0.1.0"
