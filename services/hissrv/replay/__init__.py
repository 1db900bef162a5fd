"""The replay log on disk, and what is made of it: replays of a site, and backtests of one rule or definition.

keeper     takes the log out of Redis into hourly files, with a checkpoint each hour
files      those files: frames of entries, and marks where the log has a gap
entries    one entry: a call that changed something, and what it wrote to the journals
snapshot   a checkpoint: the RDB file of the site's Redis, at one instant
private    a Redis of the replay's own, from a checkpoint
span       calls of a span of time, made again there: what the two ways below share
run        the calls of the log
history    samples of a time that no log reaches
past       the calls made of those, with both definitions of a backtest
compare    what was written then and now
backtest   one rule or alarm definition over the past
"""
