"""The judge is judged: it must see each kind of wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tests.chaos.checker import COLUMNS, Report, Subscription, judge, table


def report(
    deliveries: Mapping[int, int],
    *,
    attempted: range = range(1, 5),
    acknowledged: range = range(1, 4),
    attempts: Mapping[int, int] | None = None,
    first_seen: tuple[int, ...] = (),
    wants: Callable[[int], bool] = lambda _: True,
) -> Report:
    subscription = Subscription(
        wants=wants,
        deliveries=deliveries,
        attempts=attempts or deliveries,
        first_seen=first_seen,
        most_attempts=2,
        lane=lambda event_id: event_id % 2,
    )
    return judge(seed=1, rounds=1, attempted=attempted, acknowledged=acknowledged, subscriptions={"/s": subscription})


def test_all_is_well_where_each_acknowledged_event_came() -> None:
    found = report({1: 1, 2: 1, 3: 1, 4: 1}, first_seen=(2, 1, 4, 3))
    assert found.problems(0) == []
    assert (found.delivered, found.duplicated, found.recovered) == (4, 0, 1)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (report({1: 1, 3: 1}), "1 acknowledged and lost: /s 2"),
        (report({1: 1, 2: 1, 3: 1, 9: 1}), "1 not expected there: /s 9"),
        (report({1: 1, 2: 1, 3: 1}, wants=lambda event_id: event_id != 2), "1 not expected there: /s 2"),
        (report({1: 1, 2: 1, 3: 1}, attempts={1: 1, 2: 1, 3: 1, 7: 1}), "1 not expected there: /s 7"),
        (report({1: 1, 2: 1, 3: 1}, first_seen=(2, 3, 1)), "1 overtaken by later ones of the same sender: /s 1"),
        (report({1: 1, 2: 1, 3: 1}, attempts={1: 3, 2: 1, 3: 1}), "1 tried more often than retry + 1: /s 1"),
        (report({1: 2, 2: 2, 3: 1}), "2 duplicates, at most 1"),
    ],
)
def test_each_kind_of_wrong_is_told(found: Report, word: str) -> None:
    (told,) = found.problems(1)
    assert word in told
    assert told.startswith("seed 1, commit ")


def test_duplicates_within_the_bound_are_no_problem() -> None:
    assert report({1: 2, 2: 1, 3: 1}).problems(1) == []


def test_table_has_a_cell_for_each_column() -> None:
    head, _, row = table(report({1: 1}).row()).split("\n")
    assert head.count("|") == row.count("|") == len(COLUMNS) + 1
