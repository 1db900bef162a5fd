"""Modbus, the only package of comsrv that imports pymodbus.

mapping (where a point stands) -> planner (blocks) -> client (reads and writes) -> codec
(bytes to arrays and back); `tcp` puts them together, `rtu` and `tls` are the other protocols.
Below the client: links (one an endpoint) -> link (transactions) over dialer (connections)
-> connection (bytes) -> frames, tcp_receiver, rtu_receiver (which bytes are the answer).
"""
