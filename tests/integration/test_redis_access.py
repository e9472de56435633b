"""The ways to a Redis: password, ACL user, TLS, replicas, Sentinel, Cluster; and what is said when one is closed."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from channels.api import TopicSpec
from channels.redis_streams import RedisSinks
from channels.redis_streams.probe import probe
from mesh.events.event import Event, encode_block
from mesh.runtime.clock import SystemClock
from tests.servers.redis import RedisServer, free_port
from tests.support.channels import LIMIT_S, TOPIC, Settling, event, ids
from tests.support.redis_peers import SETTINGS, Peer

_RIGHTS = (
    *("~knit:*", "&knit:*", "+@stream", "+@hash", "+@sortedset", "+@set", "+@transaction", "+@scripting"),
    *("+@connection", "+@keyspace", "+time", "+publish", "+subscribe", "+wait", "+@string"),
)


async def said(options: dict[str, str | float | bool]) -> str:
    health = await probe(TopicSpec(TOPIC, options), SETTINGS, SystemClock())
    return f"{health.is_up} {health.reason} {health.message}"


async def goes_through(options: dict[str, str | float | bool], *events: Event) -> None:
    async with Peer("one", options) as one:
        reader = one.read(reader=Settling())
        await one.until_taken(*events)
        got = await reader.take(len(events))
        assert ids(got) == [sent.id for sent in events]
        await one.until(lambda: one.channel.states()[0].backlog == 0)


# -- who may, and what is said ---------------------------------------------------------------------------------------


async def test_a_password_and_an_acl_user(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path, "--requirepass", "s3cret") as server,
        Redis(port=server.port, password="s3cret") as admin,
    ):
        here = {"address": server.address}
        assert "wants a password" in await said(here)
        assert "user or password is wrong" in await said(here | {"password": "no"})
        assert (await said(here | {"password": "s3cret"})).startswith("True Durable ")
        await goes_through(here | {"password": "s3cret"}, event(1))
        admin.acl_setuser("knit", enabled=True, passwords=["+pw"], reset=True)
        admin.execute_command("ACL", "SETUSER", "knit", *_RIGHTS)
        user = here | {"username": "knit", "password": "pw"}
        assert (await said(user)).startswith("True DurabilityUnknown ")
        await goes_through(user, event(2), event(3))
        await goes_through({"address": f"redis://knit:pw@127.0.0.1:{server.port}"}, event(4))


async def test_without_the_right_to_listen_events_still_reach_the_process_with_room(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, Redis(port=server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "deaf", "on", ">pw", "resetchannels", "~*", "+@all")
        deaf = {"address": server.address, "username": "deaf", "password": "pw"}
        async with Peer("one", deaf) as one, Peer("two", deaf) as two:
            mine = one.read(parallelism=2)
            assert await one.publish(event(0), event(1)) is None
            assert ids(await mine.take(2)) == ["0", "1"]
            others = two.read()
            assert await one.publish(*[event(n) for n in range(2, 5)]) is None
            assert ids(await others.take(3)) == ["2", "3", "4"]


async def test_a_user_without_rights_is_refused_with_the_reason(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, Redis(port=server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "poor", "on", ">pw", "+@connection", "~knit:*")
        async with Peer("one", {"address": server.address, "username": "poor", "password": "pw"}) as one:
            one.read()
            await one.until(lambda: one.is_up)
            refusal = await one.publish(event(1))
            assert refusal is not None
            assert "NOPERM" in refusal.why
            await one.until(lambda: any("NOPERM" in str(fields["why"]) for _, fields in one.troubles))


async def test_what_is_said_of_an_address_nobody_answers_at() -> None:
    assert "connection refused" in await said({"address": f"redis://127.0.0.1:{free_port()}"})
    assert "cannot be resolved" in await said({"address": "redis://no-such-host.invalid"})
    assert "expected redis://" in await said({"address": "http://x"})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--appendfsync", "everysec"), "DurableWithinSeconds"),
        (("--appendfsync", "no"), "NotFlushed"),
        (("--appendonly", "no"), "NotDurable"),
        (("--maxmemory-policy", "allkeys-lru"), "EvictsEvents"),
    ],
)
async def test_the_setting_that_was_found_is_told(tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    with RedisServer(tmp_path, *arguments) as server:
        assert f"True {reason} " in await said({"address": server.address})


# -- TLS -------------------------------------------------------------------------------------------------------------


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca, server, client and expired, each as NAME.crt and NAME.key."""
    folder = tmp_path_factory.mktemp("certificates")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(folder, "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca", "-days", "2")
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name, days in (("server", "2"), ("client", "2"), ("expired", "-1")):
        openssl(folder, "req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        until = ("-days", days) if days != "-1" else ("-not_before", "20200101000000Z", "-not_after", "20200102000000Z")
        if days == "-1":
            _sign_expired(folder, name)
        else:
            openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                    "-out", f"{name}.crt", "-extfile", "ext", *until)  # fmt: skip
    return folder


def _sign_expired(folder: Path, name: str) -> None:
    """`openssl x509` cannot date a certificate back; `openssl ca` can."""
    (folder / "index").write_text("")
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nrand_serial=yes\ndefault_md=sha256\npolicy=p\nnew_certs_dir=.\n"
        "x509_extensions=e\n[p]\ncommonName=supplied\n[e]\nsubjectAltName=IP:127.0.0.1\n"
    )
    openssl(folder, "ca", "-batch", "-config", "ca.conf", "-cert", "ca.crt", "-keyfile", "ca.key", "-in", f"{name}.csr",
            "-out", f"{name}.crt", "-notext", "-startdate", "20200101000000Z", "-enddate", "20200102000000Z")  # fmt: skip


def tls_server(folder: Path, certificates: Path, name: str, *arguments: str) -> RedisServer:
    port = str(free_port())
    return RedisServer(
        folder, "--port", "0", "--tls-port", port, "--tls-cert-file", str(certificates / f"{name}.crt"),
        "--tls-key-file", str(certificates / f"{name}.key"), "--tls-ca-cert-file", str(certificates / "ca.crt"),
        *arguments, port=int(port),
    )  # fmt: skip


async def test_tls_with_a_client_certificate(tmp_path: Path, certificates: Path) -> None:
    with tls_server(tmp_path, certificates, "server") as server:
        here = {"address": f"rediss://127.0.0.1:{server.port}"}
        assert "TLS: " in await said(here), "nobody we trust signed it"
        trusting = here | {"ca": (certificates / "ca.crt").read_text()}
        assert "True" not in await said(trusting), "this server wants a certificate of ours"
        ours = {
            "certificate": (certificates / "client.crt").read_text(),
            "private_key": (certificates / "client.key").read_text(),
        }
        await goes_through(trusting | ours, event(1), event(2, body=b"x" * 300_000))
        async with Peer("one", trusting | ours) as one:
            await one.until(lambda: one.is_up)
            assert list(one.channel.dead_letters()) == []


async def test_an_expired_certificate_is_named(tmp_path: Path, certificates: Path) -> None:
    with tls_server(tmp_path, certificates, "expired", "--tls-auth-clients", "no") as server:
        ca = (certificates / "ca.crt").read_text()
        assert "expired" in await said({"address": f"rediss://127.0.0.1:{server.port}", "ca": ca})
        assert "TLS: " not in await said({"address": f"redis://127.0.0.1:{server.port}"})


# -- replicas, Sentinel, Cluster ------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master and a replica that has caught up."""
    with (
        RedisServer(tmp_path / "master") as master,
        RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(master.port)) as replica,
    ):
        with Redis(port=replica.port) as client:
            until = time.monotonic() + 15
            while client.info("replication")["master_link_status"] != "up":
                assert time.monotonic() < until
                time.sleep(0.02)
        yield master, replica


async def test_waiting_for_replicas_refuses_what_too_few_have(pair: tuple[RedisServer, RedisServer]) -> None:
    master, replica = pair
    async with Peer("one", {"address": master.address, "wait_replicas": 1.0}) as one:
        reader = one.read(reader=Settling())
        await one.until_taken(event(1))
        assert ids(await reader.take(1)) == ["1"]
        replica.kill()
        refusal = await one.publish(event(2))
        assert refusal is not None
        assert refusal.kind == "unavailable"
        assert "fewer than 1 replicas" in refusal.why


async def test_a_sentinel_names_the_new_master(pair: tuple[RedisServer, RedisServer], tmp_path: Path) -> None:
    master, replica = pair
    folder = tmp_path / "sentinel"
    folder.mkdir()
    (folder / "redis.conf").write_text(
        f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\nsentinel down-after-milliseconds mymaster 300\n"
        "sentinel failover-timeout mymaster 3000\n"
    )
    with RedisServer(folder, sentinel=True) as sentinel, Redis(port=sentinel.port) as client:
        address = {"address": f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster"}
        async with Peer("one", address) as one:
            reader = one.read(reader=Settling())
            await one.until_taken(event(1))
            assert ids(await reader.take(1)) == ["1"]
            await one.until(lambda: client.execute_command("SENTINEL", "REPLICAS", "mymaster"))
            master.kill()
            assert await one.until_taken(event(2)) > 0
            assert ids(await reader.take(1)) == ["2"]
            with Redis(port=replica.port) as new:
                assert new.role()[0] == b"master"


async def test_a_cluster_keeps_a_topic_on_one_node_and_a_topic_may_move(tmp_path: Path) -> None:
    bus = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    servers = [RedisServer(tmp_path / str(n), *bus, "--cluster-port", str(free_port())) for n in range(3)]
    for server in servers:
        server.start()
    try:
        await asyncio.to_thread(_join, servers)
        address = {"address": "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)}
        for number in range(4):
            async with Peer(f"p{number}", address) as one:
                reader = one.read(f"s{number}", reader=Settling())
                both = one.read(f"t{number}", reader=Settling())
                await one.until_taken(event(1), event(2))
                assert ids(await reader.take(2)) == ids(await both.take(2)) == ["1", "2"]
                one.channel.close_topic(TOPIC)
                one.channel.open_topic(TopicSpec(TOPIC, address))
    finally:
        for server in servers:
            server.kill()


def _join(servers: list[RedisServer]) -> None:
    """Give each a third of the slots, and let them meet. What `redis-cli --cluster create` does."""
    clients = [Redis(port=server.port) for server in servers]
    share = 16384 // len(clients)
    for index, client in enumerate(clients):
        last = 16383 if index == len(clients) - 1 else (index + 1) * share - 1
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", index * share, last)
        client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port, servers[0].cluster_port)
    until = time.monotonic() + LIMIT_S
    for client in clients:
        while client.cluster("info")["cluster_state"] != "ok":
            assert time.monotonic() < until
            time.sleep(0.05)
        client.close()


# -- RedisStreamSink ------------------------------------------------------------------------------------------------


async def test_a_sink_answers_once_the_entry_is_stored(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, Redis(port=server.port) as client:
        sinks = RedisSinks(settings=SETTINGS, clock=SystemClock(), on_trouble=lambda _what, _fields: None)
        sinks.open_topic(TopicSpec("sink/default/out", {"address": server.address, "stream": "mine"}))
        attributes = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}

        async def send(*bodies: bytes) -> str:
            answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            events = [Event(encode_block(attributes), body) for body in bodies]
            sinks.publish(
                "sink/default/out", events, lambda refusal: answer.set_result(refusal.kind if refusal else "")
            )
            return await answer

        assert await send(b'["a", "b", "n", 5, "o", {"x": [1]}]') == ""
        assert [fields for _, fields in client.xrange("mine")] == [{b"a": b"b", b"n": b"5", b"o": b'{"x":[1]}'}]
        for wrong in (b'{"a": "b"}', b'["a"]', b"[]", b"nonsense", b""):
            assert await send(wrong) == "invalid"
        assert await send(b'["a", "1"]', b'["a"]') == "invalid"
        assert client.xlen("mine") == 1, "all or none of a batch"
        assert await send(b'["a", "1"]', b'["a", "2"]') == ""
        assert client.xlen("mine") == 3
        server.kill()
        assert await send(b'["a", "b"]') == "unavailable"
        await sinks.aclose()
