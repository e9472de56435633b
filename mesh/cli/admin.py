"""Asking a running mesh: which one is meant, and its admin API."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

import click

from mesh.cli.failure import Failure
from mesh.control.instances import find

DEFAULT_ADMIN = "http://127.0.0.1:8081"
_LIMIT_S = 30.0


admin_option = click.option(
    "--admin",
    envvar="KNIT_ADMIN",
    show_envvar=True,
    metavar="URL",
    help="Admin API of the mesh to ask.  [default: the one that runs here]",
)
"""For commands that ask a running mesh."""


def locate(admin: str | None) -> str:
    """The admin URL of the mesh that is meant: the one named, else the one that runs the current folder, else any."""
    if admin:
        return (admin if "://" in admin else f"http://{admin}").rstrip("/")
    running = find()
    return running[0].admin.rstrip("/") if running else DEFAULT_ADMIN


class Admin:
    """The admin API at a URL. Every method raises Failure with words for the user."""

    def __init__(self, admin: str | None) -> None:
        self.url = locate(admin)
        # No proxy: the mesh is on this machine or in this cluster.
        self._opener = build_opener(ProxyHandler({}))

    def get(self, path: str, **query: str) -> Any:  # noqa: ANN401 - JSON
        """The JSON at `path`; parameters that are empty are left out."""
        given = {name: value for name, value in query.items() if value}
        url = f"{self.url}{quote(path)}" + (f"?{urlencode(given)}" if given else "")
        try:
            request = Request(url, headers={"Accept": "application/json"})
            with self._opener.open(request, timeout=_LIMIT_S) as response:
                return json.load(response)
        except HTTPError as exc:
            raise _refused(exc, url) from exc
        except (URLError, OSError) as exc:
            reason = getattr(exc, "reason", exc)
            raise Failure(
                f"no mesh answers at {self.url}: {reason}",
                "start one with `knit run DIR`, or say where it is with --admin URL or KNIT_ADMIN",
            ) from exc
        except ValueError as exc:
            raise Failure(f"{url} did not answer with JSON", "is this the admin port (8081), not the ingress?") from exc


def _refused(error: HTTPError, url: str) -> Failure:
    try:
        told = json.loads(error.read())
        return Failure(str(told["error"]), str(told.get("hint", "")))
    except (ValueError, KeyError, TypeError):
        return Failure(f"{url} answered {error.code}", "is this the admin port (8081), not the ingress?")
