"""What parent and child say to each other: JSON lines through a pipe that is neither stdout nor a file.

    child -> parent   {"event": "progress", ...}     any number
                      {"event": "result", "value": {...}}   or   {"event": "error", "type": "...", "message": "..."}

Every line carries the nonce of its job, so that output of another run can never be taken for this one's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MOST_NAMES = 20


def encode(nonce: str, event: str, **fields: Any) -> bytes:
    """One message as a line. NaN and infinities are refused: a result that contains one must say so in words."""
    return json.dumps({"nonce": nonce, "event": event, **fields}, allow_nan=False).encode() + b"\n"


def decode(line: bytes, nonce: str) -> dict[str, Any]:
    """One line as a message.

    The sender is not trusted: a result or an error has its fields, and every text can be written down.

    Raises:
        ValueError: not a message of this job.
    """
    message = json.loads(line, parse_constant=_refuse)
    if not isinstance(message, dict) or message.get("nonce") != nonce or "event" not in message:
        raise ValueError("not a message of this job")
    needed = {"result": {"value": dict}, "error": {"type": str, "message": str}}.get(message["event"], {})
    if not all(isinstance(message.get(name), kind) for name, kind in needed.items()):
        raise ValueError("not a whole message")
    json.dumps(message, ensure_ascii=False).encode()
    return message


def not_enforced(message: Mapping[str, Any]) -> list[str]:
    """What of its confinement a job reports as not enforced on this system; empty for messages of another kind."""
    return [printable(str(name)) for name in message.get("unenforced", ())][:MOST_NAMES]


def printable(value: Any) -> Any:
    """JSON with every control character in its texts replaced: what a kernel says ends up on a terminal."""
    if isinstance(value, str):
        return value if value.isprintable() else "".join(c if c.isprintable() or c == "\n" else " " for c in value)
    if isinstance(value, list):
        return [printable(item) for item in value]
    if isinstance(value, dict):
        return {printable(key): printable(item) for key, item in value.items()}
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")
