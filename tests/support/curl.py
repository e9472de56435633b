"""`curl` as far as the documents use it, for machines without one: `python -m tests.support.curl [-s] [-i] [-H …] [-d …] URL`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from http.client import HTTPConnection, responses
from urllib.parse import urlsplit


def main(arguments: Sequence[str]) -> int:
    url, body, shows_head = "", "", False
    headers: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        if argument == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif argument == "-d":
            body = next(rest)
        elif argument == "-i":
            shows_head = True
        elif argument != "-s":
            url = argument
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection.request("POST" if body else "GET", target or "/", body or None, headers)
    answer = connection.getresponse()
    if shows_head:
        print(f"HTTP/1.1 {answer.status} {responses[answer.status]}", *(f"{n}: {v}" for n, v in answer.getheaders()), "", sep="\n")  # fmt: skip
    sys.stdout.write(answer.read().decode())
    connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
