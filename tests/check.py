"""The one command, here and in CI: format, lint, imports, types, tests. `python -m tests.check [pytest arguments]`.

Everything runs even where something before it failed, so that one run shows all there is to mend.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def steps(pytest_arguments: list[str]) -> list[tuple[str, list[str]]]:
    return [
        ("format", [str(BIN / "ruff"), "format", "--check", "--quiet", "."]),
        ("lint", [str(BIN / "ruff"), "check", "--quiet", "."]),
        ("imports", [str(BIN / "lint-imports"), "--no-cache"]),
        ("types", [str(BIN / "mypy")]),
        ("tests", [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadscope", *pytest_arguments]),
    ]


def main() -> int:
    failed = []
    for name, command in steps(sys.argv[1:]):
        started = time.monotonic()
        print(f"== {name}", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
        print(f"== {name}: {'FAILED' if name in failed else 'ok'}, {time.monotonic() - started:.1f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
