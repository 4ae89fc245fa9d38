"""The one reader of files that are not this project's own code: manifests, profiles, contracts, lists, records.

Such a file may be anything: a device without end, bytes that are no text, nested without end, full of numbers that
nothing can count with. Each of these is one line that names the file.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import math
import os
import stat
import tomllib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:  # kernels that are exported read their own files, where there is no pydantic
    from pydantic import ValidationError

MOST_BYTES = 64 << 20
# json and pydantic go through what is nested by calling themselves.
MOST_DEPTH = 50
# Twice what 64 bits hold: seeds are that long, and every larger one is no number that anything here counts.
MOST_INTEGER = 1 << 64


class BadFile(ValueError):
    """A file whose content cannot be used; one line that names it."""

    exit_code = 2


def open_regular(path: Path | str) -> BinaryIO:
    """Opens a regular file. Raises OSError where there is none: for a folder, a device or a pipe too."""
    try:
        # Without waiting: a pipe that nobody writes to would never open.
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except ValueError:  # NUL in the path, or half of a pair of surrogates
        raise OSError(errno.EINVAL, "it is not a path", f"{str(path)!a}") from None
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def read_bytes(path: Path | str, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of a regular file. Raises OSError as `open_regular`, and BadFile for more than `most_bytes`."""
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise BadFile(f"{path} has more than {most_bytes:,} bytes, which is more than such a file holds")
    return content


def read_text(path: Path | str, most_bytes: int = MOST_BYTES) -> str:
    """The same as UTF-8, with or without a byte-order mark. Raises as `read_bytes`, and BadFile for other bytes."""
    return decode(read_bytes(path, most_bytes), path)


def read_json(path: Path | str, most_bytes: int = MOST_BYTES) -> Any:
    """The JSON value that a file holds. Raises as `read_text`, and BadFile for what `parse_json` refuses."""
    return parse_json(read_text(path, most_bytes), path)


def read_json_lines(path: Path | str, most_bytes: int = 1 << 30) -> list[Any]:
    """The JSON values that a file holds, one a line. Raises as `read_json`; the message has the line's number."""
    lines = read_text(path, most_bytes).split("\n")
    return [parse_json(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def read_toml(path: Path | str, most_bytes: int = 1 << 20) -> dict[str, Any]:
    """The table that a TOML file holds. Raises as `read_json`."""
    try:
        value = tomllib.loads(read_text(path, most_bytes))
    except RecursionError:
        raise _too_deep(path) from None
    except BadFile:
        raise
    except ValueError as error:
        raise BadFile(f"{path} is not valid TOML ({error})") from None
    return _checked(value, path)


def unzipped(content: bytes, name: Path | str, most_bytes: int = MOST_BYTES) -> bytes:
    """What was packed with gzip. Raises BadFile where that is damaged, cut short, or more than `most_bytes`."""
    try:
        plain = gzip.GzipFile(fileobj=io.BytesIO(content)).read(most_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadFile(f"{name} is not a whole gzip file: {error}") from None
    if len(plain) > most_bytes:
        raise BadFile(f"{name} holds more than {most_bytes:,} bytes, which is more than such a file does")
    return plain


def decode(content: bytes, name: Path | str) -> str:
    """Bytes as UTF-8, without the byte-order mark. Raises BadFile, which calls them `name`."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(f"{name} is not UTF-8: byte 0x{content[error.start]:02x} at {error.start}") from None


def parse_json(content: bytes | str, name: Path | str, *, checked: bool = True) -> Any:
    """A JSON value. checked: what is nested deeply, NaN, numbers beyond float or 64 bits and text that is no Unicode
    (half of a pair of surrogates) are refused; without it only what cannot be read is. Raises BadFile, which calls the
    content `name`."""
    text = decode(content, name) if isinstance(content, bytes) else content
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep(name) from None
    except ValueError as error:
        raise BadFile(f"{name} is not JSON ({error})") from None
    return _checked(value, name) if checked else value


def first_error(error: ValidationError) -> str:
    """The first thing that is wrong, and where: `targets.0.rank: Field required`."""
    first = error.errors()[0]
    return one_line(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 400)


def is_unicode(text: str) -> bool:
    """Whether it can be encoded: half of a pair of surrogates cannot."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def is_text(word: str) -> bool:
    """Whether a word of a command line can be a path, and be written down."""
    return "\0" not in word and is_unicode(word)


def one_line(message: str, most: int = 2000) -> str:
    """A message on one line, without what a terminal would act on; of one that repeats what somebody wrote at length
    the middle is left out."""
    line = "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in " ".join(message.split()))
    end = most // 4
    return line if len(line) <= most else f"{line[: most - end]} ... {line[-end:]}"


def _checked(value: Any, name: Path | str) -> Any:
    """Goes in level by level, so that no depth is too much for it."""
    level = [value]
    for _ in range(MOST_DEPTH):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += [*one, *one.values()]
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, str):
                if not is_unicode(one):
                    raise BadFile(f"{name} holds text that is no Unicode: {one[:20]!a}")
            elif isinstance(one, float):
                if not math.isfinite(one):
                    raise BadFile(f"{name} holds {one}, which is no number, or one beyond every number here")
            elif isinstance(one, int) and abs(one) > MOST_INTEGER:
                raise BadFile(f"{name} holds an integer of more than 64 bits")
        if not inner:
            return value
        level = inner
    raise _too_deep(name)


def _too_deep(name: Path | str) -> BadFile:
    return BadFile(f"{name} is nested more than {MOST_DEPTH} deep")
