"""Containers: requests become what instances are asked for, instances become what clients of Docker expect."""
