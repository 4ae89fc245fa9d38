"""Whatever a child sends, the parent gets a message or a ValueError."""

from __future__ import annotations

import json

import pytest

from autoresearch_lab.sandbox.protocol import decode, encode

NONCE = "n" * 32


def _line(**fields: object) -> bytes:
    return json.dumps({"nonce": NONCE, **fields}).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[1, 2]",
        _line(event="result"),
        _line(event="result", value=[1]),
        _line(event="error", kind="exception", type="x"),
        _line(event="error", kind="exception", type=1, message="y"),
        _line(event="error", kind="innocent", type="x", message="y"),
        b'{"nonce": "' + NONCE.encode() + b'", "event": "result", "value": {"x": NaN}}',
        b'{"nonce": "' + NONCE.encode() + b'", "event": "result", "value": {"x": "\\ud800"}}',
        json.dumps({"nonce": "another", "event": "result", "value": {}}).encode(),
    ],
)
def test_a_broken_or_foreign_message_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode(line, NONCE)


def test_deep_nesting_is_no_crash() -> None:
    line = b'{"nonce": "' + NONCE.encode() + b'", "event": "progress", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises((ValueError, RecursionError)):
        decode(line, NONCE)


def test_an_honest_message_arrives() -> None:
    assert decode(encode(NONCE, "result", value={"a": 1})[:-1], NONCE)["value"] == {"a": 1}
