"""Models of devices: names, units and actions over points.

Port    base + 1 (6001)
Keys    modsrv:*
Calls   template_*, model_*
Files   config/models/*.yaml

A model's points are written in Redis, inside the call that brings the device's.
This service keeps templates and models and shows their values.
"""
