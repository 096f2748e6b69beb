"""Who callers are: today visitors, later everybody."""
