"""The Incus/LXD REST API 1.0."""
