"""Images from Dockerfiles: parsing and planning are pure, each step runs like an instance does."""
