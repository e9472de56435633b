"""Document → resource: errors in users' words, all at once, each with its path, line and hint."""

from __future__ import annotations

import pytest

from mesh.resources.core import ConfigMap, Service
from mesh.resources.decode import decode, read_documents
from mesh.resources.eventing import Broker, Trigger
from mesh.resources.messaging import BackingChannel, Channel, Subscription
from mesh.resources.meta import Ignored, Key, Resource
from mesh.resources.problem import Problem
from mesh.resources.sources import PingSource


def read(text: str, namespace: str = "default") -> tuple[Resource | None, list[Problem]]:
    documents, problems = read_documents(text, file="a.yaml")
    assert problems == []
    return decode(documents[0], namespace=namespace)


def sentences(text: str, severity: str = "error") -> list[str]:
    return [problem.sentence for problem in read(text)[1] if problem.severity == severity]


def trigger(spec: str, metadata: str = "name: t") -> str:
    head = f"apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {{{metadata}}}\nspec:\n"
    return head + "".join(f"  {line}\n" for line in spec.splitlines())


GOOD = "broker: default\nsubscriber: {uri: 'http://h'}\n"


@pytest.mark.parametrize(
    ("api_version", "kind", "made"),
    [
        ("eventing.knative.dev/v1", "Broker", Broker),
        ("messaging.knative.dev/v1", "Channel", Channel),
        ("messaging.knative.dev/v1", "InMemoryChannel", BackingChannel),
        ("messaging.knit.dev/v1alpha1", "LogChannel", BackingChannel),
        ("v1", "ConfigMap", ConfigMap),
        ("v1", "Service", Service),
    ],
)
def test_each_kind_is_read_without_a_spec(api_version: str, kind: str, made: type[Resource]) -> None:
    resource, problems = read(f"{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: x}}}}", namespace="shop")
    assert problems == []
    assert type(resource) is made
    assert resource.key == Key(api_version.rpartition("/")[0], kind, "shop", "x")
    assert resource.is_valid


def test_metadata_of_an_export_is_tolerated() -> None:
    text = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata:
  name: b
  namespace: shop
  uid: u-1
  generation: 4
  creationTimestamp: "2024-01-01T00:00:00Z"
  resourceVersion: "9"
  managedFields: []
  ownerReferences: []
  labels: {a: b}
  annotations: null
spec: {config: null}
status: {conditions: []}
"""
    resource, problems = read(text)
    assert problems == []
    assert resource is not None
    assert resource.key.namespace == "shop"
    assert (resource.metadata.uid, resource.metadata.generation) == ("u-1", 4)
    assert resource.metadata.labels == {"a": "b"}


def test_trigger_keeps_its_filters_as_written() -> None:
    resource, _ = read(trigger(GOOD + "filters:\n- exact: {type: 5}\n"))
    assert isinstance(resource, Trigger)
    assert resource.spec is not None
    assert resource.spec.filters == [{"exact": {"type": 5}}]


def test_type_errors_speak_the_words_of_users() -> None:
    text = trigger(
        "broker: 5\n"
        "subscriber: http://h\n"
        "delivery:\n"
        "  retry: three\n"
        "  backoffPolicy: quadratic\n"
        "  backoffDelay: 5s\n"
        "  timeout: 3\n"
        "  deadLetterSink: {uri: {kind: Service}}\n"
    )
    assert set(sentences(text)) == {
        'spec.broker: expected a string, got 5 (put it in quotes: "5")',
        'spec.subscriber: expected a mapping, got "http://h" (write `uri: http://h` below it)',
        'spec.delivery.retry: expected an integer >= 0, got "three"',
        'spec.delivery.backoffPolicy: expected "linear" or "exponential", got "quadratic"',
        'spec.delivery.timeout: expected a string, got 3 (put it in quotes: "3")',
        "spec.delivery.deadLetterSink.uri: a string is wanted and a mapping was given (a reference belongs under `ref`)",
        'spec.delivery.backoffDelay: invalid value "5s": no ISO 8601 duration (ISO 8601: PT5S)',
    }


def test_problem_has_file_line_and_resource() -> None:
    _, problems = read(trigger(GOOD + "delivery:\n  retry: -1\n"))
    assert [(p.file, p.line, p.resource, p.path) for p in problems] == [
        ("a.yaml", 8, "Trigger default/t", "spec.delivery.retry")
    ]


def test_invalid_resource_comes_back_with_its_problems() -> None:
    resource, problems = read(trigger("broker: b\nsubscriber: 5\n"))
    assert isinstance(resource, Trigger)
    assert resource.spec is None
    assert not resource.is_valid
    assert resource.problems == tuple(problems)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            "filter: {expression: a}",
            'spec.filter.expression: unknown field "spec.filter.expression" '
            "(filter has attributes only; dialects such as cesql stand in the list spec.filters)",
        ),
        (
            "filter: {attribute: {}}",
            'spec.filter.attribute: unknown field "spec.filter.attribute" (did you mean attributes?)',
        ),
        ("filtr: {}", 'spec.filtr: unknown field "spec.filtr" (did you mean filter?)'),
        (
            "exact: {type: a}",
            'spec.exact: unknown field "spec.exact" (dialects stand in the list spec.filters: `- exact: ...`)',
        ),
        (
            "delivery: {deadLetterSink: {kind: Service}}",
            'spec.delivery.deadLetterSink.kind: unknown field "spec.delivery.deadLetterSink.kind" (a reference belongs under `ref`)',
        ),
        ("delivery: {retry: 2147483648}", "spec.delivery.retry: expected an integer <= 2147483647, got 2147483648"),
        ("delivery: {retry: 1.5}", "spec.delivery.retry: expected an integer >= 0, got 1.5"),
        ("delivery: {retry: true}", "spec.delivery.retry: expected an integer >= 0, got true"),
        ("delivery: [1]", "spec.delivery: expected a mapping, got a list"),
        ("filter: {attributes: {}, sql: a}", 'spec.filter.sql: unknown field "spec.filter.sql"'),
        (
            "delivery: {timeout: PT0S}",
            'spec.delivery.timeout: invalid value "PT0S": it must be longer than zero (ISO 8601, for example PT5S)',
        ),
        (
            "delivery: {retryAfterMax: -PT1S}",
            'spec.delivery.retryAfterMax: invalid value "-PT1S": it must not be negative (ISO 8601, for example PT5S)',
        ),
        (
            "delivery: {backoffDelay: ''}",
            'spec.delivery.backoffDelay: invalid value "": no ISO 8601 duration (ISO 8601, for example PT5S)',
        ),
        ("delivery: {format: JSON}", 'spec.delivery.format: expected "json" or "binary", got "JSON"'),
        ("delivery: {deadLetterSink: {}}", "spec.delivery.deadLetterSink: expected at least one, got none: ref, uri"),
        ("brokerRef: {name: b}", "spec: expected exactly one, got both: broker, brokerRef"),
        ("delivery: {timeout: [1]}", "spec.delivery.timeout: expected a string, got a list"),
    ],
)
def test_wrong_field_of_a_trigger(spec: str, sentence: str) -> None:
    assert sentences(trigger(GOOD + spec)) == [sentence]


@pytest.mark.parametrize(
    ("subscriber", "path"),
    [
        ("{}", "spec.subscriber"),
        ("{uri: /only/a/path}", "spec.subscriber.uri"),
        ("{uri: 'ftp://h/'}", "spec.subscriber.uri"),
        ("{uri: 'http://h:99999/'}", "spec.subscriber.uri"),
        ("{uri: 'http://[::1'}", "spec.subscriber.uri"),
        ("{uri: 'http://a b/'}", "spec.subscriber.uri"),
        ("{uri: 'http:///x'}", "spec.subscriber.uri"),
        ("{uri: 'http://:80/x'}", "spec.subscriber.uri"),
        ("{uri: 'http://h:0/x'}", "spec.subscriber.uri"),
        ("{ref: {kind: Service, name: s}}", "spec.subscriber.ref.apiVersion"),
        ("{ref: {apiVersion: v1, kind: Service}}", "spec.subscriber.ref.name"),
        ("{ref: {apiVersion: v1, kind: Service, name: s}, uri: 'http://h'}", "spec.subscriber.uri"),
        ("{uri: 'http://h', CACerts: nonsense}", "spec.subscriber.CACerts"),
    ],
)
def test_destination_that_nothing_can_be_sent_to(subscriber: str, path: str) -> None:
    _, problems = read(trigger(f"broker: b\nsubscriber: {subscriber}\n"))
    assert [problem.path for problem in problems] == [path]


def test_trigger_without_anything_names_all_that_is_missing() -> None:
    assert [s.split(":")[0] for s in sentences(trigger(""))] == ["spec.broker", "spec.subscriber"]


def test_unknown_fields_where_knative_keeps_them_are_warnings() -> None:
    text = trigger(GOOD + "note: x\ndelivery: {retries: 3}\n")
    assert sentences(text) == []
    assert sentences(text, "warning") == [
        'spec.note: unknown field "spec.note" is not read',
        'spec.delivery.retries: unknown field "spec.delivery.retries" is not read (did you mean retry?)',
    ]


def test_both_filters_are_warned_about() -> None:
    text = trigger(GOOD + "filter: {attributes: {type: a}}\nfilters: [{exact: {type: b}}]\n")
    assert sentences(text) == []
    assert sentences(text, "warning") == ["spec.filter: filters is set, so filter is not read (remove one of the two)"]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("delivery.knit.dev/parallelism: '0'", "expected an integer from 1 to 10000"),
        ("delivery.knit.dev/parallelism: '10001'", "expected an integer from 1 to 10000"),
        ("delivery.knit.dev/parallelism: 5", "expected a string, got 5"),
        ("delivery.knit.dev/ignore-invalid-reply: 'yes'", 'expected "true" or "false"'),
        ("delivery.knit.dev/reply-on-200-only: maybe", 'expected "true" or "false"'),
        ("log.knit.dev/retention: 7d", "no ISO 8601 duration"),
        ("log.knit.dev/retention: -P1D", "must not be negative"),
        ("run.knit.dev/url: localhost:9000", "run.knit.dev/url"),
        ("run.knit.dev/builtin: echo", "is not built in (there is event-display)"),
        ("knative.dev/dependency: tick", "no JSON object"),
        ("knative.dev/dependency: '{}'", "missing field kind"),
        (
            'knative.dev/dependency: \'{"kind":"PingSource","name":"t","apiVersion":"v1","namespace":"other"}\'',
            "the namespace must be empty or the Trigger's own",
        ),
        ("eventing.knative.dev/injection: sometimes", 'expected "enabled" or "disabled"'),
    ],
)
def test_annotation_that_cannot_be_read(annotation: str, words: str) -> None:
    found = sentences(trigger(GOOD, f"name: t, annotations: {{{annotation}}}"))
    assert words in found[0]


def test_unknown_annotation_of_our_domain_is_warned_about() -> None:
    text = trigger(GOOD, "name: t, annotations: {delivery.knit.dev/paralelism: '3', example.com/x: y}")
    assert sentences(text) == []
    warnings = sentences(text, "warning")
    assert len(warnings) == 1
    assert "did you mean delivery.knit.dev/parallelism?" in warnings[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{kind: Broker, metadata: {name: b}}", "apiVersion: missing field"),
        ("{apiVersion: v1, metadata: {name: b}}", "kind: missing field"),
        ("{apiVersion: v1, kind: 5, metadata: {name: b}}", "kind: expected a string, got 5"),
        ("{apiVersion: v1, kind: Service}", "metadata.name: missing field"),
        ("{apiVersion: v1, kind: Service, metadata: [1]}", "metadata: expected a mapping"),
        ("{apiVersion: v1, kind: Service, metadata: {name: 5}}", "metadata.name: expected a string, got 5"),
        ("{apiVersion: v1, kind: Service, metadata: {generateName: a-}}", "generateName needs"),
    ],
)
def test_object_without_a_name_or_kind_is_nothing_to_show(text: str, words: str) -> None:
    resource, problems = read(text)
    assert resource is None
    assert any(words in problem.sentence for problem in problems)


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ("name: Orders", "metadata.name"),
        ("name: a/b", "metadata.name"),
        ("name: t, namespace: My_Space", "metadata.namespace"),
        ("name: t, namespace: a.b", "metadata.namespace"),
        ("name: t, label: {}", "metadata.label"),
        ("name: t, labels: {a: true}", "metadata.labels.a"),
        ("name: t, labels: [a]", "metadata.labels"),
    ],
)
def test_metadata_is_checked(metadata: str, path: str) -> None:
    resource, problems = read(trigger(GOOD, metadata))
    assert resource is not None
    assert [problem.path for problem in problems] == [path]


def test_namespace_is_tolerated() -> None:
    resource, problems = read("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}")
    assert problems == []
    assert resource is not None
    assert resource.key == Key("", "Namespace", "", "shop")


def test_broker_ref_needs_a_name() -> None:
    text = trigger("brokerRef: {kind: Broker}\nsubscriber: {uri: 'http://h'}\n")
    assert sentences(text) == ["spec.brokerRef.name: missing field"]


def test_injection_is_for_the_default_broker_only() -> None:
    text = trigger(
        "broker: b\nsubscriber: {uri: 'http://h'}\n", "name: t, annotations: {eventing.knative.dev/injection: enabled}"
    )
    assert sentences(text) == [
        "metadata.annotations.eventing.knative.dev/injection: allowed only where spec.broker is default"
    ]


def test_list_is_wanted() -> None:
    text = "{apiVersion: messaging.knative.dev/v1, kind: Channel, metadata: {name: c}, spec: {subscribers: 5}}"
    assert sentences(text) == ["spec.subscribers: expected a list, got 5"]


def test_ping_source_needs_a_sink() -> None:
    text = "{apiVersion: sources.knative.dev/v1, kind: PingSource, metadata: {name: p}, spec: {dataBase64: YQ==}}"
    assert sentences(text) == ["spec.sink: missing field"]


def test_long_values_are_cut() -> None:
    (sentence,) = sentences(trigger(GOOD + f"delivery: {{format: {'x' * 99}}}"))
    assert "..." in sentence
    assert "x" * 60 not in sentence


def test_nulls_in_lists_are_refused() -> None:
    text = "{apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, metadata: {name: c, labels: {a: null}}, spec: {delivery: {format: [null]}}}"
    assert sentences(text) == ['spec.delivery.format: expected "json" or "binary", got a list']


def test_unknown_field_beside_spec() -> None:
    text = "{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: b}, sepc: {}}"
    assert sentences(text) == ['sepc: unknown field "sepc" (did you mean spec?)']


def test_old_version_is_refused_with_the_right_one() -> None:
    resource, problems = read("{apiVersion: eventing.knative.dev/v1beta1, kind: Broker, metadata: {name: b}}")
    assert isinstance(resource, Broker)
    assert [problem.sentence for problem in problems] == [
        "apiVersion: eventing.knative.dev/v1beta1 Broker is not served (use apiVersion: eventing.knative.dev/v1)"
    ]


def test_both_versions_of_ping_source_are_read() -> None:
    for version in ("v1", "v1beta2"):
        resource, problems = read(
            f"{{apiVersion: sources.knative.dev/{version}, kind: PingSource, metadata: {{name: p}}, spec: {{sink: {{uri: 'http://h'}}}}}}"
        )
        assert problems == []
        assert isinstance(resource, PingSource)


@pytest.mark.parametrize(
    ("api_version", "kind", "reason"),
    [
        (
            "sinks.knative.dev/v1alpha1",
            "JobSink",
            "sinks.knative.dev/v1alpha1 JobSink is not served yet by this version",
        ),
        ("messaging.knative.dev/v1alpha1", "NatsJetStreamChannel", "not served yet"),
        ("serving.knative.dev/v1", "Service", "not served yet"),
        ("v1", "Broker", "v1 has no kind Broker; did you mean eventing.knative.dev/v1?"),
        ("eventing.knative.dev/v1", "Channel", "did you mean messaging.knative.dev/v1?"),
        ("eventing.knative.dev/v1", "JobSink", "JobSink of sinks.knative.dev is not served yet"),
        ("eventing.knative.dev/v1", "Triger", "did you mean Trigger?"),
        ("apps/v1", "Deployment", "belongs to Kubernetes"),
        ("v1", "Pod", "belongs to Kubernetes"),
        ("rbac.authorization.k8s.io/v1", "Role", "belongs to Kubernetes"),
        ("example.com/v1", "Widget", "is not known"),
    ],
)
def test_other_kinds_are_ignored_with_a_reason(api_version: str, kind: str, reason: str) -> None:
    resource, problems = read(f"{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: x}}, spec: {{a: 1}}}}")
    assert problems == []
    assert isinstance(resource, Ignored)
    assert reason in resource.reason


def ping(spec: str) -> str:
    return f"{{apiVersion: sources.knative.dev/v1, kind: PingSource, metadata: {{name: p}}, spec: {{sink: {{uri: 'http://h'}}, {spec}}}}}"


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("data: a, dataBase64: YQ==", "spec"),
        ("contentType: application/json, data: '[1]'", "spec.data"),
        ("contentType: application/json; charset=utf-8, data: '5'", "spec.data"),
        ("contentType: application/json, data: '{'", "spec.data"),
        ("contentType: application/json, dataBase64: WzFd", "spec.dataBase64"),
        ("dataBase64: '%%'", "spec.dataBase64"),
        ("ceOverrides: {extensions: {Type_1: a}}", "spec.ceOverrides.extensions.Type_1"),
        ("ceOverrides: {extensions: {Type: a}}", "spec.ceOverrides.extensions.Type"),
        ("ceOverrides: {extensions: {a: 1}}", "spec.ceOverrides.extensions.a"),
        ("ceOverrides: {extensions: 'http://x'}", "spec.ceOverrides.extensions"),
        ("jsonData: '{}'", "spec.jsonData"),
    ],
)
def test_ping_source_that_could_not_send(spec: str, path: str) -> None:
    _, problems = read(ping(spec))
    assert [problem.path for problem in problems] == [path]


@pytest.mark.parametrize(
    "spec",
    [
        "data: ''",
        "contentType: application/json, data: ''",
        "contentType: application/json, data: '{\"a\": 1}'",
        "contentType: text/plain, data: '['",
    ],
)
def test_ping_source_that_can_send(spec: str) -> None:
    assert read(ping(spec))[1] == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{}", "spec.channel: missing field"),
        ("{channel: {kind: Channel, name: c, apiVersion: v1}}", "the Subscription must reference a subscriber"),
        (
            "{channel: {kind: Channel, name: c}, subscriber: {uri: 'http://h'}}",
            "spec.channel.apiVersion: missing field",
        ),
    ],
)
def test_subscription_says_what_is_missing(spec: str, words: str) -> None:
    found = sentences(
        f"{{apiVersion: messaging.knative.dev/v1, kind: Subscription, metadata: {{name: s}}, spec: {spec}}}"
    )
    assert any(words in sentence for sentence in found)


def test_subscription_names_its_channel() -> None:
    resource, problems = read(
        "{apiVersion: messaging.knative.dev/v1, kind: Subscription, metadata: {name: s}, spec: {"
        "channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: c}, subscriber: {uri: 'http://h'}, reply: {}}}"
    )
    assert problems == []
    assert isinstance(resource, Subscription)
    assert resource.channel_key == Key("messaging.knative.dev", "Channel", "default", "c")


def test_subscribers_belong_to_subscriptions() -> None:
    channel = (
        "{{apiVersion: messaging.knative.dev/v1, kind: {}, metadata: {{name: c}}, spec: {{subscribers: [{{uid: a}}]}}}}"
    )
    assert sentences(channel.format("Channel")) == [
        "spec.subscribers: subscribers on a Channel are not allowed (write a Subscription for each)"
    ]
    assert sentences(channel.format("InMemoryChannel")) == []
    assert sentences(channel.format("InMemoryChannel"), "warning") == [
        "spec.subscribers: it is not read (write a Subscription for each)"
    ]


def test_async_handler_takes_go_booleans_only() -> None:
    text = "{{apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, metadata: {{name: c, annotations: {{messaging.knative.dev/async-handler: {}}}}}}}"
    assert sentences(text.format("'t'")) == []
    assert sentences(text.format("'yes'")) != []


def test_config_map_holds_texts_and_examples_are_left_out() -> None:
    resource, problems = read("{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: b, _example: x, n: 5}}")
    assert isinstance(resource, ConfigMap)
    assert resource.data == {"a": "b"}
    assert [problem.path for problem in problems] == ["data.n"]


def test_spec_that_is_no_mapping() -> None:
    text = "{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: b}, spec: [1]}"
    assert sentences(text) == ["spec: expected a mapping, got a list"]
