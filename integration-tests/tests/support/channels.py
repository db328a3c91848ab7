"""gRPC channels of a stranger's making: not the client that the shim has."""

import grpc

_OPTIONS = [
    # grpcio would send a Unix path, percent-encoded, as authority, which the
    # agent's HTTP/2 refuses.
    ("grpc.default_authority", "localhost"),
    # A dead agent's connection must not be shared with its successor's.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


def open_channel(address):
    """Open a channel to an agent; connects when first used."""
    return grpc.insecure_channel(address, options=_OPTIONS)
