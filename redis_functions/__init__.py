"""The Lua sources of the library `voltage`; libs.redis.bundle makes it one file."""
