"""Archives are untrusted: they are read and written by a process without privileges."""
