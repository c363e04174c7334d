"""What the doors share: listening on Unix sockets and over TLS, reading requests, routing, taking over connections."""
