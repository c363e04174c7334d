"""How nouns look in the API: pure functions from values to JSON-ready dictionaries."""
