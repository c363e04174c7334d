"""JSON representations of the API: pure functions from values to dictionaries."""
