"""Frozen value types of every noun; pure, no I/O."""
