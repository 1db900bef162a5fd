#!/bin/sh
# Load the function library `voltage` into Redis: the site's own, or VOLTAGE_REDIS_URL.
# Needs the environment (make env); without it, redis-cli and a bundle given as $1
# (voltage functions bundle > voltage.lua) do, which is what a container can use.
set -eu
cd "$(dirname "$0")/../.."
if [ -x .venv/bin/voltage ]; then
    exec .venv/bin/voltage functions load
elif command -v voltage >/dev/null; then
    exec voltage functions load
elif command -v redis-cli >/dev/null && [ -f "${1:-}" ]; then
    exec redis-cli -u "${VOLTAGE_REDIS_URL:-redis://127.0.0.1:6379}" -x FUNCTION LOAD REPLACE < "$1"
fi
echo "load_functions: run 'make env' first, or give redis-cli a bundle: $0 voltage.lua" >&2
exit 1
