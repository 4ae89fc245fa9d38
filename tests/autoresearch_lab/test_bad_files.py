"""Whatever stands in a file that is not our own code: one line that names it, and nothing read that is not so.

Every kind of file is made once as it should be, then changed in its bytes and in its values.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoresearch_common.arrays import write_arrays
from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_common.reading import BadFile, read_bytes, read_json, read_text, read_toml, unzipped
from autoresearch_data.dataset import FileEntry, Manifest, open_dataset
from autoresearch_data.errors import DataError
from autoresearch_data.local import LocalCorpus
from autoresearch_data.progress import Reporter
from autoresearch_data.shards import read_texts
from autoresearch_data.tokenizer import Tokenizer
from autoresearch_data.tokens import SplitSummary, Tokens, write_tokens
from autoresearch_lab import doctor, profile
from autoresearch_lab.ab.cache import Cache
from autoresearch_lab.bench import samples
from autoresearch_lab.campaign import cpu
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.errors import LabError
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.promote import registry, shipping
from autoresearch_lab.results.base import KernelId
from autoresearch_lab.sandbox import protocol
from autoresearch_lab.trace import chrome, schema
from autoresearch_lab.workloads import load as load_workloads
from autoresearch_lab.workspace.folder import Lock, read_lock
from autoresearch_trainer import checkpoint
from autoresearch_trainer.checkpoint import read_state
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.errors import ConfigError

from .profile.examples import example

EXAMPLES = 55  # of each kind and each way of changing it: 2,200 in all


@dataclass(frozen=True)
class Kind:
    """A kind of file. path: where a good one lies; read: what the product does with it; refuses: how it says no.
    whole: a hash holds it together, so that what is read is what was written, or refused. values: what else is changed
    than bytes: how the values are got from the file, and written."""

    path: Path
    read: Callable[[Path], Any]
    refuses: type[Exception] | tuple[type[Exception], ...]
    whole: bool = False
    values: tuple[Callable[[bytes], Any], Callable[[Any], bytes]] | None = None
    named: bool = True


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


JSON = (json.loads, _json)
LINES = (
    lambda raw: [json.loads(line) for line in raw.splitlines()],
    lambda values: b"".join(_json(value) + b"\n" for value in values) if isinstance(values, list) else b"",
)
ZIPPED = (lambda raw: json.loads(gzip.decompress(raw)), lambda value: gzip.compress(_json(value), 1))


def _toml_values(raw: bytes) -> Any:
    return json.loads(json.dumps(__import__("tomllib").loads(raw.decode())))


def _toml(value: Any) -> bytes:
    try:
        return tomli_w.dumps(value).encode("utf-8", "surrogatepass")
    except (TypeError, AttributeError, ValueError):  # what TOML cannot hold
        return b"= ["


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    made = tmp_path_factory.mktemp("good")
    return {**_lab_files(made), **_data_files(made), **_trainer_files(made)}


def _lab_files(made: Path) -> dict[str, Kind]:
    root = Root(made / "lab")
    shutil.copytree(CHECKOUT / "kernels" / "rms_norm", root.kernels / "rms_norm", ignore=shutil.ignore_patterns("__*"))
    entry = registry.Promotion(engine="cpu", device="d", target="rms_norm", kernel="cpp_fused", sha256="a" * 64)
    root.promoted_local.write_text(registry.text([entry]) or "")
    profile.save(example(), made / "profile.json")
    lock = Lock(id="1", target="rms_norm", engine="cpu", started_from="torch_eager", profile=None,
                contract_sha256="a" * 64, workloads_sha256="b" * 64, files={"oracle.py": "c" * 64})  # fmt: skip
    (made / "workspace").mkdir()
    (made / "workspace" / "lock.json").write_text(lock.text())
    spec = {"name": "x", "kind": "array", "dtype": "float32", "shape": [4, 8], "strides": [8, 1], "grad": True}
    call = {"id": "rms_norm-1", "target": "rms_norm", "args": [spec, {"name": "eps", "kind": "scalar", "value": 1e-6}],
            "phase": "forward", "calls_per_step": 2.0, "sample": {"file": "s", "prefix": "rms_norm-1/"}}  # fmt: skip
    calls = {"schema": 1, "target": "rms_norm", "engine": "cpu", "preset": "p", "data": {}, "workloads": [call]}
    (made / "calls.json").write_bytes(_json(calls))
    write_arrays(made / "calls.safetensors", {"rms_norm-1/x": np.ones((4, 8), np.float32)})
    written = load_workloads(made / "calls.json").sha256
    ledger = Ledger(root.ledger)
    for number in range(3):
        kernel = KernelId(name="k", sha256=f"{number}" * 64)
        ledger.append("verify", target="rope", kernel=kernel, verdict="PASS")
    (made / "shipped.jsonl").write_bytes(root.ledger.read_bytes())
    cache, key = Cache(root), {"kernel": "a"}
    cache.put(key, {"loss": 2.5})
    events = [{"ph": "X", "ts": 1, "dur": 5, "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1},
              {"ph": "X", "ts": 0, "dur": 9, "cat": "user_annotation", "name": "step", "pid": 1, "tid": 1}]  # fmt: skip
    (made / "trace.json.gz").write_bytes(ZIPPED[1]({"traceEvents": events}))
    (made / "run.json").write_bytes(_json({"summary": {"val_bpb": 2.0, "tokens_per_second": 9.0, "num_steps": 7}}))
    (made / "samples.json.gz").write_bytes(ZIPPED[1]({"arms": [], "workloads": [], "processes": []}))
    message = protocol.encode("nonce", "error", kind="crash", type="ValueError", message="m")
    (made / "message").write_bytes(message)
    capture = {"record": "a" * 64, "time": "t", "tool": "torch", "tool_version": None, "engine": "cpu", "device": {},
               "software": {}, "preset": "p", "dataset": {"name": "d"}, "compiled": False, "steps": 1, "step_ms": [1.0],
               "selection": {"rope": KernelId(name="n", sha256="a" * 64).plain()}, "tokens_per_step": 8,
               "batch_size": 1, "files": [{"name": "f", "sha256": "a" * 64, "bytes": 1}], "schema": 1}  # fmt: skip
    (made / "one.metadata.json").write_bytes(_json(capture))
    toml = (_toml_values, _toml)
    return {
        "target.toml": Kind(root.kernels / "rms_norm" / "target.toml", _catalog, LabError, values=toml),
        "promoted.toml": Kind(root.promoted_local, registry.read, LabError, values=toml),
        "profile": Kind(made / "profile.json", profile.load, LabError, values=JSON),
        "lock.json": Kind(made / "workspace" / "lock.json", lambda path: read_lock(path.parent), LabError, values=JSON),
        "workloads": Kind(made / "calls.json", lambda path: load_workloads(path, written).workloads, LabError,
                          whole=True, values=JSON),
        "samples": Kind(made / "calls.safetensors", lambda path: _samples(path, written), LabError, whole=True),
        "ledger": Kind(root.ledger, _sound_records, LabError, whole=True, values=LINES),
        "shipped": Kind(made / "shipped.jsonl", shipping.read, LabError, values=LINES),
        "A/B cache": Kind(cache._path(key), lambda path: cache.get(key) or {"loss": 2.5}, (), whole=True, values=JSON),
        "trace": Kind(made / "trace.json.gz", lambda path: chrome.read(path, on_gpu=False), LabError, values=ZIPPED),
        "trace metadata": Kind(made / "one.metadata.json", lambda path: schema.load_metadata(path, "trace-profile"),
                               LabError, values=JSON),
        "closing run": Kind(made / "run.json", cpu._summary, LabError, values=JSON),
        "bench samples": Kind(made / "samples.json.gz", samples.load, LabError, values=ZIPPED),
        "message": Kind(made / "message", lambda path: protocol.decode(path.read_bytes(), "nonce"), ValueError,
                        values=JSON, named=False),
    }  # fmt: skip


def _catalog(path: Path) -> Any:
    return load_catalog(Root(path.parents[2]))["rms_norm"].contract


def _samples(path: Path, written: str) -> Any:
    shutil.copyfile(path.with_name("calls.json.good"), path.with_name("calls.json"))
    return {name: array.tolist() for name, array in load_workloads(path.with_suffix(".json"), written).samples.items()}


def _sound_records(path: Path) -> Any:
    """What is evidence: records that are not what was written do not count, and it is said that they do not."""
    ledger = Ledger(path)
    ledger.read_again()
    found = [record.plain() for record in ledger.find()]
    assert len(found) == 3 or ledger.problems()
    return found if len(found) == 3 else None


def _data_files(made: Path) -> dict[str, Kind]:
    folder = made / "data" / "tiny"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokens").mkdir()
    tokenizer = Tokenizer({bytes([value]): value for value in range(256)})
    tokenizer.save(folder / "tokenizer")
    splits: dict[str, SplitSummary] = {}
    for split in ("train", "val"):
        splits[split] = write_tokens(folder / "tokens", split, ["some text"] * 5, tokenizer)
    files: dict[str, FileEntry] = {}
    manifest = Manifest("tiny", "tiny", {"kind": "local"}, splits, tokenizer.vocab_size, tokenizer.sha256, files)
    (folder / "dataset.json").write_bytes(_json(manifest.to_json()))
    lines = b"".join(_json({"text": f"line {number}", "id": number}) + b"\n" for number in range(50))
    (made / "a.jsonl").write_bytes(lines)
    (made / "a.jsonl.gz").write_bytes(gzip.compress(lines, 1))
    (made / "a.jsonl.zst").write_bytes(pa.compress(lines, "zstd", asbytes=True))
    pq.write_table(pa.table({"text": [f"row {number}" for number in range(50)]}), made / "a.parquet")

    def same_data(path: Path) -> Any:
        return open_dataset(path.parent).fingerprint

    def documents(path: Path) -> list[str]:
        return [text for unit in LocalCorpus("a", [path])._units(lambda size: None) for text in unit.documents]

    def prepared(path: Path) -> Any:
        with Reporter().stage("reading") as stage:
            return [*read_texts([path], advance=stage.advance)]

    return {
        "dataset.json": Kind(folder / "dataset.json", same_data, DataError, whole=True, values=JSON),
        "tokenizer.json": Kind(folder / "tokenizer" / "tokenizer.json", lambda path: same_data(path.parent), DataError,
                               whole=True, values=JSON),
        "tokens.tiktoken": Kind(folder / "tokenizer" / "tokens.tiktoken", lambda path: same_data(path.parent),
                                DataError, whole=True),
        "offsets": Kind(folder / "tokens" / "val.offsets.npy", lambda path: len(Tokens.open(path.parent, "val")),
                        DataError),
        "JSON Lines": Kind(made / "a.jsonl", documents, DataError, values=LINES),
        "JSON Lines in gzip": Kind(made / "a.jsonl.gz", documents, DataError),
        "JSON Lines in zstd": Kind(made / "a.jsonl.zst", documents, DataError),
        "parquet": Kind(made / "a.parquet", prepared, DataError),
    }  # fmt: skip


def _trainer_files(made: Path) -> dict[str, Kind]:
    (made / "checkpoint").mkdir()
    (made / "checkpoint" / "tensors-00000000.safetensors").write_bytes(b"tensors")
    files = {"tensors-00000000.safetensors": file_sha256(made / "checkpoint" / "tensors-00000000.safetensors")}
    state = {
        "schema": checkpoint.SCHEMA, "files": files, "config": TrainConfig().to_json(), "dataset": "f" * 64,
        "kernels": {}, "steps_done": 3, "timed_steps": 0, "training_seconds": 0.0, "epoch": 1, "extra": {},
        "loader": {"identity": {}, "next": 0, "buffer": [1], "tokens_placed": 0, "tokens_cropped": 0},
    }  # fmt: skip
    (made / "checkpoint" / "state.json").write_bytes(_json({**state, "sha256": json_sha256(state)}))
    return {
        "state.json": Kind(made / "checkpoint" / "state.json", lambda path: read_state(path.parent), ConfigError,
                           whole=True, values=JSON),
    }  # fmt: skip


KINDS = ["target.toml", "promoted.toml", "profile", "lock.json", "workloads", "samples", "ledger", "shipped",
         "A/B cache", "trace", "trace metadata", "closing run", "bench samples", "message", "dataset.json",
         "tokenizer.json", "tokens.tiktoken", "offsets", "JSON Lines", "JSON Lines in gzip", "JSON Lines in zstd",
         "parquet", "state.json"]  # fmt: skip

ODD_BYTES = st.sampled_from(
    [b"", b"\xff", b"\0", b"\xef\xbb\xbf", b"[" * 5000, b'{"a":' * 3000, b"NaN", b"nan", b"-Infinity", b"1e400",
     b"9" * 5000, b'"\\ud800"', b"\xed\xa0\x80", b"x[/]", b"\r\n", b'"', b"null", b"]]]", b"-", b"\x1f\x8b"]
)  # fmt: skip
ODD_VALUES = st.sampled_from(
    [None, "", "x[/]", "../../x", "\ud800", "a\0b", [], {}, [[]], True, 0, -1, -1.0, 1e308, -1e308, 10**400, 2**64 + 1,
     float("nan"), float("inf"), 10**18, "9" * 5000, {"a": {"b": 1}}, [None], ["x"], 1.5]
)  # fmt: skip


def quick(function: Callable[..., None]) -> Callable[..., None]:
    """The same changes every time, and none kept on the disk."""
    kept = settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    return kept(function)


def _judge(kind: Kind, content: bytes, folder: Path) -> None:
    """Read the changed file where the good one lay: it is read as what was written, or refused in a line."""
    good = kind.path.with_name(kind.path.name + ".good")
    if not good.exists():
        shutil.copyfile(kind.path, good)
    expected = kind.read(kind.path) if kind.whole else None
    try:
        kind.path.write_bytes(content)
        try:
            found = kind.read(kind.path)
        except kind.refuses as error:
            said = str(error)
            assert "\n" not in said and len(said) < 1000, said
            assert not kind.named or kind.path.name in said or kind.path.parent.name in said, said
        else:
            assert not kind.whole or found in (expected, None)
    finally:
        shutil.copyfile(good, kind.path)


@pytest.mark.parametrize("name", KINDS)
@quick
@given(data=st.data())
def test_whatever_bytes_a_file_has_it_is_read_or_refused_in_one_line(name, data, kinds, tmp_path):
    kind = kinds[name]
    content = kind.path.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.sampled_from([start, start + 1, start + 8, len(content)]))
    odd = data.draw(st.one_of(ODD_BYTES, st.binary(max_size=4)))
    _judge(kind, content[:start] + odd + content[end:], tmp_path)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in (
    "samples", "tokens.tiktoken", "offsets", "JSON Lines in gzip", "JSON Lines in zstd", "parquet")])  # fmt: skip
@quick
@given(data=st.data())
def test_whatever_values_a_file_has_it_is_read_or_refused_in_one_line(name, data, kinds, tmp_path):
    kind = kinds[name]
    assert kind.values is not None
    take, write = kind.values
    value = take(kind.path.read_bytes())
    holder: Any = [value]
    key: Any = 0
    # Down to some place in it, and another value there.
    while isinstance(holder[key], (dict, list)) and holder[key] and data.draw(st.integers(0, 3)):
        holder = holder[key]
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
    root = holder is not None and key == 0 and holder == [value]
    odd = data.draw(ODD_VALUES)
    if isinstance(holder, dict) and data.draw(st.integers(0, 4)) == 0:
        holder["surprise" if data.draw(st.booleans()) else key] = odd
    elif isinstance(holder, dict) and data.draw(st.integers(0, 4)) == 0:
        del holder[key]
    else:
        holder[key] = odd
    _judge(kind, write(odd if root else value), tmp_path)


def test_what_never_ends_or_never_comes_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe", tmp_path, Path("a\0b"), Path("\ud800")):
        for read in (read_bytes, read_text, read_json, read_toml, profile.load, registry.read):
            with pytest.raises((OSError, LabError)):
                read(path)
    (tmp_path / "large").write_bytes(b" " * 2000)
    with pytest.raises(BadFile, match=f"{tmp_path}/large has more than 1,000 bytes"):
        read_json(tmp_path / "large", 1000)
    packed = tmp_path / "trace.json.gz"
    packed.write_bytes(gzip.compress(b" " * 1000))
    assert gzip.decompress(read_bytes(packed))
    with pytest.raises(BadFile, match="trace.json.gz holds more than 999 bytes"):
        unzipped(packed.read_bytes(), packed, 999)


@pytest.mark.parametrize(
    ("field", "value"),
    [("step_ms", 1e308), ("tokens_per_step", -1), ("attributed_ms", -1.0), ("targets.0.saveable_ms", -5.0),
     ("targets.0.floor_ms", 1e308), ("targets.0.share", -0.3), ("targets.0.calls_per_step", 1e300),
     ("ceilings.copy_gb_s.0.1", -200.0), ("ceilings.matmul_gflop_s.float32", 1e308), ("targets", "rope")],
)  # fmt: skip
def test_numbers_that_no_machine_gives_are_refused_in_a_profile(tmp_path, field, value):
    content = example().plain()
    *above, last = [int(word) if word.isdigit() else word for word in field.split(".")]
    holder: Any = content
    for word in above:
        holder = holder[word]
    holder[last] = value
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(LabError, match=f"profile: {tmp_path}/p.json is damaged: {field}: "):
        profile.load(tmp_path / "p.json")


def test_doctor_says_what_is_wrong_with_files(tmp_path, monkeypatch):
    root = Root(tmp_path)
    monkeypatch.setenv("AUTORESEARCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(doctor, "confinement", lambda: doctor.Diagnosis("lab", "confinement", "ok", ""))
    (root.kernels / "rope").mkdir(parents=True)
    for path, content in {
        root.kernels / "rope" / "target.toml": b'name = "\xff"',
        tmp_path / "data" / "tiny" / "dataset.json": b"\xff",
        tmp_path / "profile.json": b"[" * 5000,
        root.workspaces / "mine" / "lock.json": b'{"a": ' + b"9" * 5000 + b"}",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    wrong = [found.detail for found in doctor.examine(root, Ledger(root.ledger)) if found.state == "problem"]
    for said in ("rope/target.toml is not UTF-8: byte 0xff at 8", "dataset.json is not UTF-8: byte 0xff at 0",
                 "profile.json is nested more than 50 deep", "mine/lock.json is not JSON"):  # fmt: skip
        assert any(said in line for line in wrong), wrong


@pytest.mark.parametrize(
    "event", [{"dur": None}, {"dur": ""}, {"ts": [1]}, {"ts": 1e308}, {"name": None}, {"pid": {}}, {"args": 5}]
)
def test_an_event_of_a_trace_that_is_none_is_refused_or_read(tmp_path, event):
    whole = {"ph": "X", "ts": 1, "dur": 5, "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1}
    (tmp_path / "t.json").write_text(json.dumps({"traceEvents": [{**whole, **event}]}))
    for on_gpu in (False, True):
        try:
            chrome.read(tmp_path / "t.json", on_gpu)
        except LabError as error:
            assert f"{tmp_path}/t.json is not a trace of PyTorch's profiler" in str(error)


def test_a_key_or_a_value_of_any_length_is_told_shortly(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps({**example().plain(), "9" * 5000: 1}))
    (tmp_path / "q.json").write_text(json.dumps({"schema": "9" * 5000}))
    for name in ("p.json", "q.json"):
        with pytest.raises(LabError, match=f"{name} is ") as caught:
            profile.load(tmp_path / name)
        assert len(str(caught.value)) < 800


def test_a_checkpoint_that_names_others_files_neither_reads_nor_removes_them(tmp_path):
    mine, folder = tmp_path / "mine", tmp_path / "checkpoint"
    folder.mkdir()
    mine.write_bytes(b"work")
    for files in ({"../mine": file_sha256(mine)}, {}, {"..": "x"}, {"a": "x", "b": "y"}):
        state = {"schema": checkpoint.SCHEMA, "files": files}
        (folder / "state.json").write_bytes(_json({**state, "sha256": json_sha256(state)}))
        with pytest.raises(ConfigError, match=f"no usable checkpoint in {folder}"):
            read_state(folder)
        checkpoint.write_folder({}, lambda path: path.write_bytes(b"tensors"), folder)  # type: ignore[typeddict-item]
        assert mine.read_bytes() == b"work"
