"""One file per piece of work that is measured; each exports its ``WORKLOADS``."""
