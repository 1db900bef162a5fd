"""The site as a Modbus TCP server, so that SCADA reads it and a one-client device has many masters.

table.py     config/modbus_server.csv: which address shows which point
image.py     values, ages and qualities as registers, rebuilt for whole arrays
source.py    the values of the mapped points in Redis, all of one instant
writes.py    a write as a command of the ledger, answered with what became of it
requests.py  function codes and their exceptions
server.py    connections, frames, limits
"""
