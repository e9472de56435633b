"""Compiling YAML in tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mesh.plan.compile import Compiled, CompileOptions, compile_plan
from mesh.plan.model import Egress, Topic
from mesh.resources.decode import decode, read_documents
from mesh.resources.meta import Condition, Key, Resource, Status
from mesh.resources.problem import Problem

OPTIONS = CompileOptions(ingress_url="http://localhost:8080", admin_url="http://localhost:8081")
BROKER = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default}
---
"""


def resources_of(text: str, *, file: str = "world.yaml") -> list[Resource]:
    documents, problems = read_documents(text, file=file)
    assert problems == []
    resources = [decode(document)[0] for document in documents]
    return [resource for resource in resources if resource is not None]


class World:
    """A compiled text and questions to it. Names are looked up in the namespace `default`."""

    def __init__(self, text: str, **options: Any) -> None:
        self.resources = resources_of(text)
        self.compiled: Compiled = compile_plan(self.resources, replace(OPTIONS, **options))
        self.plan = self.compiled.plan

    def status(self, kind: str, name: str, namespace: str = "default") -> Status:
        wanted = (kind, namespace, name)
        return next(s for k, s in self.compiled.statuses.items() if (k.kind, k.namespace, k.name) == wanted)

    def condition(self, kind: str, name: str, condition: str = "Ready") -> Condition:
        found = self.status(kind, name).condition(condition)
        assert found is not None
        return found

    def is_ready(self, kind: str, name: str) -> bool:
        return self.condition(kind, name).status == "True"

    def topic(self, key: str) -> Topic:
        return next(topic for topic in self.plan.topics if topic.key == key)

    def egress(self, key: str) -> Egress:
        return next(egress for topic in self.plan.topics for egress in topic.egresses if egress.key == key)

    def has_egress(self, key: str) -> bool:
        return any(egress.key == key for topic in self.plan.topics for egress in topic.egresses)

    @property
    def problems(self) -> list[Problem]:
        """All of them, those of decoding first."""
        return [problem for resource in self.resources for problem in resource.problems] + self.compiled.problems

    @property
    def errors(self) -> list[str]:
        return [problem.sentence for problem in self.problems if problem.severity == "error"]


def key(kind: str, name: str) -> Key:
    group = (
        "messaging.knative.dev" if kind in ("Channel", "InMemoryChannel", "Subscription") else "eventing.knative.dev"
    )
    return Key(group, kind, "default", name)


def trigger(name: str = "t", **spec: Any) -> str:
    """A Trigger of the Broker `default`; the values are YAML flow text."""
    fields = {"broker": "default", "subscriber": "{uri: 'http://localhost:9000/'}", **spec}
    written = "".join(f"  {field}: {value}\n" for field, value in fields.items() if value is not None)
    return f"apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {{name: {name}}}\nspec:\n{written}---\n"


def config_map(name: str, data: dict[str, str], namespace: str = "knative-eventing") -> str:
    lines = ""
    for entry, text in data.items():
        body = "\n".join(f"    {line}" for line in text.splitlines())
        lines += f"  {entry}: |\n{body}\n"
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n{lines}---\n"
