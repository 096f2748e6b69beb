"""REST in, gRPC out."""

import base64

from .config import Config, extension
from .descriptors import Descriptors

FILTER = "envoy.filters.http.grpc_json_transcoder"
MESSAGE = "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder"
RESPONSE_BYTES_MAX = 16 * 1024 * 1024


def transcoder(descriptors: Descriptors) -> Config:
    """Return the filter; routes turn it on, so that gRPC calls pass it by."""
    fields = {
        "proto_descriptor_bin": base64.b64encode(descriptors.serialized).decode(),
        "services": list(descriptors.services),
        # The REST route stays the route of the call: its retries and deadline
        # hold, and nothing is routed twice (trap 1).
        "match_incoming_request_route": True,
        "convert_grpc_status": True,
        "print_options": {
            "always_print_primitive_fields": True,
            "always_print_enums_as_ints": False,
            "preserve_proto_field_names": False,
            "stream_newline_delimited": True,
        },
        "request_validation_options": {
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
        "max_response_body_size": RESPONSE_BYTES_MAX,
    }
    return {**extension(FILTER, MESSAGE, **fields), "disabled": True}
