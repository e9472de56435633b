"""`knit get`: what `kubectl get` would show, asked of a running mesh."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from mesh.cli.admin import Admin, admin_option
from mesh.cli.command import Command
from mesh.cli.failure import Failure
from mesh.cli.table import (
    DEAD_LETTER_COLUMNS,
    DEAD_LETTERS,
    KINDS,
    NAME,
    NAMESPACE,
    Kind,
    Object,
    find_kinds,
    from_ns,
    layout,
    rows,
)
from mesh.runtime.clock import SystemClock


@click.command(
    cls=Command,
    examples="""
        knit get triggers
        knit get trigger mail -o yaml
        knit get broker,trigger -A
        knit get all -n shop -o wide
        knit get deadletters
    """,
)
@click.argument("kind")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-n", "--namespace", default="default", show_default=True, help="Where to look.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Look everywhere.")
@click.option(
    "-o", "--output", type=click.Choice(["wide", "yaml", "json", "name"]), help="Another form than the table."
)
@admin_option
def command(
    *, kind: str, names: tuple[str, ...], namespace: str, all_namespaces: bool, output: str | None, admin: str | None
) -> int:
    """List resources of a KIND with their status.

    KIND is trigger, broker, channel (ch), inmemorychannel (imc), logchannel (lc), subscription (sub), sequence, parallel,
    pingsource, service (svc), configmap (cm), all, or deadletters: events that could go nowhere. Singular, plural, short names and lists with
    commas are understood.
    """
    if kind.lower() in DEAD_LETTERS:
        return _dead_letters(Admin(admin), output)
    if "/" in kind and not names:
        kind, _, name = kind.partition("/")
        names = (name,)
    kinds = _kinds(kind)
    space = "" if all_namespaces else namespace
    items = [item for item in Admin(admin).get("/api/v1/resources", namespace=space)["items"] if _kind_of(item, kinds)]
    if names:
        items = [_named(items, name, kinds[0]) for name in names]
    if not items:
        where = "" if all_namespaces else f" in {namespace} namespace"
        click.echo(f"No resources found{where}.", err=True)
        return 0
    click.echo(_written(items, kinds, output, spaces=all_namespaces, single=len(names) == 1))
    return 0


def _kinds(word: str) -> tuple[Kind, ...]:
    kinds = find_kinds(word)
    if isinstance(kinds, str):
        hint = (
            f"did you mean {kinds}?"
            if kinds
            else f"one of {', '.join(kind.plural for kind in KINDS)}, deadletters, all"
        )
        raise Failure(f'there is no kind "{word}"', hint)
    return kinds


def _kind_of(item: Object, kinds: Sequence[Kind]) -> Kind | None:
    group = str(item["apiVersion"]).rpartition("/")[0]
    return next((kind for kind in kinds if kind.kind == item["kind"] and kind.group == group), None)


def _named(items: Sequence[Object], name: str, kind: Kind) -> Object:
    found = next((item for item in items if item["metadata"]["name"] == name), None)
    if found is None:
        full = f"{kind.plural}{'.' if kind.group else ''}{kind.group}"
        others = ", ".join(str(item["metadata"]["name"]) for item in items[:10])
        raise Failure(f'{full} "{name}" not found', f"there are: {others}" if others else "-A looks in all namespaces")
    return found


def _written(items: list[Object], kinds: Sequence[Kind], output: str | None, *, spaces: bool, single: bool) -> str:
    value: Any = items[0] if single else {"apiVersion": "v1", "kind": "List", "items": items}
    if output == "json":
        return json.dumps(value, indent=4, ensure_ascii=False)
    if output == "yaml":
        import yaml

        return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True)).rstrip()
    tables = []
    shown = [kind for kind in kinds if any(_kind_of(item, [kind]) for item in items)]
    for kind in shown:
        own = [item for item in items if _kind_of(item, [kind])]
        tables.append(_table(own, kind, output, spaces=spaces, several=len(shown) > 1))
    return ("\n" if output == "name" else "\n\n").join(tables)


def _table(items: list[Object], kind: Kind, output: str | None, *, spaces: bool, several: bool) -> str:
    if output == "name":
        return "\n".join(kind.reference(item) for item in items)
    name = ("NAME", lambda item, _: kind.reference(item)) if several else NAME
    wide = kind.wide if output == "wide" else ()
    columns = [*([NAMESPACE] if spaces else []), name, *kind.columns, *wide]
    return layout(rows(items, columns, now=from_ns(SystemClock().now_ns())))


def _dead_letters(admin: Admin, output: str | None) -> int:
    items = admin.get("/api/v1/deadletters")["items"]
    if output == "json":
        click.echo(json.dumps(items, indent=4, ensure_ascii=False))
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(items, sort_keys=False, allow_unicode=True).rstrip())
    elif output == "name":
        click.echo("\n".join(str(item["ref"]) for item in items))
    elif not items:
        click.echo("No dead letters.", err=True)
    else:
        click.echo(layout(rows(items, DEAD_LETTER_COLUMNS, now=from_ns(SystemClock().now_ns()))))
    return 0
