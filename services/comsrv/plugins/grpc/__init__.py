"""The protocol grpc: a device gateway in another process, in any language; `gateway.proto` is the contract.

Modules
    parameters  where the gateway is, and what stands in a mapping row
    plugin      plans, reads, writes, listens; needs no grpcio to be imported
    values      what requests say and replies and events mean
    link        one connection to a gateway, the only module with grpcio
    gateway_pb2 made from gateway.proto by scripts/check_generated
"""

from services.comsrv.plugins.grpc.plugin import Grpc

__all__ = ["Grpc"]
