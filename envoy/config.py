"""What every part of the configuration is made of."""

from typing import Any, TypeAlias

Config: TypeAlias = dict[str, Any]
"""A piece of Envoy's configuration, as its JSON form."""

TYPE_URL = "type.googleapis.com/"


def typed(message: str, **fields: Any) -> Config:
    """Return an Any: a message by its full proto name, with its fields."""
    return {"@type": TYPE_URL + message, **fields}


def extension(name: str, message: str, **fields: Any) -> Config:
    """Return a named extension that is configured by a message."""
    return {"name": name, "typed_config": typed(message, **fields)}


def socket_address(address: str, port: int) -> Config:
    """Return a TCP address."""
    return {"socket_address": {"address": address, "port_value": port}}
