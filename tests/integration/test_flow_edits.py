"""A Sequence that is edited while events wait in it: each goes on with the steps as they are then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.test_broker_contract import no_backlog
from tests.support.mesh import Mesh
from tests.support.recorder import Recorder, Reply, Seen, event_reply

PATIENT = "{retry: 20, backoffPolicy: exponential, backoffDelay: PT0.05S}"
DOOR = "/default/flow-kn-sequence-0-kn-channel"


@pytest.fixture
def sink() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


def sequence(sink: Recorder, *steps: str) -> str:
    written = "".join(f"  - {{uri: '{sink.url(f'/{step}')}', delivery: {PATIENT}}}\n" for step in steps)
    return (
        "apiVersion: flows.knative.dev/v1\nkind: Sequence\nmetadata: {name: flow}\nspec:\n"
        "  channelTemplate: {apiVersion: messaging.knit.dev/v1alpha1, kind: LogChannel}\n"
        f"  steps:\n{written}  reply: {{uri: '{sink.url('/end')}'}}\n"
    )


def appended(text: str) -> Reply:
    return event_reply(text, event_id="e", body=text.encode())


def passes_after_b(seen: Seen, _number: int) -> Reply:
    """The step `c`: takes only what has been at `b`."""
    return appended("c") if seen.headers["ce-type"] == "b" else Reply(503)


def test_a_step_put_in_gets_the_events_that_wait_behind_it(sink: Recorder) -> None:
    sink.behaviours |= {"/a": lambda _s, _n: appended("a"), "/b": lambda _s, _n: appended("b"), "/c": passes_after_b}
    with Mesh(sequence(sink, "a", "c")) as mesh:
        assert mesh.send(path=DOOR, event_id="e") == 202
        sink.wait("/c")
        (mesh.dir / "mesh.yaml").write_text(sequence(sink, "a", "b", "c"))
        (end,) = sink.wait("/end")
        mesh.wait_for(lambda: no_backlog(mesh, "subscription/default/"))
        assert [len(sink.at(path)) for path in ("/a", "/b", "/end")] == [1, 1, 1]
        assert end.headers["ce-type"] == "c"


def test_a_broken_edit_and_a_restart_with_it_lose_no_event(sink: Recorder) -> None:
    """What waits for a step is there when the document is mended, though nothing of it could be read meanwhile."""
    open_gate: list[bool] = []
    sink.behaviours |= {
        "/a": lambda _s, _n: appended("a"),
        "/c": lambda _s, _n: appended("c") if open_gate else Reply(503),
    }
    with Mesh(sequence(sink, "a", "c")) as mesh:
        assert mesh.send(path=DOOR, event_id="e") == 202
        sink.wait("/c")
        broken = sequence(sink, "a", "c").replace("  steps:\n", "  steps: none\n  others:\n")
        (mesh.dir / "mesh.yaml").write_text(broken)
        mesh.stop()
        mesh.start()
        assert mesh.condition("Sequence", "flow")["reason"] == "InvalidSpec"
        assert mesh.send(path=DOOR, event_id="f") == 503
        open_gate.append(True)
        (mesh.dir / "mesh.yaml").write_text(sequence(sink, "a", "c"))
        (end,) = sink.wait("/end")
        assert end.headers["ce-type"] == "c"
        assert len(sink.at("/a")) == 1
