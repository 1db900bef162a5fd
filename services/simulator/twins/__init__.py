"""Devices made from point tables, which misbehave on purpose.

They share no code with comsrv's Modbus: values are packed and frames built here, so that what one
side gets wrong the other does not repeat. Nothing is a library's either: a library would not send
half a frame.

Reading order: `cells` (a point's bytes), `generators` (what it is worth when), `unit` (a device's
memory and its answers), `frames`, `faults` (what can go wrong with an answer), `endpoint` (links),
`schedule` (when it goes wrong), `settings` (the file), `log` (what the devices held and saw), `run`.
"""
