std = "lua51"
max_line_length = 140
read_globals = { "redis", "cjson", "cmsgpack", "server" }
exclude_files = { "redis_functions/lib/keys.lua" }
