"""What must hold of an event before a filter can pass: the part of a filter that an index can look up. Pure.

An anchor is a set of atoms, each one attribute equal to, beginning with or ending with a text. The filter passes only if
at least one atom holds; where the anchor is exact, it passes if and only if one does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal as Word

from mesh.filters.cesql import ast
from mesh.filters.cesql.like import pattern_of
from mesh.filters.lookup import DERIVED
from mesh.filters.nodes import CESQL, All, Any, Attributes, Exact, FilterNode, Never, Not, Prefix, Suffix, is_void


@dataclass(frozen=True, slots=True)
class Atom:
    kind: Word["equals", "begins", "ends"]
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Anchor:
    atoms: frozenset[Atom]
    is_exact: bool


NOTHING = Anchor(frozenset(), is_exact=True)
"""No atom: the filter never passes."""

_KINDS = {Attributes: "equals", Exact: "equals", Prefix: "begins", Suffix: "ends"}


class AnchorChooser:
    """Chooses for each filter the anchor that the fewest filters share.

    A thousand triggers on one type and a thousand subjects must be found by subject: by type, each event would have a
    thousand candidates. So all filters are seen once, to count, before the first anchor is chosen.
    """

    def __init__(self, filters: Iterable[Sequence[FilterNode]]) -> None:
        self._counts: Mapping[Atom, int] = Counter(atom for nodes in filters for node in nodes for atom in _atoms(node))

    def choose(self, nodes: Sequence[FilterNode]) -> Anchor | None:
        """The anchor of filters that must all pass; None where nothing can be looked up."""
        return self._best([self._anchor(node) for node in nodes if not is_void(node)])

    def _anchor(self, node: FilterNode) -> Anchor | None:
        match node:
            case Attributes() | Exact() | Prefix() | Suffix():
                return self._best([_exactly(atom) for atom in _entry_atoms(node)])
            case All(filters):
                return self.choose(filters)
            case Any(filters):
                return _union([self._anchor(child) for child in filters if not is_void(child)])
            case CESQL(_, expression):
                return self._expression(expression.tree)
            case Not():
                return None
            case Never():
                return NOTHING

    def _expression(self, node: ast.Node) -> Anchor | None:
        if not isinstance(node, ast.Logic):
            atoms = _leaf_atoms(node)
            return None if atoms is None else Anchor(*atoms)
        anchor = self._expression(node.first)
        for operator, operand in node.rest:
            other = self._expression(operand)
            # An error in one operand fails the whole, so an OR may fail although an atom holds: never exact.
            anchor = self._best([anchor, other]) if operator == "AND" else _inexact(_union([anchor, other]))
        return anchor

    def _best(self, anchors: Sequence[Anchor | None]) -> Anchor | None:
        """Of several that must all hold, the one that leaves the fewest candidates."""
        known = [anchor for anchor in anchors if anchor is not None]
        if not known:
            return None
        best = min(known, key=self._cost)
        return best if len(anchors) == 1 else _inexact(best)

    def _cost(self, anchor: Anchor) -> tuple[int, int, int]:
        """How many filters share its atoms; then equality before the others, and long texts before short ones."""
        crowd = sum(self._counts[atom] for atom in anchor.atoms)
        vague = sum(atom.kind != "equals" for atom in anchor.atoms)
        return crowd, vague, -min((len(atom.text) for atom in anchor.atoms), default=0)


def _exactly(atom: Atom | None) -> Anchor | None:
    return None if atom is None else Anchor(frozenset({atom}), is_exact=True)


def _inexact(anchor: Anchor | None) -> Anchor | None:
    return None if anchor is None else Anchor(anchor.atoms, is_exact=False)


def _union(anchors: Sequence[Anchor | None]) -> Anchor | None:
    """Of several of which one must hold: all their atoms, or None where one of them has no anchor."""
    known = [anchor for anchor in anchors if anchor is not None]
    if len(known) < len(anchors):
        return None
    return Anchor(
        frozenset(atom for anchor in known for atom in anchor.atoms), is_exact=all(anchor.is_exact for anchor in known)
    )


def _entry_atoms(node: Attributes | Exact | Prefix | Suffix) -> list[Atom | None]:
    kind = _KINDS[type(node)]
    return [None if name in DERIVED or not text else Atom(kind, name, text) for name, text in node.entries]  # type: ignore[arg-type]


def _leaf_atoms(node: ast.Node) -> tuple[frozenset[Atom], bool] | None:
    """The atoms of a comparison of one attribute with texts, and whether they are all there is to it."""
    match node:
        case ast.Compare("=", ast.Attribute(name), ast.Literal(str(text))):
            return frozenset({Atom("equals", name, text)}), True
        case ast.Compare("=", ast.Literal(str(text)), ast.Attribute(name)):
            return frozenset({Atom("equals", name, text)}), True
        case ast.In(ast.Attribute(name), elements):
            texts = [element.value for element in elements if isinstance(element, ast.Literal)]
            plain = [text for text in texts if isinstance(text, str)]
            return (
                (frozenset(Atom("equals", name, text) for text in plain), True) if len(plain) == len(elements) else None
            )
        case ast.Like(ast.Attribute(name), pattern):
            return _like_atom(name, pattern)
        case _:
            return None


def _like_atom(name: str, text: str) -> tuple[frozenset[Atom], bool] | None:
    pattern = pattern_of(text)
    if pattern.whole is not None:
        return frozenset({Atom("equals", name, pattern.whole)}), True
    if pattern.prefix:
        return frozenset({Atom("begins", name, pattern.prefix)}), pattern.is_prefix
    if pattern.suffix:
        return frozenset({Atom("ends", name, pattern.suffix)}), pattern.is_suffix
    return None


def _atoms(node: FilterNode) -> Iterator[Atom]:
    """Every atom that stands anywhere in a filter."""
    match node:
        case Attributes() | Exact() | Prefix() | Suffix():
            yield from (atom for atom in _entry_atoms(node) if atom is not None)
        case All(filters) | Any(filters):
            for child in filters:
                yield from _atoms(child)
        case CESQL(_, expression):
            yield from _expression_atoms(expression.tree)
        case Not() | Never():
            return


def _expression_atoms(node: ast.Node) -> Iterator[Atom]:
    if isinstance(node, ast.Logic):
        for child in ast.children(node):
            yield from _expression_atoms(child)
    else:
        leaf = _leaf_atoms(node)
        yield from leaf[0] if leaf is not None else ()
