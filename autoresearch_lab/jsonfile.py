"""A file that holds one document of a known schema: written whole, read with one line that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from autoresearch_common.files import write_atomic
from autoresearch_common.reading import BadFile, first_error, one_line, read_json
from autoresearch_lab.errors import LabError, files_at_hand


class StrictModel(BaseModel):
    """A JSON object whose keys are all known; one that is not is an error."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)

    def plain(self) -> dict[str, Any]:
        """As a file or a record holds it."""
        return self.model_dump(mode="json", by_alias=True)


Document = TypeVar("Document", bound=BaseModel)


def save(plain: Mapping[str, Any], path: Path, what: str) -> None:
    """Write `plain`; `what` begins the message of an error.

    Raises:
        LabError: the file cannot be written.
    """
    with files_at_hand(f"{what}: cannot write {path}"):
        write_atomic(path, json.dumps(plain, indent=1, sort_keys=True, allow_nan=False) + "\n")


def load(model: type[Document], path: Path, what: str, schema: int, *, named: str, advice: str = "") -> Document:
    """Read a document of `model` whose key "schema" is `schema`. named: what it should be, in words; advice: ends the
    message where it is something else.

    Raises:
        LabError: the file is missing, not JSON, or not such a document; one line says which.
    """
    path = Path(path)
    try:
        with files_at_hand(f"{what}: cannot read {path}"):
            content = read_json(path)
    except BadFile as error:
        raise LabError(f"{what}: {error}{advice}") from None
    found = content.get("schema") if isinstance(content, dict) else None
    if found != schema:
        says = one_line(repr(found), 80)
        raise LabError(f"{what}: {path} is not {named} of schema {schema} (it says {says}){advice}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise LabError(f"{what}: {path} is damaged: {first_error(error)}{advice}") from None
