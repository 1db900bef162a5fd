"""Rules over points: their definitions, state and firings, and the tick that lets time pass.

Port    base + 3 (6003)
Keys    rulesrv:*
Calls   rule_*, voltage_tick
Files   config/rules/*.yaml

Rules are evaluated in Redis, inside the call that brings a point's change. This
service keeps their definitions and shows what they did.
"""
