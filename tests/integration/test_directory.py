"""A directory as a world: what is read, what is passed over, and that every kind of edit is noticed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.control import directory
from mesh.control.directory import DirectoryWorld, FileText
from mesh.control.memory import FILE_NAME
from mesh.errors import SettingsError
from mesh.runtime.clock import SystemClock

LIMIT_S = 5.0
Files = tuple[FileText, ...]


def world(*paths: Path) -> DirectoryWorld:
    return DirectoryWorld(paths, clock=SystemClock())


def texts(files: Files, root: Path) -> dict[str, str]:
    return {os.path.relpath(file.path, root): file.error or file.text for file in files}


@asynccontextmanager
async def watching(*paths: Path) -> AsyncIterator[Callable[[], asyncio.Future[Files]]]:
    """Yields a function for the next change; the files of the start are taken already."""
    changes = world(*paths).changes()
    await asyncio.wait_for(anext(changes), LIMIT_S)

    def following() -> asyncio.Future[Files]:
        return asyncio.ensure_future(asyncio.wait_for(anext(changes), LIMIT_S))

    try:
        yield following
    finally:
        await changes.aclose()


def test_yaml_and_json_below_the_folder_are_read_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml", "c.json", "sub/deep/d.YAML"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for name in (
        "x.txt",
        ".hidden.yaml",
        ".knit/k.yaml",
        ".git/g.yaml",
        "node_modules/n.yaml",
        "a.yaml~",
        "a.yaml.swp",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("no")
    assert texts(world(tmp_path).scan(), tmp_path) == {
        name: name for name in ("a.yaml", "b.yml", "c.json", "sub/deep/d.YAML")
    }


def test_a_single_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "resources.txt").write_text("a: 1")
    (tmp_path / "other.yaml").write_text("no")
    assert texts(world(tmp_path / "resources.txt").scan(), tmp_path) == {"resources.txt": "a: 1"}


def test_loops_of_links_end_and_no_file_is_read_twice(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yaml").write_text("a")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "b.yaml").symlink_to(tmp_path / "sub" / "a.yaml")
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    assert list(texts(world(tmp_path, tmp_path / "sub").scan(), tmp_path).values()) == ["a"]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    (tmp_path / "large.yaml").write_bytes(b"#" * (directory.MAX_FILE_BYTES + 1))
    found = texts(world(tmp_path).scan(), tmp_path)
    assert "byte 3 is 0xff" in found["bytes.yaml"]
    assert "at most" in found["large.yaml"]


def test_the_wrong_folder_is_told_and_not_read_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MAX_FILES", 3)
    for number in range(5):
        (tmp_path / f"{number}.yaml").write_text("a")
    files = world(tmp_path).scan()
    assert sum(bool(file.error) for file in files) == 1
    assert sum(not file.error for file in files) == 3


def test_a_folder_that_is_not_there_at_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        world(tmp_path / "no")


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("one")
    os.utime(path, ns=(10**18, 10**18))
    seen = world(tmp_path)
    first = seen.scan()
    path.write_text("two")
    os.utime(path, ns=(10**18, 10**18))
    assert seen.scan() == first, "the same time stamp, size and inode stand for the same content"
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    assert texts(seen.scan(), tmp_path) == {"a.yaml": "two"}


def test_a_file_just_written_is_read_again_even_if_its_time_stamp_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("one")
    seen = world(tmp_path)
    seen.scan()
    stamp = path.stat().st_mtime_ns
    path.write_text("two")
    os.utime(path, ns=(stamp, stamp))
    assert texts(seen.scan(), tmp_path) == {"a.yaml": "two"}


def test_a_folder_that_vanishes_keeps_what_was_read_from_it(tmp_path: Path) -> None:
    root = tmp_path / "volume"
    root.mkdir()
    (root / "a.yaml").write_text("a")
    seen = world(root)
    seen.scan()
    root.rename(tmp_path / "elsewhere")
    found = texts(seen.scan(), root)
    assert found["a.yaml"] == "a"
    assert "gone" in found["."]
    assert texts(seen.scan(), root)["a.yaml"] == "a"


async def test_an_edit_in_place_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("one")
    async with watching(tmp_path) as following:
        (tmp_path / "a.yaml").write_text("two")
        assert texts(await following(), tmp_path) == {"a.yaml": "two"}


async def test_an_edit_takes_effect_within_a_second(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("one")
    async with watching(tmp_path) as following:
        change = following()
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        (tmp_path / "a.yaml").write_text("two")
        await change
        assert asyncio.get_running_loop().time() - began < 1.0


async def test_an_editor_that_renames_and_replaces_never_deletes(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("one")
    async with watching(tmp_path) as following:
        path.rename(tmp_path / "a.yaml~")
        change = following()
        await asyncio.sleep(0.05)  # an editor between its two steps
        (tmp_path / ".a.yaml.new").write_text("two")
        (tmp_path / ".a.yaml.new").rename(path)
        assert texts(await change, tmp_path) == {"a.yaml": "two"}


async def test_new_and_deleted_files_and_folders_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a")
    async with watching(tmp_path) as following:
        (tmp_path / "sub" / "deep").mkdir(parents=True)
        (tmp_path / "sub" / "deep" / "b.yaml").write_text("b")
        assert texts(await following(), tmp_path) == {"a.yaml": "a", "sub/deep/b.yaml": "b"}
        (tmp_path / "sub" / "deep" / "b.yaml").write_text("bb")
        assert texts(await following(), tmp_path)["sub/deep/b.yaml"] == "bb"
        (tmp_path / "sub" / "deep" / "b.yaml").unlink()
        assert texts(await following(), tmp_path) == {"a.yaml": "a"}
        (tmp_path / "a.yaml").unlink()
        assert await following() == ()


async def test_a_mounted_config_map_is_noticed_when_it_is_swapped(tmp_path: Path) -> None:
    """Kubernetes replaces the link ..data; the files that are read are links through it."""
    for name, text in (("..v1", "one"), ("..v2", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    async with watching(tmp_path) as following:
        (tmp_path / "..tmp").symlink_to("..v2")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        assert texts(await following(), tmp_path) == {"a.yaml": "two"}


async def test_a_single_file_that_is_replaced_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("one")
    async with watching(path) as following:
        (tmp_path / "new").write_text("two")
        (tmp_path / "new").rename(path)
        assert texts(await following(), tmp_path) == {"a.yaml": "two"}


async def test_polling_does_where_there_are_no_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "1")
    (tmp_path / "a.yaml").write_text("one")
    async with watching(tmp_path) as following:
        (tmp_path / "a.yaml").write_text("three")
        assert texts(await following(), tmp_path) == {"a.yaml": "three"}


async def test_watching_ends_at_once_when_it_is_cancelled(tmp_path: Path) -> None:
    async with watching(tmp_path) as following:
        waiting = following()
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert asyncio.get_running_loop().time() - began < 1.0


def test_hidden_folders_are_not_watched(tmp_path: Path) -> None:
    """The store below .knit is written to with every event: it must wake nobody."""
    for name in (".knit/worker-0", "sub"):
        (tmp_path / name).mkdir(parents=True)
    seen = world(tmp_path)
    seen.scan()
    assert set(seen._folders) == {str(tmp_path), str(tmp_path / "sub")}


def test_a_data_folder_that_is_not_hidden_holds_no_resources(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "worker-0").mkdir(parents=True)
    (data / FILE_NAME).write_text("{}")
    (data / "worker-0" / "a.json").write_text("{}")
    (tmp_path / "b.yaml").write_text("b")
    seen = world(tmp_path)
    assert texts(seen.scan(), tmp_path) == {"b.yaml": "b"}
    assert set(seen._folders) == {str(tmp_path)}


def test_a_folder_that_is_asked_for_is_read_even_where_data_is_kept_in_it(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("{}")
    (tmp_path / "b.yaml").write_text("b")
    assert texts(world(tmp_path).scan(), tmp_path) == {"b.yaml": "b"}
