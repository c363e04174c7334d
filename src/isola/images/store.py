"""Content-addressed blobs in OCI image layout."""
