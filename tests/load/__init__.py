"""Measures the project's figures: `python -m tests.load`, one after the other, in one table."""
