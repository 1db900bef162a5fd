"""Modbus, the only package of comsrv that imports pymodbus.

mapping (where a point stands) -> planner (blocks) -> client (transactions) -> codec
(bytes to arrays and back); `tcp` puts them together.
"""
