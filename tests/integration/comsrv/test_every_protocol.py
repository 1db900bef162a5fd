"""No protocol without the conformance suite."""

from services.comsrv.plugins.conformance import Conformance
from services.comsrv.plugins.registry import protocols
from tests.integration.comsrv import (
    test_grpc,
    test_modbus_rtu,
    test_modbus_rtu_over_tcp,
    test_modbus_tcp,
    test_modbus_tls,
    test_virtual,
)

MODULES = (test_grpc, test_modbus_rtu, test_modbus_rtu_over_tcp, test_modbus_tcp, test_modbus_tls, test_virtual)


def test_every_protocol_has_its_conformance_class():
    tested = {
        found.protocol
        for module in MODULES
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Conformance) and found is not Conformance
    }
    assert tested == set(protocols())
