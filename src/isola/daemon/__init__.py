"""The composition root: builds the parts, starts the doors, stops in reverse."""
