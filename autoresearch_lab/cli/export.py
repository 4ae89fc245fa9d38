"""Verb `export`."""

from __future__ import annotations

from pathlib import Path

import click

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.options import PATH
from autoresearch_lab.cli.subject import KernelWords, find, kernel_arguments
from autoresearch_lab.engine import interpreter, lacks_gpu
from autoresearch_lab.errors import LabError
from autoresearch_lab.export.card import CARD, RECORDS, card, carried, lines
from autoresearch_lab.export.formats import FORMATS
from autoresearch_lab.export.package import package
from autoresearch_lab.paths import writable_folder


def run(session: Session, *, named: list[KernelWords], format_: str, output: Path) -> VerbResult:
    chosen = find(named[0], session.lab, "torch")
    tree = package(chosen.kernel)
    # The evidence of a kernel whose GPU is not here is that of its interpreter.
    lacking = lacks_gpu(chosen.kernel.language)
    lab = session.lab.on(interpreter(chosen.kernel.language)) if lacking else session.lab
    evidence = carried(chosen.kernel, chosen.target, load_catalog(lab.root), lab)
    folder = output.expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabError(f"export: {folder} is there already; name a new folder")
    writable_folder(folder, "export")
    tree |= {CARD: card(chosen.kernel, chosen.target, evidence), RECORDS: lines(evidence)}
    written = FORMATS[format_](chosen.kernel, tree, folder)
    data = {
        "written": str(written),
        "format": format_,
        "kernel": chosen.kernel.plain(),
        "records": [record.id for record in evidence.records],
    }
    verdicts = ", ".join(f"{record.kind} {record.verdict}" for record in evidence.records)
    said = f"{written}: {len(tree)} files; its card and its records say: {verdicts}"
    return VerbResult(data, lambda console: console.print(said, soft_wrap=True))


COMMANDS = {
    "export": command(
        "export",
        run,
        "Write a verified kernel with its evidence as something that runs without this project.",
        kernel_arguments(),
        click.option(
            "--format",
            "format_",
            type=click.Choice(list(FORMATS)),
            default="wheel",
            show_default=True,
            help="A wheel for pip, one Python file, or a repository for Hugging Face's `kernels`.",
        ),
        click.option("--output", type=PATH, required=True, metavar="DIR", help="A new folder."),
    )
}
