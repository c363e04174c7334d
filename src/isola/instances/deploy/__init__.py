"""New versions of instances: deployed beside the one that serves, rolled back, and many of them in waves."""
