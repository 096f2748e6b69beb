"""Messages: each once, in one order for everybody."""
