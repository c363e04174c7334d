"""Networks as clients of Docker see them."""
