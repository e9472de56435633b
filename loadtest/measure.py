"""CPU per event beside nginx, in one run: `python -m loadtest.measure [SCENARIO…] [--rounds 5] [--seconds 2]`.

The process under test is pinned to core 0, load and subscriber to core 1. What is counted is the on-CPU time of all threads of
all processes under test (/proc/PID/task/*/schedstat), the drain of what is queued included, divided by the events answered 2xx.
Scenarios are interleaved and the first round is thrown away; the median is shown with the spread.

Load and subscriber must leave the process under test as the bottleneck, else it pays for waking them up or rests while it waits
for them: so wrk and sink.c are used where wrk and a C compiler are there, else drive.py and sink.py (said in the first line).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.redis import RedisServer

ROOT = Path(__file__).resolve().parent.parent
KNIT = [sys.executable, "-m", "mesh"]


@dataclass(frozen=True)
class Scenario:
    """What stands between the load and the subscriber."""

    name: str
    backend: str = ""
    """`memory`, `log`, `redis`, `kafka`, or "" for nginx. A Redis runs beside the load; its CPU is shown apart."""
    triggers: int = 1
    matching: int = 1
    workers: int = 1
    size: int = 1024
    rate: float = 0.0
    pinned: bool = True
    ordered: bool = False


SCENARIOS = [
    Scenario("nginx"),
    Scenario("memory", "memory"),
    Scenario("log", "log"),
    Scenario("memory-1000-triggers", "memory", triggers=1000),
    Scenario("log-1000-triggers", "log", triggers=1000),
    Scenario("memory-10-matching", "memory", triggers=10, matching=10),
    Scenario("log-10-matching", "log", triggers=10, matching=10),
]
SPECIAL = [
    Scenario("redis", "redis"),
    Scenario("redis-10-matching", "redis", triggers=10, matching=10),
    Scenario("redis-1000-triggers", "redis", triggers=1000),
    Scenario("redis-500", "redis", rate=500, pinned=False),
    Scenario("nginx-500", rate=500, pinned=False),
    Scenario("log-500", "log", rate=500, pinned=False),
    Scenario("memory-500", "memory", rate=500, pinned=False),
    Scenario("log-1-worker", "log", pinned=False),
    Scenario("log-2-workers", "log", workers=2, pinned=False),
    Scenario("kafka", "kafka"),
    Scenario("kafka-ordered", "kafka", ordered=True),
    Scenario("kafka-100-triggers", "kafka", triggers=100),
    Scenario("kafka-500", "kafka", rate=500, pinned=False),
]
"""The Kafka ones need KAFKA_BOOTSTRAP (`python -m tests.servers.kafka` prints one); what the broker itself uses is not counted."""


@dataclass
class Result:
    cpu_us: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    delivered: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)


def cpu_ns(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(task.read_text().split()[0])
    return total


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    pids = [pid]
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pids += family(int(child))
    return pids


def pin(pids: list[int], core: int) -> None:
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(task.name), {core})


def light_tools() -> Path | None:
    """sink.c, compiled once, where it and wrk can be had."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or shutil.which("wrk") is None:
        return None
    binary = Path(tempfile.gettempdir()) / f"knit-loadtest-sink-{os.getuid()}"
    source = ROOT / "loadtest" / "sink.c"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        subprocess.run([compiler, "-O2", "-D_GNU_SOURCE", "-o", str(binary), str(source)], check=True)
    return binary


LIGHT = light_tools()


@contextlib.contextmanager
def sink() -> Iterator[int]:
    command = [str(LIGHT), "0"] if LIGHT else [sys.executable, "-m", "loadtest.sink", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    pin([process.pid], 1)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def taken(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
        return int(answer.read())


NGINX = """
worker_processes {workers}; daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 10000000; client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};
 uwsgi_temp_path {dir}; scgi_temp_path {dir};
 upstream sink {{ server 127.0.0.1:{sink}; keepalive 128; keepalive_requests 10000000; }}
 server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ proxy_pass http://sink; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
"""


def free_port() -> int:
    import socket  # noqa: PLC0415

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def nginx(scenario: Scenario, sink_port: int, folder: Path) -> Iterator[tuple[str, list[int]]]:
    binary = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if binary is None:
        sys.exit("nginx is not installed: it is what everything is measured beside (Debian: apt install nginx-light)")
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(workers=scenario.workers, dir=folder, sink=sink_port, port=port))
    process = subprocess.Popen([binary, "-p", str(folder), "-c", str(conf)])
    wait_for_port(port)
    try:
        yield f"http://127.0.0.1:{port}/default/default", family(process.pid)
    finally:
        process.terminate()
        process.wait()


def wait_for_port(port: int) -> None:
    import socket  # noqa: PLC0415

    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.01)
    sys.exit(f"nothing listens on {port}")


@contextlib.contextmanager
def server(scenario: Scenario, folder: Path) -> Iterator[tuple[str, list[int]]]:
    """The Redis of a scenario that wants one: its address and process. Flushed each second, as most are."""
    if scenario.backend != "redis":
        yield "", []
        return
    with RedisServer(folder / "redis", "--appendfsync", "everysec") as redis:
        if scenario.pinned:
            pin([redis.pid], 1)
        yield redis.address, [redis.pid]


def kafka_broker() -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kafka-broker-config", "namespace": "knative-eventing"},
            "data": {
                "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"],
                "default.topic.partitions": "10",
                "default.topic.replication.factor": "1",
            },
        },
        {
            "apiVersion": "eventing.knative.dev/v1",
            "kind": "Broker",
            "metadata": {
                "name": "default",
                "namespace": "default",
                "annotations": {"eventing.knative.dev/broker.class": "Kafka"},
            },
        },
    ]


def channel_broker(backend: str, address: str = "") -> list[dict[str, Any]]:
    kind = {
        "memory": ("messaging.knative.dev/v1", "InMemoryChannel"),
        "log": ("messaging.knit.dev/v1alpha1", "LogChannel"),
        "redis": ("messaging.knit.dev/v1alpha1", "RedisStreamChannel"),
    }
    spec = f'spec: {{address: "{address}"}}\n' if address else ""
    version, name = kind[backend]
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "channel", "namespace": "default"},
            "data": {"channel-template-spec": f"apiVersion: {version}\nkind: {name}\n{spec}"},
        },
        {
            "apiVersion": "eventing.knative.dev/v1",
            "kind": "Broker",
            "metadata": {
                "name": "default",
                "namespace": "default",
                "annotations": {"messaging.knative.dev/async-handler": "true"},
            },
            "spec": {"config": {"apiVersion": "v1", "kind": "ConfigMap", "name": "channel", "namespace": "default"}},
        },
    ]


def resources(scenario: Scenario, sink_port: int, address: str = "") -> str:
    documents = kafka_broker() if scenario.backend == "kafka" else channel_broker(scenario.backend, address)
    order = "ordered" if scenario.ordered else "unordered"
    for number in range(scenario.triggers):
        wanted = "com.example.loadtest" if number < scenario.matching else f"com.example.other.{number}"
        documents.append(
            {
                "apiVersion": "eventing.knative.dev/v1",
                "kind": "Trigger",
                "metadata": {
                    "name": f"t{number}",
                    "namespace": "default",
                    "annotations": {"kafka.eventing.knative.dev/delivery.order": order},
                },
                "spec": {
                    "broker": "default",
                    "filter": {"attributes": {"type": wanted}},
                    "subscriber": {"uri": f"http://127.0.0.1:{sink_port}/t{number}"},
                },
            }
        )
    return "\n---\n".join(json.dumps(document) for document in documents)


@contextlib.contextmanager
def knit(scenario: Scenario, sink_port: int, folder: Path, *, address: str = "") -> Iterator[tuple[str, list[int]]]:
    mesh = folder / "mesh"
    mesh.mkdir()
    (mesh / "mesh.yaml").write_text(resources(scenario, sink_port, address))
    ready = folder / "ready.json"
    process = subprocess.Popen(
        [*KNIT, "run", str(mesh), "--port", "0", "--admin-port", "0", "--workers", str(scenario.workers), "--data-dir",
         str(folder / "data"), "--ready-file", str(ready)],
        cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    while not ready.exists():
        if process.poll() is not None:
            sys.exit("knit run ended before it was ready")
        time.sleep(0.01)
    try:
        yield json.loads(ready.read_text())["ingress"] + "/default/default", family(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def drive(scenario: Scenario, url: str, seconds: float) -> dict[str, Any]:
    if LIGHT and not scenario.rate and scenario.size == 1024:
        return wrk(scenario, url, seconds)
    command = ["taskset", "-c", "1"] if scenario.pinned else []
    command += [sys.executable, "-m", "loadtest.drive", url, "--seconds", str(seconds), "--size", str(scenario.size)]
    if scenario.rate:
        command += ["--rate", str(scenario.rate)]
    return dict(json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout))


def wrk(scenario: Scenario, url: str, seconds: float) -> dict[str, Any]:
    command = ["taskset", "-c", "1"] if scenario.pinned else []
    command += [
        "wrk",
        "-t1",
        "-c64",
        f"-d{max(1, round(seconds))}s",
        "--latency",
        "-s",
        str(ROOT / "loadtest" / "event.lua"),
        url,
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    total = int(re.search(r"(\d+) requests in", text)[1])  # type: ignore[index]  # wrk always prints it
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    at = {share: _ms(text, share) for share in ("50%", "99%")}
    statuses = {"202": total - (int(bad[1]) if bad else 0)}
    return {"statuses": statuses, "p50_ms": at["50%"], "p99_ms": at["99%"], "seconds": max(1, round(seconds))}


def _ms(text: str, share: str) -> float:
    found = re.search(rf"{share}\s+([\d.]+)(us|ms|s)", text)
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]] if found else 0.0


def measure(scenario: Scenario, result: Result, seconds: float, *, keep: bool) -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        sink() as sink_port,
        server(scenario, Path(name)) as (address, servers),
    ):
        folder = Path(name)
        start = (
            knit(scenario, sink_port, folder, address=address)
            if scenario.backend
            else nginx(scenario, sink_port, folder)
        )
        with start as (url, pids):
            if scenario.pinned:
                pin(pids, 0)
            drive(scenario, url, 0.3)
            settle(sink_port)
            before, had, theirs = cpu_ns(pids), taken(sink_port), cpu_ns(servers)
            report = drive(scenario, url, seconds)
            settle(sink_port)
            used, delivered = cpu_ns(pids) - before, taken(sink_port) - had
            theirs = cpu_ns(servers) - theirs
    answered = sum(count for status, count in report["statuses"].items() if status.startswith("2"))
    if keep:
        result.cpu_us.append(used / 1000 / max(1, answered))
        result.per_s.append(answered / report.get("seconds", seconds))
        result.p50_ms.append(report["p50_ms"])
        result.p99_ms.append(report["p99_ms"])
        result.delivered.append(delivered / max(1, answered))
        result.server_us.append(theirs / 1000 / max(1, answered))


def settle(sink_port: int) -> None:
    """Wait until nothing arrives any more."""
    last = -1
    while (now := taken(sink_port)) != last:
        last = now
        time.sleep(0.1)


def table(scenarios: list[Scenario], results: dict[str, Result]) -> str:
    base = statistics.median(results["nginx"].cpu_us) if results.get("nginx") and results["nginx"].cpu_us else None
    lines = [
        "| scenario | CPU µs / event | min..max | × nginx | events/s | p50 / p99 ms | delivered / event | server's own µs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for scenario in scenarios:
        r = results[scenario.name]
        cpu = statistics.median(r.cpu_us)
        times = f"{cpu / base:.2f}" if base else "-"
        lines.append(
            f"| {scenario.name} | {cpu:.1f} | {min(r.cpu_us):.1f}..{max(r.cpu_us):.1f} | {times} | {statistics.median(r.per_s):.0f} "
            f"| {statistics.median(r.p50_ms):.2f} / {statistics.median(r.p99_ms):.2f} | {statistics.median(r.delivered):.2f} | {statistics.median(r.server_us):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [s.name for s in [*SCENARIOS, *SPECIAL]]
    parser.add_argument("scenarios", nargs="*", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    chosen = [s for s in [*SCENARIOS, *SPECIAL] if s.name in args.scenarios] if args.scenarios else SCENARIOS
    results = {scenario.name: Result() for scenario in chosen}
    for number in range(args.rounds + 1):
        for scenario in chosen:
            print(f"round {number}/{args.rounds} {scenario.name}   ", end="\r", file=sys.stderr, flush=True)
            measure(scenario, results[scenario.name], args.seconds, keep=number > 0)
    print(file=sys.stderr)
    print(
        f"{platform.platform()}, CPython {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    print(table(chosen, results))


if __name__ == "__main__":
    main()
