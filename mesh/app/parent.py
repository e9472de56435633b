"""`knit run`: the parent. It owns the world, compiles, hands the plan to the workers, keeps them alive, adds up what they
count, and runs what may exist once only. No event passes through it.

Workers are started before anything heavy is imported, so that both cores are busy while the command starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from typing import Any

from mesh.app.options import DATAPLANE, RunOptions
from mesh.errors import SettingsError
from mesh.runtime.clock import SystemClock
from mesh.runtime.workers import spawn

_PORT_WAIT_S = 5.0


def run(options: RunOptions) -> int:
    """Run the mesh until it is told to stop. Returns the exit code: 0 after a drain, 1 where a worker cannot start.

    Raises:
        SettingsError: a port is taken, or a folder cannot be used.
    """
    count = options.workers or os.cpu_count() or 1
    listener = reserve(options.host, options.port)
    started = [spawn(DATAPLANE, index) for index in range(count)]
    from mesh.app.admin import admin_server  # noqa: PLC0415 - the heavy imports, while the workers start
    from mesh.app.mesh import serve  # noqa: PLC0415

    try:
        import uvloop  # noqa: PLC0415  # where there is none (Windows), asyncio's own loop does

        runner: Any = uvloop.run
    except ImportError:
        runner = asyncio.run
    try:
        return int(runner(serve(options, count, listener, started=started, serve_admin=admin_server)))
    finally:
        for process, sock in started:
            sock.close()
            if process.poll() is None:
                process.kill()
        listener.close()


def reserve(host: str, port: int) -> socket.socket:
    """Bind the port that the workers will share (0: a free one), without listening on it.

    Raises:
        SettingsError: somebody else listens there, or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if port:
        _wait_until_free(family, host, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError as exc:
        sock.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {exc.strerror}") from exc
    return sock


def _wait_until_free(family: int, host: str, port: int) -> None:
    """SO_REUSEPORT would let two meshes share a port by mistake, so ask without it first. Workers of a parent that was
    killed leave within moments: wait for them that long."""
    clock = SystemClock()
    until = clock.monotonic() + _PORT_WAIT_S
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE or clock.monotonic() > until:
                    hint = "; --port 0 takes a free one" if exc.errno == errno.EADDRINUSE else ""
                    raise SettingsError(f"cannot listen on {host}:{port}: {exc.strerror}{hint}") from exc
            else:
                return
        with contextlib.suppress(InterruptedError):
            signal.sigtimedwait([], 0.05)
