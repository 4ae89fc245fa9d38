"""A checkpoint folder holds one whole checkpoint, at whichever write a save is ended."""

import json
import shutil

import pytest

from autoresearch_common.files import begun
from autoresearch_trainer.checkpoint import STATE, read_state, tensors_of, write_folder
from autoresearch_trainer.errors import ConfigError


def save(folder, step):
    def tensors(path):
        path.write_bytes(b"tensors of step %d" % step)

    write_folder({"schema": 2, "steps_done": step}, tensors, folder / "checkpoint")


def saved(folder):
    state = read_state(folder / "checkpoint")
    assert tensors_of(state, folder / "checkpoint").read_bytes() == b"tensors of step %d" % state["steps_done"]
    return state["steps_done"]


@pytest.mark.parametrize("how", ["kill", "interrupt", "full", "exit"])
@pytest.mark.parametrize("before", [False, True])
def test_at_every_write_of_a_save_one_whole_checkpoint_is_there(before, how, tmp_path, crashes):
    found = []

    def begin(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        if before:
            save(folder, 1)
        return folder

    def check(folder, number):
        try:
            found.append(saved(folder))
        except ConfigError as error:
            assert not before and ("is missing" in str(error) or "there is no such folder" in str(error))
            found.append(0)
        save(folder, 3)
        assert saved(folder) == 3
        assert len(list((folder / "checkpoint").iterdir())) == 2  # what was left is gone
        shutil.rmtree(folder)

    writes = crashes.each(begin, lambda folder: save(folder, 2), check, how)
    assert writes > 5 and found == sorted(found) and set(found) <= {int(before), 2}
    assert {int(before), 2} == set(found) or how == "full"


def test_what_another_process_is_saving_is_left_alone(tmp_path):
    save(tmp_path, 1)
    others = tmp_path / "checkpoint" / "tensors-0.safetensors"
    others.touch()
    with begun(others):
        save(tmp_path, 2)
        assert others.exists()
    save(tmp_path, 3)
    assert not others.exists() and saved(tmp_path) == 3


def test_a_checkpoint_of_an_earlier_version_is_refused_and_replaced(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "tensors.safetensors").write_bytes(b"old")
    (folder / STATE).write_text("[]")
    with pytest.raises(ConfigError, match="state.json holds no checkpoint's state"):
        read_state(folder)
    (folder / STATE).write_text(json.dumps({"schema": 1, "sha256": "0" * 64}))
    with pytest.raises(ConfigError, match="altered or is of another version"):
        read_state(folder)
    save(tmp_path, 1)
    assert saved(tmp_path) == 1 and len(list(folder.iterdir())) == 2
