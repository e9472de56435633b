"""The command as users have it: processes against a running mesh, real ports, exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh.control.instances import Instance, announce
from tests.support.mesh import KNIT, ROOT, Mesh

LIMIT_S = 30
RESOURCES = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default}
spec: {delivery: {retry: 0}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: orders}
spec:
  broker: default
  filter: {attributes: {type: order.new}}
  subscriber: {uri: "http://127.0.0.1:1/"}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: lost}
spec:
  broker: nowhere
  subscriber: {uri: "http://127.0.0.1:1/"}
"""


def knit(
    *arguments: str, admin: str = "", text: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **({"KNIT_ADMIN": admin} if admin else {}), **(env or {})}
    return subprocess.run(
        [*KNIT, *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=ROOT,
        env=environ,
        check=False,
    )


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Mesh(RESOURCES) as running:
        yield running


class Listening:
    """A `knit listen` process."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def end(self) -> tuple[str, str]:
        """What it printed, and its last words."""
        return self.process.communicate(timeout=LIMIT_S)


@contextmanager
def listening(*options: str) -> Iterator[Listening]:
    process = subprocess.Popen(
        [*KNIT, "listen", "--port", "0", *options], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        hello = process.stderr.readline()
        found = re.search(r"http://[\d.:]+", hello)
        assert found, hello
        yield Listening(process, found[0])
    finally:
        process.kill()
        process.communicate()


# get


def test_get_shows_a_table_like_kubectl(mesh: Mesh) -> None:
    done = knit("get", "triggers", admin=mesh.admin)
    assert done.returncode == 0
    head, lost, orders = done.stdout.splitlines()
    assert head.split() == ["NAME", "BROKER", "SUBSCRIBER_URI", "AGE", "READY", "REASON"]
    assert re.fullmatch(r"lost +nowhere +.*\d+s +False +BrokerDoesNotExist", lost)
    assert re.fullmatch(r"orders +default +http://127.0.0.1:1/ +\d+s +True", orders)


def test_get_of_several_kinds_shows_a_table_each(mesh: Mesh) -> None:
    done = knit("get", "all", "-A", admin=mesh.admin)
    assert "default     broker.eventing.knative.dev/default" in done.stdout
    assert "\n\nNAMESPACE   NAME" in done.stdout


def test_get_writes_whole_objects(mesh: Mesh) -> None:
    value = json.loads(knit("get", "broker", "default", "-o", "json", admin=mesh.admin).stdout)
    assert value["status"]["address"]["url"] == f"{mesh.ingress}/default/default"
    assert json.loads(knit("get", "brokers", "-o", "json", admin=mesh.admin).stdout)["kind"] == "List"
    assert "observedGeneration: 1" in knit("get", "broker/default", "-o", "yaml", admin=mesh.admin).stdout
    names = knit("get", "broker,trigger", "-o", "name", admin=mesh.admin).stdout.split()
    assert names[0] == "broker.eventing.knative.dev/default"
    assert len(names) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["trigger", "none"], 1, 'triggers.eventing.knative.dev "none" not found'),
        (["triger"], 1, "did you mean trigger?"),
        (["channels"], 0, "No resources found in default namespace."),
        (["triggers", "-n", "shop"], 0, "No resources found in shop namespace."),
        (["trigger", "-o", "wide-ish"], 2, "wide"),
    ],
)
def test_get_says_what_is_not_there(mesh: Mesh, arguments: list[str], code: int, words: str) -> None:
    done = knit("get", *arguments, admin=mesh.admin)
    assert done.returncode == code
    assert words in done.stderr
    assert done.stdout == ""


# Which mesh.


def test_without_a_mesh_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    done = knit("get", "all", "--admin", "127.0.0.1:1")
    assert done.returncode == 1
    assert "no mesh answers at http://127.0.0.1:1" in done.stderr
    assert "knit run DIR" in done.stderr


def test_the_ingress_taken_for_the_admin_port_is_told(mesh: Mesh) -> None:
    done = knit("get", "all", admin=mesh.ingress)
    assert done.returncode == 1
    assert "is this the admin port" in done.stderr


def test_the_mesh_that_was_announced_is_found(mesh: Mesh, tmp_path: Path) -> None:
    where = tmp_path / "knit" / "instances"
    with announce(Instance(pid=os.getpid(), admin=mesh.admin, ingress=mesh.ingress, dirs=(str(ROOT),)), where=where):
        done = knit("get", "brokers", env={"XDG_RUNTIME_DIR": str(tmp_path)})
    assert done.stdout.splitlines()[1].startswith("default ")


def test_an_edit_that_is_not_valid_leaves_the_mesh_running_and_is_shown(mesh: Mesh) -> None:
    file = mesh.dir / "mesh.yaml"
    try:
        file.write_text(RESOURCES.replace("broker: default", "broker: other"))
        mesh.wait_for(lambda: mesh.condition("Trigger", "orders", "LatestFileValid").get("status") == "False")
        row = next(
            line
            for line in knit("get", "triggers", "-o", "wide", admin=mesh.admin).stdout.splitlines()
            if "orders" in line
        )
        assert re.search(
            r"True .*the last good version runs on: .*mesh.yaml:\d+: spec.broker: Immutable field changed", row
        )
        assert list(mesh.get("/readyz?verbose")["bad_files"]) == [str(file)]
        assert knit("send", "--broker", "default", "--type", "x", admin=mesh.admin).returncode == 0
    finally:
        file.write_text(RESOURCES)
    mesh.wait_for(lambda: not mesh.condition("Trigger", "orders", "LatestFileValid"))


# send, listen, story.


def test_an_event_goes_from_send_to_listen_and_has_a_story(mesh: Mesh) -> None:
    with listening("--count", "1") as listener:
        file = mesh.dir / "listen.yaml"
        file.write_text(f"""
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: heard}}
spec:
  broker: default
  filter: {{attributes: {{type: heard}}}}
  subscriber: {{uri: "{listener.url}"}}
""")
        mesh.wait_for(lambda: mesh.condition("Trigger", "heard").get("status") == "True")
        sent = knit(
            "send", "--broker", "default", "--type", "heard", "--id", "e 1", "--data", '{"a": 1}', admin=mesh.admin
        )
        assert (sent.returncode, sent.stdout.split()[0]) == (0, "202")
        printed, last = listener.end()
        file.unlink()
    assert "  type: heard" in printed
    assert '    "a": 1' in printed
    assert "1 events taken" in last
    told = mesh.wait_for(lambda: (done := knit("story", "e 1", admin=mesh.admin)).returncode == 0 and done)
    assert "accepted; wanted by trigger/default/heard" in told.stdout
    assert 'wanted "order.new"' in told.stdout, "the trigger that did not match, and why"


def test_send_without_a_target_takes_the_one_broker(mesh: Mesh) -> None:
    assert knit("send", "--type", "x", admin=mesh.admin).stdout.startswith("202")


@pytest.mark.parametrize("mode", ["binary", "structured", "batch"])
def test_a_file_of_events_is_sent_in_every_mode(mesh: Mesh, mode: str) -> None:
    lines = "\n".join(
        json.dumps({"specversion": "1.0", "id": f"{mode}-{n}", "source": "/s", "type": "x"}) for n in range(3)
    )
    done = knit("send", f"{mesh.ingress}/default/default", "--file", "-", "--mode", mode, text=lines)
    assert done.returncode == 0
    assert "3 accepted, 0 refused" in done.stdout
    assert mesh.wait_for(lambda: mesh.get(f"/api/v1/stories/{mode}-2").get("steps"))[0]["what"] == "accepted"


def test_many_events_are_summed_up(mesh: Mesh) -> None:
    done = knit("send", "--count", "150", "--parallel", "8", "--rate", "5000", admin=mesh.admin)
    assert done.returncode == 0
    assert re.fullmatch(r"150 accepted, 0 refused in [\d.]+ s, \d+/s \(150 × 202\)\n", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--broker", "none"], 1, "there is no Broker default/none"),
        (["--ext", "BAD=1"], 1, 'attribute name "BAD"'),
        (["--ext", "novalue"], 2, "NAME=VALUE"),
        (["no-url"], 2, "http or https URL"),
        (["--data", "@no-such-file"], 1, "no-such-file"),
        (["--file", "-", "--count", "2"], 2, "--count"),
        (["http://127.0.0.1:1/"], 1, "no answer"),
    ],
)
def test_send_tells_what_is_wrong(mesh: Mesh, arguments: list[str], code: int, words: str) -> None:
    done = knit("send", *arguments, admin=mesh.admin)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_refused_event_is_exit_code_1_with_the_reason(mesh: Mesh) -> None:
    done = knit("send", f"{mesh.ingress}/default/none")
    assert done.returncode == 1
    assert done.stderr.startswith("404 there is no broker or channel at /default/none")


def test_events_before_a_bad_one_in_a_file_are_sent(mesh: Mesh) -> None:
    text = '{"specversion":"1.0","id":"1","source":"/s","type":"x"}\n{"id":"2"}\n'
    done = knit("send", f"{mesh.ingress}/default/default", "--file", "-", text=text)
    assert done.returncode == 1
    assert "line 2" in done.stderr


def test_listen_refuses_the_first_attempts_of_each_event() -> None:
    with listening("--fail-first", "1", "--status", "418", "--count", "1") as listener:
        first = knit("send", listener.url, "--id", "1")
        assert first.stderr.startswith("418")
        assert knit("send", listener.url, "--id", "1").stdout.startswith("200")
        printed, last = listener.end()
    assert "attempt 1, refused with 418" in printed
    assert "1 events taken, 1 attempts refused" in last


def test_listen_replies_with_an_event_and_refuses_what_is_none() -> None:
    with listening("--reply-type", "order.confirmed", "--delay", "0.01", "--quiet") as listener:
        script = (
            "import json, sys, urllib.request as u\n"
            "h = {'ce-specversion': '1.0', 'ce-id': '1', 'ce-source': '/s', 'ce-type': 't', 'content-type': 'application/json'}\n"
            f"r = u.urlopen(u.Request('{listener.url}', b'{{\"a\":1}}', h))\n"
            "print(r.status, r.headers['ce-type'], r.headers['content-type'], r.read().decode())\n"
            f"try: u.urlopen(u.Request('{listener.url}', b'hello'))\n"
            "except u.HTTPError as e: print(e.code)\n"
        )
        text = subprocess.check_output([sys.executable, "-c", script], text=True, timeout=LIMIT_S)
        listener.process.send_signal(signal.SIGINT)
        printed, last = listener.end()
        assert listener.process.returncode == 0
    assert text == '200 order.confirmed application/json {"a":1}\n400\n'
    assert printed == ""
    assert "1 requests that were no event" in last


def test_a_port_that_is_taken_is_exit_code_2() -> None:
    with listening() as listener:
        done = knit("listen", "--port", listener.url.rpartition(":")[2])
    assert done.returncode == 2
    assert "--port 0" in done.stderr


def test_a_story_of_nothing_is_told_so(mesh: Mesh) -> None:
    done = knit("story", "no-such-event", admin=mesh.admin)
    assert done.returncode == 1
    assert "nothing is remembered" in done.stderr


def test_a_dead_letter_is_listed(mesh: Mesh) -> None:
    """Its Trigger has no dead-letter sink, no retries, and a subscriber that is not there."""
    assert (
        knit("send", "--broker", "default", "--type", "order.new", "--id", "dead-1", admin=mesh.admin).returncode == 0
    )
    mesh.wait_for(lambda: mesh.get("/api/v1/deadletters")["items"])
    done = knit("get", "deadletters", admin=mesh.admin)
    head, row = done.stdout.splitlines()
    assert head.split() == ["REF", "SUBSCRIPTION", "TYPE", "ID", "CODE", "ATTEMPTS", "AGE", "WHY"]
    assert row.split()[1:4] == ["trigger/default/orders", "order.new", "dead-1"]


# check, repair.


def test_check_passes_the_quickstart() -> None:
    done = knit("check", "examples/quickstart")
    assert done.returncode == 0
    assert "0 errors, 0 warnings" in done.stdout


def test_check_tells_all_errors_at_once_with_line_path_and_hint(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RESOURCES.replace("retry: 0", 'retry: "three"'))
    (tmp_path / "b.yaml").write_text("kind: [unclosed\n")
    (tmp_path / "c.yaml").write_text(
        "apiVersion: sources.knative.dev/v1\nkind: PingSource\nmetadata: {name: p}\nspec: {schedule: often}\n"
    )
    done = knit("check", str(tmp_path))
    assert done.returncode == 1
    assert (
        f"{tmp_path}/a.yaml:5: error: Broker default/default: spec.delivery.retry: expected an integer" in done.stdout
    )
    assert re.search(rf"{tmp_path}/b.yaml:\d+: error: no valid YAML", done.stdout)
    assert f"{tmp_path}/c.yaml:4: error: PingSource default/p: spec.schedule" in done.stdout


def test_check_as_json_for_ci(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RESOURCES)
    done = knit("check", str(tmp_path), "-o", "json")
    value = json.loads(done.stdout)
    assert value["loaded"]["kinds"] == {"Broker": 1, "Trigger": 2}
    assert [problem["resource"] for problem in value["problems"] if problem["severity"] == "error"] == [
        "Trigger default/lost"
    ]
    assert done.returncode == 1


def test_check_strict_fails_on_warnings(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    assert knit("check", str(tmp_path)).returncode == 0
    assert knit("check", str(tmp_path), "--strict").returncode == 1


def test_repair_of_no_store_is_told(tmp_path: Path) -> None:
    done = knit("repair", str(tmp_path))
    assert done.returncode == 1
    assert "there is no store here" in done.stderr


def test_a_reader_that_leaves_gets_no_traceback(mesh: Mesh) -> None:
    process = subprocess.Popen(
        [*KNIT, "get", "all", "-o", "json", "--admin", mesh.admin],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(LIMIT_S)
