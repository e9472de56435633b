"""The functions of CESQL: one entry each, and what to say of a name that is none. Pure. CESQL 1.0, 3.5.

Beside the table of the specification there are INT, BOOL and STRING, which its test kit uses, and IS_INT and IS_BOOL of the
Go SDK. LENGTH and its relatives count characters, as the specification says; the Go SDK counts bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from mesh.filters.cesql.ast import Call, Literal, Value
from mesh.filters.cesql.values import INT_MAX, INT_MIN, Problem, Type, cast, quoted


@dataclass(frozen=True, slots=True)
class Failed:
    """What a function gives back where it cannot answer: the value the specification wants, and the problem."""

    value: Value
    problem: Problem


@dataclass(frozen=True, slots=True)
class Function:
    """parameters: types that arguments are cast to, None takes any; rest: the type of further arguments, if there may be any."""

    name: str
    parameters: tuple[Type | None, ...]
    returns: Type
    run: Callable[..., Value | Failed]
    rest: Type | None = None
    can_fail: bool = False

    def parameter(self, position: int) -> Type | None:
        return self.parameters[position] if position < len(self.parameters) else self.rest


def _cast_to(target: Type) -> Callable[[Value], Value | Failed]:
    def run(value: Value) -> Value | Failed:
        made, problem = cast(value, target)
        return made if problem is None else Failed(made, problem)

    return run


def _can_cast_to(target: Type) -> Callable[[Value], bool]:
    return lambda value: cast(value, target)[1] is None


def _bad(value: Value, why: str) -> Failed:
    return Failed(value, Problem("functionEvaluation", why))


def _abs(number: int) -> Value | Failed:
    if number == INT_MIN:
        return Failed(INT_MAX, Problem("math", f"ABS({INT_MIN}) has more than 32 bits"))
    return abs(number)


def _left(text: str, count: int) -> Value | Failed:
    return text[:count] if count >= 0 else _bad(text, f"LEFT: {count} is less than 0")


def _right(text: str, count: int) -> Value | Failed:
    if count < 0:
        return _bad(text, f"RIGHT: {count} is less than 0")
    return text[max(0, len(text) - count) :]


def _substring(text: str, position: int, length: int = INT_MAX) -> Value | Failed:
    if length < 0:
        return _bad("", f"SUBSTRING: length {length} is less than 0")
    if abs(position) > len(text):
        return _bad("", f"SUBSTRING: position {position} is outside of {quoted(text)}")
    if position == 0:
        return ""
    start = position - 1 if position > 0 else len(text) + position
    return text[start : start + length]


# Unicode's White_Space. Python's own notion has the control characters 1C to 1F too, which TRIM must leave alone.
_WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"

_ALL = (
    Function("LENGTH", (str,), int, len),
    Function("CONCAT", (), str, lambda *texts: "".join(texts), rest=str),
    Function("CONCAT_WS", (str,), str, lambda delimiter, *texts: delimiter.join(texts), rest=str),
    Function("LOWER", (str,), str, str.lower),
    Function("UPPER", (str,), str, str.upper),
    Function("TRIM", (str,), str, lambda text: text.strip(_WHITE)),
    Function("LEFT", (str, int), str, _left, can_fail=True),
    Function("RIGHT", (str, int), str, _right, can_fail=True),
    Function("SUBSTRING", (str, int), str, _substring, can_fail=True),
    Function("SUBSTRING", (str, int, int), str, _substring, can_fail=True),
    Function("ABS", (int,), int, _abs, can_fail=True),
    Function("INT", (None,), int, _cast_to(int), can_fail=True),
    Function("BOOL", (None,), bool, _cast_to(bool), can_fail=True),
    Function("STRING", (None,), str, _cast_to(str)),
    Function("IS_INT", (None,), bool, _can_cast_to(int)),
    Function("IS_BOOL", (None,), bool, _can_cast_to(bool)),
)
_FIXED = {(function.name, len(function.parameters)): function for function in _ALL if function.rest is None}
_VARIADIC = {function.name: function for function in _ALL if function.rest is not None}
_NAMES = sorted({function.name for function in _ALL})

# What people of other languages reach for: a LIKE pattern around the text, and the dialect that does the same.
_TESTS = {
    "HASPREFIX": ("{}%", "the prefix dialect"),
    "STARTSWITH": ("{}%", "the prefix dialect"),
    "HASSUFFIX": ("%{}", "the suffix dialect"),
    "ENDSWITH": ("%{}", "the suffix dialect"),
    "CONTAINS": ("%{}%", ""),
    "INCLUDES": ("%{}%", ""),
    "MATCHES": ("{}", ""),
    "REGEX": ("{}", ""),
}
_OTHER_NAMES = {"LEN": "LENGTH", "STRLEN": "LENGTH", "SUBSTR": "SUBSTRING", "TOLOWER": "LOWER", "TOUPPER": "UPPER"}


def function_for(name: str, arity: int) -> Function | None:
    """The function of this upper-case name that takes so many arguments, or None."""
    fixed = _FIXED.get((name, arity))
    if fixed is not None:
        return fixed
    variadic = _VARIADIC.get(name)
    return variadic if variadic is not None and arity >= len(variadic.parameters) else None


def missing(name: str, arity: int) -> str:
    """The sentence about a call that nothing answers."""
    return f"function {name} with {arity} argument{'' if arity == 1 else 's'} is unknown"


def advice(call: Call) -> str:
    """What to write instead of an unknown call; empty when nothing comes to mind."""
    plain = call.name.replace("_", "")
    if plain in _TESTS:
        form, dialect = _TESTS[plain]
        last = call.arguments[-1] if call.arguments else None
        wanted = last.value if isinstance(last, Literal) and isinstance(last.value, str) else "text"
        escaped = wanted.replace("%", r"\%").replace("_", r"\_").replace("'", r"\'")
        return f"use LIKE '{form.format(escaped)}'" + (f" or {dialect}" if dialect else "")
    arities = [str(arity) for name, arity in _FIXED if name == call.name]
    if arities:
        return f"{call.name} takes {' or '.join(arities)} argument{'' if arities == ['1'] else 's'}"
    if call.name in _VARIADIC:
        return f"{call.name} takes at least {len(_VARIADIC[call.name].parameters)} argument"
    near = [_OTHER_NAMES[plain]] if plain in _OTHER_NAMES else get_close_matches(call.name, _NAMES, n=1)
    return f"did you mean {near[0]}" if near else f"the functions are {', '.join(_NAMES)}"
