"""Writes the source of one small Python function and compiles it. Pure.

Text from users never becomes source: values are constants of the function's namespace, under names made here. Filters
of the same shape have the same source, which is compiled once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import CodeType

Predicate = Callable[[Mapping[str, str]], bool]


class FunctionWriter:
    """The body of `def function(a)`, where `a` maps attribute names to text and `g` is its `get`."""

    def __init__(self) -> None:
        self._lines = ["def function(a):", "    g = a.get"]
        self._namespace: dict[str, object] = {}
        self._depth = 1
        self._variables = 0

    def constant(self, value: object) -> str:
        """The name under which the function finds this value."""
        name = f"c{len(self._namespace)}"
        self._namespace[name] = value
        return name

    def variable(self) -> str:
        self._variables += 1
        return f"v{self._variables}"

    def line(self, text: str) -> None:
        self._lines.append("    " * self._depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.line(head)
        self._depth += 1
        yield
        self._depth -= 1

    def function(self) -> Predicate:
        namespace = dict(self._namespace)
        exec(_compiled("\n".join(self._lines)), namespace)
        made: Predicate = namespace["function"]  # type: ignore[assignment]  # what the source above defines
        return made


@lru_cache(maxsize=512)
def _compiled(source: str) -> CodeType:
    return compile(source, "<filter>", "exec")
