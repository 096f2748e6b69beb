"""Bots: what a tenant lets a machine answer."""
