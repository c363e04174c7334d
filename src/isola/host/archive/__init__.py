"""Archives: hostile until unpacked; read and written by a process that has no rights worth stealing."""
