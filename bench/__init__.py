"""Isola beside its peers: the same root file systems, the same minutes, the same machine."""
