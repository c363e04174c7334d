"""Everything the runtimes that speak the OCI runtime specification share: crun, runc, and those that follow them."""
