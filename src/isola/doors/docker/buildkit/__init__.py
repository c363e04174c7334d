"""What clients of BuildKit speak: gRPC over HTTP/2, both ways. Builds themselves are those of ``isola.builds``."""
