"""Alarms: their life cycle, journal and definitions.

Port    base + 2 (6002)
Keys    alarmsrv:*
Calls   store_alarm, get_alarm, query_alarms, acknowledge_alarm, resolve_alarm, alarm_*, cleanup_old_alarms
Files   config/alarms/*.yaml

Definitions are evaluated in Redis, inside the call that brings a point's change.
This service keeps them, lets operators act, and removes what is old.
"""
