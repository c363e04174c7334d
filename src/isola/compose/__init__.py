"""Compose files: read, interpolated, merged and checked as the Compose specification describes it. Pure."""
