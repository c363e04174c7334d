"""Common code of runtimes that implement the OCI runtime specification, such as crun and runc."""
