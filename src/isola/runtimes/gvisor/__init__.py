"""gVisor: a kernel in user space, between the programs of an instance and the kernel of the host."""
