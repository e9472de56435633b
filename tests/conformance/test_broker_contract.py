"""What a broker does, seen from outside: every case of `data/broker_contract.yaml` against a running mesh."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.mesh import Mesh, binary
from tests.support.recorder import Recorder, Reply, event_reply

CASES: dict[str, list[dict[str, Any]]] = yaml.load(
    (Path(__file__).parent / "data" / "broker_contract.yaml").read_text(), Loader=yaml.BaseLoader
)
PAUSES = {"backoffPolicy": "linear", "backoffDelay": "PT0.05S"}


def delivery(spec: dict[str, Any], url: str) -> dict[str, Any]:
    """The vectors' short form → a DeliverySpec whose dead letters go to `url`."""
    full: dict[str, Any] = {"retry": int(spec["retry"]), **PAUSES} if "retry" in spec else {}
    return full | ({"deadLetterSink": {"uri": url}} if spec.get("dls") == "true" else {})


def broker(namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "metadata": {"name": "b", "namespace": namespace},
        "spec": spec,
    }


def trigger(namespace: str, name: str, url: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"broker": "b", "subscriber": {"uri": url}, **spec},
    }


def type_filter(event_type: str | None) -> dict[str, Any]:
    return {"filter": {"attributes": {"type": event_type}}} if event_type else {}


def topology(sink: Recorder) -> Iterator[dict[str, Any]]:
    for number, case in enumerate(CASES["topology"]):
        ns = f"topology{number}"
        own = {} if case["broker"] == "null" else delivery(case["broker"], sink.url(f"/{ns}/brokerdls"))
        yield broker(ns, {"delivery": own})
        for index, spec in enumerate(case["triggers"]):
            name = f"t{index}"
            given = delivery(spec["delivery"], sink.url(f"/{ns}/{name}dls")) if "delivery" in spec else None
            yield trigger(ns, name, sink.url(f"/{ns}/{name}"), **({"delivery": given} if given is not None else {}))
            failures = int(spec.get("fail_first", 0))
            sink.behaviours[f"/{ns}/{name}"] = lambda _s, n, f=failures: Reply(503 if n < f else 202)


def routing(sink: Recorder) -> Iterator[dict[str, Any]]:
    for number, case in enumerate(CASES["routing"]):
        ns = f"routing{number}"
        yield broker(ns, {})
        for index, spec in enumerate(case["triggers"]):
            path = f"/{ns}/{spec.get('subscriber', f't{index}')}"
            yield trigger(ns, f"t{index}", sink.url(path), **type_filter(spec.get("type")))
            if "replies" in spec:
                sink.behaviours[path] = lambda _s, _n, t=spec["replies"]: event_reply(t)


def answer(spec: dict[str, Any]) -> Reply:
    if spec.get("event") == "binary":
        return event_reply("the.reply", status=int(spec["status"]))
    return Reply(int(spec["status"]), spec.get("headers", {}), spec.get("body", "").encode())


def answers(sink: Recorder) -> Iterator[dict[str, Any]]:
    for number, case in enumerate(CASES["answers"]):
        ns = f"answers{number}"
        yield broker(ns, {"delivery": {}})
        dls = {"deadLetterSink": {"uri": sink.url(f"/{ns}/dls")}}
        yield trigger(ns, "main", sink.url(f"/{ns}/main"), **type_filter("t"), delivery=dls)
        yield trigger(ns, "reply", sink.url(f"/{ns}/reply"), **type_filter("the.reply"))
        yield trigger(ns, "end", sink.url(f"/{ns}/end"), **type_filter("t"))
        sink.behaviours[f"/{ns}/main"] = lambda _s, _n, c=case: answer(c["answer"])


def dead_letters(sink: Recorder) -> Iterator[dict[str, Any]]:
    for number, case in enumerate(CASES["dead_letter"]):
        ns = f"dead{number}"
        yield broker(ns, {})
        spec = {"retry": int(case.get("retry", 0)), **PAUSES, "deadLetterSink": {"uri": sink.url(f"/{ns}/dls")}}
        failure = case["failure"]
        url = "http://127.0.0.1:9" if failure == "connection refused" else sink.url(f"/{ns}/sub")
        if isinstance(failure, dict):
            reply = Reply(int(failure["status"]), {}, failure["body"].encode())
            sink.behaviours[f"/{ns}/sub"] = lambda _s, _n, r=reply: r
        if failure == "the reply's taker answers 400 `no`":
            yield {
                "apiVersion": "messaging.knit.dev/v1alpha1", "kind": "LogChannel", "metadata": {"name": "c", "namespace": ns},
            }  # fmt: skip
            yield {
                "apiVersion": "messaging.knative.dev/v1",
                "kind": "Subscription",
                "metadata": {"name": "s", "namespace": ns},
                "spec": {
                    "channel": {"apiVersion": "messaging.knit.dev/v1alpha1", "kind": "LogChannel", "name": "c"},
                    "subscriber": {"uri": url}, "reply": {"uri": sink.url(f"/{ns}/taker")}, "delivery": spec,
                },
            }  # fmt: skip
            sink.behaviours[f"/{ns}/sub"] = lambda _s, _n: event_reply("the.reply")
            sink.behaviours[f"/{ns}/taker"] = lambda _s, _n: Reply(400, {}, b"no")
        else:
            yield trigger(ns, "t", url, delivery=spec)


@pytest.fixture(scope="module")
def sink() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def mesh(sink: Recorder) -> Iterator[Mesh]:
    documents = [*topology(sink), *routing(sink), *answers(sink), *dead_letters(sink)]
    documents += [
        {**broker("ns", {}), "metadata": {"name": "name", "namespace": "ns"}},
        broker("headers", {}),
        trigger("headers", "t", sink.url("/headers/t"), **type_filter("t")),
        trigger("headers", "reply", sink.url("/headers/reply"), **type_filter("the.reply")),
    ]
    with Mesh("\n---\n".join(json.dumps(document) for document in documents)) as running:
        yield running


def named(kind: str) -> Any:
    return pytest.mark.parametrize("number", range(len(CASES[kind])), ids=[case["name"] for case in CASES[kind]])


@named("ingress")
def test_ingress(number: int, mesh: Mesh) -> None:
    case = CASES["ingress"][number]
    headers, body = binary(), b"{}"
    match case["event"]:
        case "without type":
            del headers["ce-type"]
        case "without specversion":
            del headers["ce-specversion"]
        case "specversion 0.3":
            headers["ce-specversion"] = "0.3"
        case "text only":
            headers, body = {"content-type": "text/plain"}, b"hello"
        case "binary, application/vnd.apache.thrift.binary":
            headers["content-type"] = "application/vnd.apache.thrift.binary"
        case other:
            assert other == "valid"
    status, answered, _ = mesh.post(case["path"], headers, body, method=case["method"])
    assert str(status) == case["status"] or f"{status // 100}xx" == case["status"]
    if status == 405:
        assert answered["allow"] == "POST, OPTIONS"


@named("headers")
def test_headers(number: int, mesh: Mesh, sink: Recorder) -> None:
    case = CASES["headers"][number]
    event_id = f"headers-{number}"
    if "answer" in case:
        sink.behaviours["/headers/t"] = lambda _s, _n: event_reply("the.reply", event_id=event_id, **case["answer"])
    assert mesh.post("/headers/b", binary(event_id=event_id) | case.get("sent", {}), b"{}")[0] == 202
    path = "/headers/reply" if "answer" in case else "/headers/t"
    sink.wait_until(lambda seen: any(s.path == path and s.id == event_id for s in seen))
    sink.behaviours.pop("/headers/t", None)
    got = next(s for s in sink.at(path) if s.id == event_id).headers
    wanted = {**case.get("at_subscriber", {}), **case.get("at_reply_taker", {})}
    if event_id == "headers-4":  # its value may stand percent-encoded or as it is
        wanted["ce-abc"] = got["ce-abc"]
        assert got["ce-abc"] in ('"x y"', "%22x%20y%22")
    assert {name: got.get(name) for name in wanted} == wanted
    assert set(case.get("at_subscriber_present", [])) <= set(got)
    assert not set(case.get("at_reply_taker_absent", [])) & set(got)
    if "at_subscriber_trace" in case:
        assert got["traceparent"].split("-")[1] == case["at_subscriber_trace"]


@named("answers")
def test_answers(number: int, mesh: Mesh, sink: Recorder) -> None:
    case, ns = CASES["answers"][number], f"answers{number}"
    assert mesh.send(path=f"/{ns}/b", event_id=ns) == 202
    sink.wait(f"/{ns}/main")
    if case["reply"] == "true":
        sink.wait(f"/{ns}/reply")
    if case["delivered"] == "false":
        sink.wait(f"/{ns}/dls")
    mesh.wait_for(lambda: no_backlog(mesh, f"trigger/{ns}/"))
    assert len(sink.at(f"/{ns}/reply")) == (case["reply"] == "true")
    if case["delivered"] != "either":
        assert len(sink.at(f"/{ns}/dls")) == (case["delivered"] == "false")


def no_backlog(mesh: Mesh, prefix: str) -> bool:
    """Whether nothing waits for the subscriptions whose key begins so, by the metrics."""
    lines = [
        line
        for line in mesh.text("/metrics").splitlines()
        if line.startswith("knit_backlog_events{") and prefix in line
    ]
    return bool(lines) and all(float(line.rpartition(" ")[2]) == 0 for line in lines)


@named("dead_letter")
def test_dead_letter(number: int, mesh: Mesh, sink: Recorder) -> None:
    case, ns = CASES["dead_letter"][number], f"dead{number}"
    path = f"/{ns}/c-kn-channel" if case["name"] == "reply refused" else f"/{ns}/b"
    sent = binary(event_id=ns, ce_time="2024-05-06T07:08:09Z", ce_subject="s")
    assert mesh.post(path, sent, b'{"a":1}')[0] == 202
    (letter,) = sink.wait(f"/{ns}/dls")
    wanted = {f"ce-{name}": value for name, value in case.get("at_dls", {}).items()}
    assert {name: letter.headers.get(name) for name in wanted} == wanted
    assert {f"ce-{name}" for name in case.get("at_dls_present", [])} <= set(letter.headers)
    assert {name: letter.headers[name] for name in sent} == sent
    assert letter.body == b'{"a":1}'
    if case["failure"] == "connection refused":
        assert letter.headers["ce-knativeerrordest"] == "http://127.0.0.1:9"
        assert b"refused" in base64.b64decode(letter.headers["ce-knativeerrordata"])
    if "attempts" in case:
        assert len(sink.at(f"/{ns}/sub")) == int(case["attempts"])


@named("topology")
def test_topology(number: int, mesh: Mesh, sink: Recorder) -> None:
    case, ns = CASES["topology"][number], f"topology{number}"
    assert mesh.send(path=f"/{ns}/b", event_id=ns) == 202
    for name, wanted in case["expect"].items():
        sink.wait(f"/{ns}/{name}", len(wanted) if isinstance(wanted, list) else int(wanted))
    mesh.wait_for(lambda: no_backlog(mesh, f"trigger/{ns}/"))
    for name, wanted in case["expect"].items():
        assert len(sink.at(f"/{ns}/{name}")) == (len(wanted) if isinstance(wanted, list) else int(wanted)), name


@named("routing")
def test_routing(number: int, mesh: Mesh, sink: Recorder) -> None:
    case, ns = CASES["routing"][number], f"routing{number}"
    for index, event_type in enumerate(case["send"]):
        assert mesh.send(event_type, path=f"/{ns}/b", event_id=str(index)) == 202
    for name, types in case["expect"].items():
        sink.wait(f"/{ns}/{name}", len(types))
    mesh.wait_for(lambda: no_backlog(mesh, f"trigger/{ns}/"))
    for name, types in case["expect"].items():
        assert sorted(s.headers["ce-type"] for s in sink.at(f"/{ns}/{name}")) == sorted(types)
