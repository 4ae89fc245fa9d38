"""Command line of prepare.py: parse, call, render."""

from __future__ import annotations

import json
import re
import sys
import traceback
from pathlib import Path

import click

from autoresearch_common.reading import is_text, one_line
from autoresearch_data import folders
from autoresearch_data.build import Prepared, prepare
from autoresearch_data.corpora import REGISTRY, Choice, default_corpus, find_corpus
from autoresearch_data.dataset import SPLITS
from autoresearch_data.errors import DataError, DataFailure
from autoresearch_data.hub import DOWNLOADS_FOLDER
from autoresearch_data.packing import packing_loss
from autoresearch_data.progress import Reporter, amount

_SEQUENCE_LENGTHS = (256, 512, 2048)
_LOCAL = ("PATH", "a folder or file of parquet, jsonl (field text; also .gz, .zst), txt, md or py")
_NAMED = tuple((name, summary) for name, (_, summary) in REGISTRY.items())
_CORPORA = "\n".join(f"  {name:<18}{summary}" for name, summary in (*_NAMED, _LOCAL))
_CORPUS_HELP = "What to prepare; see below. Default: climbmix where the hub answers, else stdlib."
_HUB_HELP = "Base address of the hub or a mirror. Default: $HF_ENDPOINT, else https://huggingface.co."
_DATA_DIR_HELP = "Folder of the datasets. Default: $AUTORESEARCH_DATA, else data/."


@click.command(epilog=f"\b\nCorpora:\n{_CORPORA}")
@click.option("--corpus", metavar="NAME|PATH", help=_CORPUS_HELP)
@click.option("--dataset", metavar="NAME", help="Name of the dataset. Default: that of the corpus.")
@click.option("--data-dir", type=click.Path(path_type=Path), help=_DATA_DIR_HELP)
@click.option("--shards", type=int, metavar="N", help="Training files to download. Default: as the corpus has it.")
@click.option("--hub", metavar="URL", help=_HUB_HELP)
@click.option("--like", metavar="DATASET", help="Take tokenizer and validation split from that dataset.")
@click.option("--force", is_flag=True, help="Prepare again even if a valid dataset is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    corpus: str | None,
    dataset: str | None,
    data_dir: Path | None,
    shards: int | None,
    hub: str | None,
    like: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Prepare a dataset: corpus, tokenizer and cached tokens, ready for training.

    A second run checks what is there and does nothing. Exit code 0: done; 1: the run failed; 2: bad input.
    """
    if corpus == "":
        raise DataError("--corpus is empty; name a corpus, or a file or folder")
    with Reporter.on() as reporter:
        if corpus is None:
            corpus = default_corpus(hub)
            reporter.note(f"no --corpus given: preparing {corpus}")
        source = find_corpus(corpus, Choice(folders.data_dir(data_dir) / DOWNLOADS_FOLDER, shards, hub))
        usual = corpus if corpus in REGISTRY else _dataset_name(source.name)
        name = usual if dataset is None else dataset
        folder = folders.dataset_folder(name, data_dir)
        locked = folders.dataset_folder(like, data_dir) if like is not None else None
        done = prepare(source, folder, reporter, force=force, like=locked)
    summary = _summary(done)
    click.echo(json.dumps(summary) if as_json else _render(summary))


def _dataset_name(corpus_name: str) -> str:
    """A corpus name as a folder name: `notes.txt` -> `notes`, blanks -> `-`."""
    stem = corpus_name.rsplit(".", 1)[0] if "." in corpus_name.strip(".") else corpus_name
    return re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-") or "local"


def _summary(done: Prepared) -> dict:
    dataset = done.dataset
    bos_id = dataset.tokenizer.bos_id
    splits = {}
    for name in SPLITS:
        split = dataset.manifest.splits[name]
        splits[name] = {"documents": split.documents, "bytes": split.bytes, "tokens": split.tokens}
    train = dataset.split("train")
    return {
        "dataset": dataset.name,
        "corpus": dataset.manifest.corpus,
        "folder": str(dataset.folder),
        "reused": done.reused,
        "seconds": round(done.seconds, 3),
        "fingerprint": dataset.fingerprint,
        "vocab_size": dataset.tokenizer.vocab_size,
        "splits": splits,
        "packing_loss": {str(length): round(packing_loss(train, length, bos_id), 4) for length in _SEQUENCE_LENGTHS},
    }


def _render(summary: dict) -> str:
    done = "was ready" if summary["reused"] else "prepared"
    lines = [f"dataset {summary['dataset']} {done} in {summary['seconds']:.1f} s: {summary['folder']}"]
    for name, split in summary["splits"].items():
        per_token = split["bytes"] / max(split["tokens"], 1)
        lines.append(
            f"{name + ':':<14}{split['documents']:,} documents, {amount(split['bytes'], 'bytes')}, "
            f"{split['tokens']:,} tokens ({per_token:.2f} bytes each)"
        )
    loss = ", ".join(f"{100 * value:.1f} % at T={length}" for length, value in summary["packing_loss"].items())
    lines.append(f"packing loss:  {loss} (rests of cropped documents)")
    lines.append(f"vocabulary:    {summary['vocab_size']:,} tokens")
    lines.append(f"fingerprint:   {summary['fingerprint']}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code. Every error is one line on stderr."""
    try:
        given = sys.argv[1:] if arguments is None else arguments
        for word in map(str, given):
            if not is_text(word):
                raise DataError(f"{word!a} is not text: it has a NUL, or bytes that are not UTF-8")
        command.main(args=given, prog_name="prepare.py", standalone_mode=False)
        return 0
    except click.ClickException as error:
        return _fail(error.format_message(), 2)
    except (DataError, DataFailure) as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted; no dataset was changed, downloads go on where they stopped", 130)
    except OSError as error:
        return _fail(f"{error.filename or 'files'}: {error.strerror or error}", 1)
    except MemoryError:
        return _fail("out of memory", 1)
    except Exception as error:  # a defect: still one line, with the place to look at
        place = traceback.extract_tb(error.__traceback__)[-1]
        return _fail(f"unexpected {type(error).__name__} at {place.filename}:{place.lineno}: {error}", 1)


def _fail(message: str, code: int) -> int:
    print("error: " + one_line(message), file=sys.stderr)
    return code
