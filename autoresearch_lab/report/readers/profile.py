"""Reader of profile records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoresearch_lab.report.readers.dig import dig, first, mappings, real, reals, results, settings, text
from autoresearch_lab.report.views import Hot, Part, Profile, Source
from autoresearch_lab.results.record import Record


def read(record: Record, source: Source, ceilings: Mapping[str, Any] | None = None) -> Profile:
    """The profile of a record. `ceilings`: those measured on the same machine, used where the record holds none."""
    held = first(results(record, "ceilings"), ceilings)
    compute = dig(held, "matmul_gflop_s")
    dataset = first(results(record, "dataset"), settings(record, "dataset"))
    return Profile(
        source=source,
        preset=text(first(results(record, "preset"), settings(record, "preset"))),
        dataset=dataset if isinstance(dataset, str) else text(dig(dataset, "name")),
        step_ms=real(results(record, "step_ms")),
        tokens_per_second=real(results(record, "tokens_per_second")),
        unattributed_ms=real(results(record, "unattributed_ms")),
        attributed_ms=real(results(record, "attributed_ms")),
        targets=tuple(_hot(row) for row in mappings(results(record, "targets"))),
        elsewhere=tuple(
            Part(text(row.get("name")), real(row.get("forward_ms")) or 0.0, real(row.get("backward_ms")) or 0.0)
            for row in mappings(results(record, "elsewhere"))
        ),
        bandwidths=tuple((pair[0], pair[1]) for item in dig(held, "copy_gb_s") or [] if len(pair := reals(item)) == 2),
        compute={name: rate for name, value in (compute or {}).items() if (rate := real(value))}
        if isinstance(compute, Mapping)
        else {},
    )


def _hot(row: Mapping[str, Any]) -> Hot:
    parts = [real(row.get(name)) or 0.0 for name in ("forward_ms", "backward_ms", "optimizer_ms")]
    total = first(real(row.get("total_ms")), sum(parts))
    return Hot(
        target=text(row.get("target")),
        forward_ms=parts[0],
        backward_ms=parts[1],
        optimizer_ms=parts[2],
        total_ms=total,
        share=real(row.get("share")),
        calls=real(row.get("calls_per_step")),
        flops=real(row.get("flops")),
        bytes=real(row.get("bytes")),
        floor_ms=real(row.get("floor_ms")),
        saveable_ms=real(row.get("saveable_ms")),
        gflop_s=real(row.get("gflop_s")),
        gb_s=real(row.get("gb_s")),
        includes=tuple(text(name) for name in row.get("includes") or ()),
        impossible=row.get("impossible") is True,
    )
