"""What parent and child say to each other: JSON lines through a pipe that is neither stdout nor a file.

    child -> parent   {"event": "progress", ...}     any number
                      {"event": "result", "value": {...}}
                      or {"event": "error", "kind": a FailureKind, "type": the exception's class, "message": "..."}

Every line carries the nonce of its job, so that output of another run can never be taken for this one's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from autoresearch_common.reading import parse_json
from autoresearch_trainer.jobs.base import printable
from autoresearch_trainer.jobs.failures import FailureKind

MOST_NAMES = 20
# One line, as JSON: it is the sender's word, and what it holds is checked where it is used.
Message = dict[str, Any]


def encode(nonce: str, event: str, **fields: Any) -> bytes:
    """One message as a line. NaN and infinities are refused: a result that contains one must say so in words."""
    return json.dumps({"nonce": nonce, "event": event, **fields}, allow_nan=False).encode() + b"\n"


def decode(line: bytes, nonce: str) -> Message:
    """One line as a message.

    The sender is not trusted: a result or an error has its fields, and every text can be written down.

    Raises:
        ValueError: not a message of this job.
    """
    message = parse_json(line, "the message")
    if not isinstance(message, dict) or message.get("nonce") != nonce or "event" not in message:
        raise ValueError("not a message of this job")
    whole = True
    if message["event"] == "result":
        whole = isinstance(message.get("value"), dict)
    elif message["event"] == "error":
        texts = all(isinstance(message.get(name), str) for name in ("kind", "type", "message"))
        whole = texts and message["kind"] in get_args(FailureKind)
    if not whole:
        raise ValueError("not a whole message")
    return message


def not_enforced(message: Mapping[str, Any]) -> list[str]:
    """What of its confinement a job reports as not enforced on this system; empty for messages of another kind."""
    told = message.get("unenforced", ())
    return [printable(str(name)) for name in told][:MOST_NAMES] if isinstance(told, list) else []
