"""Public fakes that keep state."""
