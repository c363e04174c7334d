"""Public stateful fakes."""
