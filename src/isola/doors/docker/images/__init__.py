"""Images as the Docker Engine API shows and changes them."""
