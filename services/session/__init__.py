"""Who is connected, and where."""
