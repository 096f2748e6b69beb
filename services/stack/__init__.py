"""The `interchange` command: starts the real servers and the services on one machine."""
