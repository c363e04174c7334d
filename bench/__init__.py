"""Isola compared with its peers: the same root file systems, at the same time, on the same machine."""
