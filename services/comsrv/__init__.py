"""comsrv: polls and commands field devices (port base + 0).

Owns the keys `comsrv:*`; calls comsrv_ingest, comsrv_set_quality, comsrv_status,
channel_* and command_*. Reading order: channel (what a channel is), tables (CSV), contract
(what a protocol is), plugins, poller, uplink (arrays to Redis), commander, runner.
"""
