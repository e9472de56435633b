#!/bin/sh
# A Redis for this example, on loopback; Ctrl-C ends it. Its data stays in the folder given, or in ./redis-data.
# Every answered event is on disk first (appendfsync always); nothing is thrown away when memory is full (noeviction).
set -eu
command -v redis-server >/dev/null || { echo "redis-server is not installed (Debian: apt install redis-server)" >&2; exit 1; }
data=${1:-redis-data}
mkdir -p "$data"
exec redis-server --bind 127.0.0.1 --port 6379 --dir "$data" --requirepass change-me \
  --appendonly yes --appendfsync always --save "" --maxmemory-policy noeviction
