"""A simulated energy site behind Modbus TCP, so that everything runs without hardware.

Ports: base+20 and up, one a device, from `config/simulate.yaml`.
Keys and functions: none. It knows nothing of Redis; comsrv polls it like any field device.

Reading order: `devices/` (one file a device class), `site` (the shared step and the power
balance), `registers` (values on the wire), `server` (Modbus), `settings`, `cli`.
`twins/` is the other half: devices made from any point table, with faults on purpose.
"""
