"""Addresses of a Redis: what they mean, and what is said of one that means nothing."""

from __future__ import annotations

import pytest

from mesh.resources.redis_address import RedisAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("redis://h", RedisAddress("single", (("h", 6379),))),
        ("redis://h:7000/3", RedisAddress("single", (("h", 7000),), database=3)),
        ("rediss://u:p%40w@h", RedisAddress("single", (("h", 6379),), True, "u", "p@w")),
        ("redis://:pw@h/", RedisAddress("single", (("h", 6379),), password="pw")),
        ("redis://[::1]:7000", RedisAddress("single", (("::1", 7000),))),
        ("redis://[::1]", RedisAddress("single", (("::1", 6379),))),
        (
            "redis+sentinel://a,b:1/mymaster/2",
            RedisAddress("sentinel", (("a", 26379), ("b", 1)), database=2, service="mymaster"),
        ),
        ("rediss+cluster://a:1,b:2", RedisAddress("cluster", (("a", 1), ("b", 2)), True)),
        ("REDIS://h?protocol=3", RedisAddress("single", (("h", 6379),))),
    ],
)
def test_an_address_is_taken_apart(text: str, address: RedisAddress) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://h", "expected redis://"),
        ("redis+other://h", "expected redis://"),
        ("h:6379", "expected redis://"),
        ("redis://", "is no HOST:PORT"),
        ("redis://h:0", "is no HOST:PORT"),
        ("redis://h:x", "is no HOST:PORT"),
        ("redis://a,b", "several hosts need"),
        ("redis://h/a", "database number"),
        ("redis://h/1/2", "database number"),
        ("redis+sentinel://h", "the master is missing"),
        ("redis+cluster://h/1", "database 0 only"),
    ],
)
def test_a_wrong_address_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_address(text)


def test_a_password_is_never_shown() -> None:
    address = parse_address("rediss+sentinel://user:s3cret@h:1/m/2")
    assert address.shown() == "rediss+sentinel://h:1/m/2"
    assert "s3cret" not in repr(address)
    with pytest.raises(ValueError, match="HOST:PORT") as told:
        parse_address("redis://user:s3cret@h:x")
    assert "s3cret" not in str(told.value)
