"""`knit run` as a process of its own, for tests that see it from outside."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
KNIT = [sys.executable, "-m", "mesh"]


class Mesh:
    """A running mesh. `with Mesh(yaml) as mesh:`; `restart()` begins anew on the same data."""

    def __init__(
        self,
        resources: str = "",
        *,
        workers: int = 1,
        folder: Path | None = None,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._own = tempfile.TemporaryDirectory() if folder is None else None
        self.folder = folder or Path(self._own.name if self._own else "")
        self.dir = self.folder / "dir"
        self.dir.mkdir(exist_ok=True)
        if resources:
            (self.dir / "mesh.yaml").write_text(resources)
        self.data = self.folder / "data"
        self._ready = self.folder / "ready.json"
        self._workers = workers
        self._env = {**os.environ, **(env or {})}
        self._options = options
        self.process: subprocess.Popen[str] | None = None
        self.ingress = self.admin = ""
        self.output = self.folder / "output.txt"

    def __enter__(self) -> Mesh:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._own is not None:
            self._own.cleanup()

    def start(self, *, limit_s: float = 20.0) -> None:
        self._ready.unlink(missing_ok=True)
        with self.output.open("a") as output:
            self.process = subprocess.Popen(
                [*KNIT, "run", str(self.dir), "--port", "0", "--admin-port", "0", "--workers", str(self._workers),
                 "--data-dir", str(self.data), "--ready-file", str(self._ready), *self._options],
                cwd=ROOT, env=self._env, stdout=output, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + limit_s
        while not self._ready.exists():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output.read_text()}"
            assert time.monotonic() < until, f"not ready after {limit_s} s:\n{self.output.read_text()}"
            time.sleep(0.01)
        facts = json.loads(self._ready.read_text())
        self.ingress, self.admin = facts["ingress"], facts["admin"]

    def stop(self, *, limit_s: float = 30.0) -> int:
        """SIGTERM, wait, return the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill_group()
            raise

    def kill_group(self) -> None:
        """kill -9 of the parent and all workers."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def worker_pids(self) -> list[int]:
        assert self.process is not None
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def post(
        self, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"", *, method: str = "POST"
    ) -> tuple[int, dict[str, str], bytes]:
        return request(self.ingress + path, headers or {}, body, method=method)

    def send(self, event_type: str = "t", *, path: str = "/default/default", event_id: str = "1", **extra: str) -> int:
        """One binary event; returns the status."""
        return self.post(path, binary(event_type, event_id=event_id, **extra), b'{"a":1}')[0]

    def get(self, path: str) -> Any:
        """JSON from the admin API."""
        return json.loads(request(self.admin + path, {}, b"", method="GET")[2])

    def text(self, path: str) -> str:
        return request(self.admin + path, {}, b"", method="GET")[2].decode()

    def wait_for(self, holds: Any, *, limit_s: float = 10.0) -> Any:
        """Poll the admin API (there is nothing to be told by) until `holds()` is true; returns what it returned."""
        until = time.monotonic() + limit_s
        while not (value := holds()):
            assert time.monotonic() < until, f"did not come true in {limit_s} s:\n{self.output.read_text()[-3000:]}"
            time.sleep(0.02)
        return value

    def status(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        found = self.get(f"/api/v1/resources?kind={kind}&namespace={namespace}&name={name}")
        items = found["items"] if isinstance(found, dict) else found
        return dict(items[0]["status"]) if items else {}

    def condition(self, kind: str, name: str, condition: str = "Ready") -> dict[str, Any]:
        conditions = self.status(kind, name).get("conditions", [])
        return next((dict(c) for c in conditions if c["type"] == condition), {})


def binary(event_type: str = "t", *, event_id: str = "1", source: str = "/s", **extra: str) -> dict[str, str]:
    """Headers of a good binary event; `ce_abc="x"` adds `ce-abc: x`."""
    headers = {"ce-specversion": "1.0", "ce-id": event_id, "ce-source": source, "ce-type": event_type}
    headers |= {"content-type": "application/json"}
    return headers | {name.replace("_", "-"): value for name, value in extra.items()}


def request(
    url: str, headers: Mapping[str, str], body: bytes, *, method: str = "POST"
) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target or "/", body=body or None, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def knit(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the CLI to its end."""
    return subprocess.run(
        [*KNIT, *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
