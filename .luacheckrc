std = "lua51"
max_line_length = 140
max_comment_line_length = 150
read_globals = { "redis", "cjson", "cmsgpack", "server" }
exclude_files = { "redis_functions/lib/keys.lua" }
