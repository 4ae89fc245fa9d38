"""Which prepared dataset is meant where none is named."""

from __future__ import annotations

from pathlib import Path

from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import Root

MANIFEST = "dataset.json"
PREFERRED = ("climbmix", "stdlib")


def default_dataset(data: Path) -> str:
    """The name of the dataset below `data` that `train.py` takes where none is named. Raises LabError as
    `choose_dataset` does."""
    return choose_dataset(data, None)[0].name


def is_own(root: Root, name: str) -> bool:
    """Whether that dataset was prepared under a name of the user's own: then no corpus says what to prepare it from."""
    from autoresearch_data.corpora import REGISTRY  # not at the top: it brings readers of Parquet

    return name not in REGISTRY and (root.data(name) / MANIFEST).is_file()


def choose_dataset(data: Path, name: str | None) -> tuple[Path, str]:
    """(folder, why): dataset `name` below `data`, or the one that is prepared there.

    Of several, climbmix and then stdlib. Where nothing is prepared: where stdlib would lie, so that opening it says
    which command prepares it.

    Raises:
        LabError: several are prepared, and none of them is preferred.
    """
    if name is not None:
        return data / name, "asked for"
    prepared = sorted(path.parent.name for path in data.glob(f"*/{MANIFEST}"))
    for preferred in PREFERRED:
        if preferred in prepared:
            others = f", of {', '.join(prepared)}" if len(prepared) > 1 else ", the only one prepared"
            return data / preferred, f"the default{others}"
    if len(prepared) > 1:
        raise LabError(f"several datasets are prepared in {data}: name one of {', '.join(prepared)} with --dataset")
    if prepared:
        return data / prepared[0], "the only one prepared"
    return data / PREFERRED[-1], "nothing is prepared yet"
