"""Where events come from: one file a source, `api.py` first. A source knows a clock and `emit`, no channel and no HTTP client."""
