"""Trading accounts and what moves in and out of them."""
