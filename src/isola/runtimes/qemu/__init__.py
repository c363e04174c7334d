"""What the drivers that run guests in QEMU share."""
