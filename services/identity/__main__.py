"""Wires the identity service."""

from interchange.identity.v1 import identity_service_pb2
from interchange.identity.v1.identity_service_pb2_grpc import add_IdentityServiceServicer_to_server

from services.common import tokens
from services.common.host import Host, main
from services.identity.servicer import IdentityServicer


async def wire(host: Host) -> None:
    """Add the identity service to a host."""
    key = tokens.private_key(host.settings.token_key_file.read_text())
    host.add_service(
        add_IdentityServiceServicer_to_server,
        IdentityServicer(key),
        identity_service_pb2.DESCRIPTOR.services_by_name["IdentityService"],
    )


if __name__ == "__main__":
    main(wire)
