"""docs/write-a-channel.md: its backend is short, and passes the contract suite with the test module that stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/write-a-channel.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_example_is_short() -> None:
    lines = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(lines) < 120


def test_the_example_passes_the_suite(tmp_path: Path) -> None:
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "channel.py").write_text(BLOCKS[0])
    (tmp_path / "test_mine.py").write_text(BLOCKS[1])
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"],
        cwd=tmp_path, env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": ""}, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
    assert re.search(r"\b3\d passed", run.stdout), run.stdout[-500:]
