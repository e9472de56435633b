"""A real Apache Kafka for tests: brokers of one cluster (KRaft, broker and controller in one), from Maven Central's jars.

    python -m tests.servers.kafka [FOLDER]     starts one node, prints its address, ends it with Ctrl-C

The jars are fetched once, by Maven as this machine has it configured, into the user's cache. Needs `java` and `mvn`.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

VERSION = "4.3.1"
HEAP = "256m"
_JVM = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.log.kafka.server=info"]  # fmt: skip
_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local.test</groupId><artifactId>kafka-broker</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
"""
_CONFIG = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={listeners}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr=1
min.insync.replicas={in_sync}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=2
background.threads=2
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
"""
USER, PASSWORD = "knit", "knit-secret"


class UnavailableError(Exception):
    """Kafka cannot be had on this machine; the text says why."""


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "knit" / "servers"


def jars() -> Path:
    """The folder with the jars; fetches them the first time."""
    folder = cache() / f"kafka-{VERSION}"
    if (folder / ".done").exists():
        return folder
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"Kafka needs {tool}, which is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as build:
        (Path(build) / "pom.xml").write_text(_POM.format(version=VERSION))
        command = ["mvn", "-q", "-B", "-ntp", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={folder}"], cwd=build, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise UnavailableError(f"Maven could not bring Kafka {VERSION}: {done.stdout[-500:]}{done.stderr[-200:]}")
    (folder / ".done").touch()
    return folder


class Kafka:
    """A cluster of `nodes` brokers on loopback. `with Kafka(folder) as kafka: kafka.bootstrap`."""

    def __init__(self, folder: Path, *, nodes: int = 1) -> None:
        self.folder = folder
        self.nodes = list(range(1, nodes + 1))
        ports = _free_ports(3 * nodes)
        self._ports = {node: ports[3 * i : 3 * i + 3] for i, node in enumerate(self.nodes)}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.bootstrap = ",".join(f"127.0.0.1:{self._ports[node][0]}" for node in self.nodes)
        self.sasl = ",".join(f"127.0.0.1:{self._ports[node][2]}" for node in self.nodes)

    def __enter__(self) -> Kafka:
        classpath = jars()
        ident = "M" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        for node in self.nodes:
            home = self.folder / f"node-{node}"
            home.mkdir(parents=True, exist_ok=True)
            (home / "server.properties").write_text(self._config(node))
        formats = [self._format(classpath, node, ident) for node in self.nodes]
        for process in formats:
            if process.wait():
                raise UnavailableError(f"Kafka's storage cannot be formatted in {self.folder}")
        self.start(*self.nodes)
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            self.kill(node)

    def _format(self, classpath: Path, node: int, ident: str) -> subprocess.Popen[bytes]:
        home = self.folder / f"node-{node}"
        users = [f"SCRAM-SHA-{bits}=[name={USER},password={PASSWORD}]" for bits in (256, 512)]
        command = ["format", "--ignore-formatted", "-t", ident, "-c", str(home / "server.properties")]
        scram = [word for user in users for word in ("--add-scram", user)]
        with (home / "format.log").open("w") as log:
            return _java(classpath, "kafka.tools.StorageTool", *command, *scram, stdout=log)

    def _config(self, node: int) -> str:
        count = len(self.nodes)
        plain, controller, sasl = self._ports[node]
        return _CONFIG.format(
            node=node,
            voters=",".join(f"{each}@127.0.0.1:{self._ports[each][1]}" for each in self.nodes),
            listeners=f"PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{sasl}",
            controller=controller,
            data=self.folder / f"node-{node}" / "data",
            replicas=min(count, 3),
            in_sync=2 if count >= 3 else 1,
            user=USER,
            password=PASSWORD,
        )

    def start(self, *nodes: int, limit_s: float = 90.0) -> None:
        """Start nodes and wait until they serve."""
        logs = {}
        for node in nodes:
            home = self.folder / f"node-{node}"
            logs[node] = home / "out.log"
            with logs[node].open("w") as log:
                properties = str(home / "server.properties")
                self._processes[node] = _java(jars(), "kafka.Kafka", properties, stdout=log)
        until = time.monotonic() + limit_s
        for node, log_path in logs.items():
            while "Kafka Server started" not in log_path.read_text():
                assert self._processes[node].poll() is None, f"Kafka ended:\n{log_path.read_text()[-2000:]}"
                assert time.monotonic() < until, f"Kafka is not up after {limit_s} s"
                time.sleep(0.05)

    def kill(self, node: int = 1, *, number: int = signal.SIGKILL) -> None:
        process = self._processes.pop(node, None)
        if process is not None:
            process.send_signal(number)
            process.wait(30)

    def pause(self, node: int = 1) -> None:
        """It keeps its connections and answers nothing."""
        self._processes[node].send_signal(signal.SIGSTOP)

    def resume(self, node: int = 1) -> None:
        self._processes[node].send_signal(signal.SIGCONT)


def _java(classpath: Path, main: str, *arguments: str, stdout: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["java", f"-Xmx{HEAP}", *_JVM, "-cp", f"{classpath}/*", main, *arguments],
        stdout=stdout, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
    )  # type: ignore[call-overload,no-any-return]  # fmt: skip


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        with Kafka(folder) as kafka:
            print(kafka.bootstrap, flush=True)
            try:
                signal.pause()
            except KeyboardInterrupt:
                return


if __name__ == "__main__":
    main()
