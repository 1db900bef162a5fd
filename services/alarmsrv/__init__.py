"""Alarms: their life cycle, definitions, journal, quality, and who is told of them.

Port    base + 2 (6002)
Keys    alarmsrv:*
Calls   store_alarm, get_alarm, query_alarms, acknowledge_alarm, resolve_alarm, alarm_*, cleanup_old_alarms
Files   config/alarms/*.yaml; <data_dir>/alarmsrv/journal/*.jsonl, approved.json

Definitions are evaluated in Redis, inside the call that brings a point's change.
This service keeps them, lets operators act, moves the journal to disk (`journal/`),
measures (`quality/`), sends what waits in the outbox (`notify/`), and removes what is old.
"""
