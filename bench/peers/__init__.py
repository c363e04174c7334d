"""One file per program that is measured; each exports its class as ``SUBJECT``."""
