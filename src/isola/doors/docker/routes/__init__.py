"""The routes, one file per noun: each exports its table as ``ROUTES``."""
