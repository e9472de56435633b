"""The log on a disk that fails, fills up or lies, and under kill -9. Invariants I1, I4 and I10 throughout."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from channels.api import SubscriptionSpec
from channels.log.repair import repair
from mesh.errors import StoreError
from tests.support.channels import TOPIC, Harness, Settling, event, ids

EIO, ENOSPC, SHORT = 5, 28, 0


def run(module: str, *args: object, preload: Path | None = None) -> dict[str, object]:
    env = os.environ | ({"LD_PRELOAD": str(preload)} if preload else {})
    done = subprocess.run(
        [sys.executable, "-m", f"tests.support.{module}", *map(str, args)],
        env=env, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def faulty_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gcc = shutil.which("gcc")
    if gcc is None or sys.platform != "linux":
        assert os.environ.get("CI") != "true", "the faulty disk needs gcc on Linux"
        pytest.skip("no gcc here: the faulty disk cannot be built")
    made = tmp_path_factory.mktemp("shim") / "faulty_disk.so"
    source = Path(__file__).parents[1] / "support" / "faulty_disk.c"
    subprocess.run([gcc, "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"], check=True)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("errno", "count", "crash"), [(EIO, 1, 0), (EIO, 3, 1), (ENOSPC, 1, 1), (ENOSPC, 3, 0), (SHORT, 1, 1)])  # fmt: skip
def test_nothing_is_lost_when_any_write_of_a_cycle_fails(
    faulty_disk: Path, tmp_path: Path, errno: int, count: int, crash: int
) -> None:
    result = run("log_cycle", tmp_path, errno, count, crash, preload=faulty_disk)
    assert result["wrong"] == []
    assert isinstance(result["cycles"], int)
    assert result["cycles"] > 15
    assert result["refused"]


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    result = run("log_full_disk", tmp_path)
    assert result["kind"] == "unavailable"
    assert result["before"]
    assert result["after"]
    assert result["lost"] == []
    assert result["troubles"] == ["store failed", "store mended"]


@pytest.mark.slow
def test_a_damaged_file_serves_what_is_whole_or_is_refused_and_repaired(tmp_path: Path) -> None:
    result = run("log_damage", tmp_path, 1999)
    assert result["wrong"] == []
    ends = result["ends"]
    assert isinstance(ends, dict)
    assert ends["refused"]
    assert ends["reported"]
    assert ends["served"]


@pytest.mark.slow
def test_kill_9_loses_nothing_and_brings_back_nothing_that_was_settled(tmp_path: Path) -> None:
    accepted: set[str] = set()
    safe: set[str] = set()
    settled: set[str] = set()
    for round_ in range(6):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.support.log_victim", str(tmp_path), str(round_ * 1_000_000)],
            stdout=subprocess.PIPE, text=True,
        ) as victim:  # fmt: skip
            assert victim.stdout is not None
            lines = []
            for line in victim.stdout:
                lines.append(line)
                if len(lines) == 500 + 97 * round_:
                    victim.kill()
        words = [line.split() for line in lines if line.endswith("\n")]
        assert not safe & {word[1] for word in words if word[0] == "D"}
        settled |= {word[1] for word in words if word[0] == "T"}
        accepted |= {word[1] for word in words if word[0] == "A"}
        safe |= {word[1] for word in words if word[0] == "S" and len(word) == 2}
    came = asyncio.run(drained(tmp_path))
    assert len(safe) > 500
    assert len(accepted - settled) > 50
    assert accepted - settled <= came
    assert not came & safe


async def drained(folder: Path) -> set[str]:
    harness = Harness("log", folder)
    channel = await harness.open()
    reader = Settling()
    channel.subscribe(TOPIC, SubscriptionSpec("a"), reader)
    while any(state.backlog for state in channel.states() if state.topic == TOPIC):
        await harness.barrier()
    await harness.close()
    return set(ids(reader.seen))


# -- refusing to start --------------------------------------------------------------------------------------------


async def filled(folder: Path) -> Harness:
    harness = Harness("log", folder)
    channel = await harness.open()
    channel.subscribe(TOPIC, SubscriptionSpec("a"), Settling())
    channel.unsubscribe(TOPIC, "a", forget=False)
    await harness.publish(event(1))
    await harness.close()
    return harness


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other version"])
async def test_a_store_that_cannot_be_read_is_never_started_empty(tmp_path: Path, damage: str) -> None:
    harness = await filled(tmp_path)
    data = harness.folder / "data.mdb"
    match damage:
        case "missing":
            data.unlink()
        case "empty":
            data.write_bytes(b"")
        case "cut":
            data.write_bytes(data.read_bytes()[:20_000])
        case _:
            (harness.folder / "format").write_text("knit-log 99\n")
    with pytest.raises(StoreError, match=str(harness.folder)) as refused:
        await harness.open()
    if damage != "other version":
        assert f"knit repair {harness.folder}" in str(refused.value)


async def test_a_store_in_use_is_refused_with_the_process(tmp_path: Path) -> None:
    harness = await filled(tmp_path)
    await harness.open()
    second = Harness("log", tmp_path)
    with pytest.raises(StoreError, match=f"in use by process {os.getpid()}"):
        await second.open()
    with pytest.raises(StoreError, match="in use"):
        repair(harness.folder, lambda _: None)
    await harness.close()


async def test_a_first_start_that_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    harness = Harness("log", tmp_path)
    harness.folder.mkdir(exist_ok=True)
    (harness.folder / "data.mdb").write_bytes(b"\0" * 100)
    await harness.open()
    assert await harness.publish(event(1)) is None
    await harness.close()


async def test_repair_leaves_a_whole_store_alone(tmp_path: Path) -> None:
    harness = await filled(tmp_path)
    said: list[str] = []
    before = (harness.folder / "data.mdb").read_bytes()
    report = repair(harness.folder, said.append)
    assert (report.damage, report.kept, len(said)) == ("", None, 1)
    assert (harness.folder / "data.mdb").read_bytes() == before
    with pytest.raises(StoreError, match="no store"):
        repair(tmp_path / "nowhere", said.append)


async def test_repair_makes_a_store_of_a_missing_file_and_says_what_is_gone(tmp_path: Path) -> None:
    harness = await filled(tmp_path)
    (harness.folder / "data.mdb").unlink()
    report = repair(harness.folder, lambda _: None)
    assert report.damage
    assert (report.events, report.kept) == (0, None)
    await harness.open()
    assert await harness.publish(event(1)) is None
    await harness.close()
