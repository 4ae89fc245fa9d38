"""The JSON Schema of the ledger's lines; `python -m autoresearch_lab.results.schema` writes it into docs/."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic.json_schema import models_json_schema

from autoresearch_lab.results.record import CLASSES, SCHEMA

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "records.schema.json"


def schema() -> str:
    """As JSON text: one definition per class of record, and which of them a line may be."""
    classes = sorted(set(CLASSES.values()), key=lambda made: made.__name__)
    references, document = models_json_schema([(made, "validation") for made in classes], by_alias=True)
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A line of ledger.jsonl, schema {SCHEMA}",
        "anyOf": [references[made, "validation"] for made in classes],
        **document,
    }
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(schema(), encoding="utf-8")
