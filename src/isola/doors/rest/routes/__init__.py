"""One file per noun, each exporting its route table as ROUTES."""
