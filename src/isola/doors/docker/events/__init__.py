"""Events of the daemon in Docker's shapes."""
