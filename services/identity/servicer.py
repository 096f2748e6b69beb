"""gRPC in: requests to commands, results to responses."""

import time
import uuid
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from interchange.identity.v1 import identity_pb2
from interchange.identity.v1 import identity_service_pb2 as pb
from interchange.identity.v1.identity_service_pb2_grpc import IdentityServiceServicer
from joserfc.jwk import ECKey

from services.common import identity
from services.identity.visitors import create_visitor


class IdentityServicer(IdentityServiceServicer):
    """Gives identities to those who have none."""

    def __init__(self, key: ECKey) -> None:
        self._key = key

    async def CreateVisitor(
        self, request: pb.CreateVisitorRequest, context: Any
    ) -> identity_pb2.Visitor:
        """Make a visitor of the caller's tenant and a token for him."""
        tenant_id = identity.current().tenant_id
        visitor = create_visitor(tenant_id, uuid.uuid4(), self._key, int(time.time()))
        return identity_pb2.Visitor(
            customer_id=visitor.customer_id,
            token=visitor.token,
            expire_time=Timestamp(seconds=visitor.expire_s),
        )
