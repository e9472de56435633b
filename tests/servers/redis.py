"""A real Redis for tests, on loopback: the one installed, or Debian's packages unpacked below the user's cache, without root.

`python -m tests.servers.redis` fetches it and prints where it is. Tests skip where it cannot be had, and fail when CI=true.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
from redis import Redis

_PACKAGES = ("redis-tools", "libjemalloc2", "liblzf1", "libatomic1")
_LIMIT_S = 20.0


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "knit-test" / "redis"


@cache
def _find() -> tuple[Path | None, str]:
    """(the program, or None; why there is none)."""
    installed = shutil.which("redis-server")
    if installed:
        return Path(installed), ""
    unpacked = _cache() / "usr/bin/redis-server"
    if not unpacked.exists():
        try:
            _unpack(_cache())
        except (OSError, subprocess.SubprocessError) as exc:
            return None, f"there is no redis-server, and Debian's could not be fetched: {exc}"
    return unpacked, ""


def _unpack(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / f"debs-{os.getpid()}"
    work.mkdir(exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", *_PACKAGES], cwd=work, check=True, capture_output=True, timeout=120)
        for package in sorted(work.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True, capture_output=True, timeout=60)
    finally:
        shutil.rmtree(work)
    # One program under several names; the package that names it redis-server holds nothing else that is wanted.
    link = folder / "usr/bin/redis-server"
    if not link.exists():
        link.symlink_to("redis-check-rdb")


def program() -> Path:
    """The redis-server to start. Skips the test where there is none; with CI=true that is a failure."""
    found, why = _find()
    if found is not None:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def _environment() -> Mapping[str, str]:
    places = [str(path) for path in (_cache() / "usr/lib").glob("*-linux-gnu")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(places)} if places else os.environ


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One server with its own folder. `with RedisServer(folder) as redis:`; it can be killed and started again.

    Everything is written to disk before it is answered (appendfsync always), so that a kill loses nothing acknowledged.
    """

    def __init__(self, folder: Path, *arguments: str, port: int = 0, sentinel: bool = False) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._arguments: Sequence[str] = arguments
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "redis.conf"
        if not configuration.exists():
            configuration.write_text("")
        kept = ["--sentinel"] if self._sentinel else ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [program(), configuration, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.folder,
                 *kept, *self._arguments],
                stdout=log, stderr=log, env=_environment(), start_new_session=True,
            )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        """Until it answers anything at all to PING: a refusal for want of a password is an answer too."""
        until = time.monotonic() + _LIMIT_S
        while True:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"redis-server did not start:\n{(self.folder / 'log.txt').read_text()[-2000:]}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as probe:
                    if "--tls-port" in self._arguments:
                        return
                    probe.sendall(b"PING\r\n")
                    if not probe.recv(64).startswith(b"-LOADING"):
                        return
            except OSError:
                time.sleep(0.005)

    @property
    def cluster_port(self) -> int:
        return int(self._arguments[self._arguments.index("--cluster-port") + 1])

    def flush(self) -> None:
        """Forget everything."""
        with Redis(port=self.port) as client:
            client.flushall()

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(_LIMIT_S)

    def end(self) -> None:
        """kill -9, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pause(self) -> None:
        """It takes connections and answers nothing: what a black hole looks like."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@cache
def any_redis() -> RedisServer:
    """One server for all tests of this process that only need some Redis; each empties it first."""
    server = RedisServer(Path(tempfile.mkdtemp(prefix="knit-redis-")))
    server.start()
    atexit.register(server.end)
    return server


def main() -> int:
    found, why = _find()
    sys.stdout.write(f"{found or why}\n")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
