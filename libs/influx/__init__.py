"""InfluxDB: line protocol, writes in the v2 and v1 dialects, reads by InfluxQL.

lines.py    samples to line protocol, byte for byte what convert_to_line_protocol writes
client.py   the server; the one place that imports influxdb-client
"""
