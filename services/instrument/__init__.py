"""Reference data: what can be traded."""
