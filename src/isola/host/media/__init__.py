"""Contents of disks that are written without a kernel, a mount or a tool: partition tables, FAT file systems. Pure."""
