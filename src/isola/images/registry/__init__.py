"""The client side of OCI registries: pulling, pushing, listing."""
