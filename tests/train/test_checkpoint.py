"""Checkpoints are whole or refused: cut, flipped, swapped and half-written files."""

import os

import pytest
import torch
from safetensors.torch import save_file

from fastgan.errors import UserError
from fastgan.train.checkpoint import find_checkpoint, list_checkpoints, read_checkpoint, write_checkpoint


def tensors(value=0.0):
    return {
        "matrix": torch.full((3, 4), value),
        "transposed": torch.arange(6.0).view(2, 3).t(),
        "scalar": torch.tensor(7),
        "half": torch.ones(5, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 2),
    }


def write(run, step, value=0.0, keep=3):
    return write_checkpoint(run, {"step": step, "config": {"lr": 0.1}}, tensors(value), keep)


def test_round_trip(tmp_path):
    path = write(tmp_path, 12)
    loaded, header = read_checkpoint(path)
    assert path.name == "step-00000012.safetensors"
    assert (header["step"], header["config"]) == (12, {"lr": 0.1})
    assert loaded.keys() == tensors().keys()
    for name, value in tensors().items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value)


def test_the_newest_are_kept(tmp_path):
    for step in (5, 100_000_000, 20, 10):
        write(tmp_path, step, keep=2)
    assert [path.stem for path in list_checkpoints(tmp_path)] == ["step-00000020", "step-100000000"]
    assert find_checkpoint(tmp_path, "--out").stem == "step-100000000"


def test_cut_off_anywhere_is_refused(tmp_path):
    path = write(tmp_path, 1)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"step-00000001.safetensors is not a whole safetensors file") as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)


def test_any_flipped_bit_is_refused(tmp_path):
    path = write(tmp_path, 1)
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"step-00000001.safetensors"):
            read_checkpoint(path)


def test_another_program_s_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"model.safetensors says format None, expected 'fastgan checkpoint 2'"):
        read_checkpoint(path)


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_crash_while_saving_leaves_the_older_checkpoint(tmp_path, monkeypatch, moment):
    write(tmp_path, 1, value=1.0)

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "write":
            patch.setattr("fastgan.train.checkpoint.save", crash)
        else:
            patch.setattr(os, moment, crash)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, 2, value=2.0)
    assert not list((tmp_path / "checkpoints").glob("*.partial"))
    # What a process that was killed leaves is no checkpoint either.
    (tmp_path / "checkpoints" / "step-00000002.safetensors.partial").write_bytes(b"half")

    loaded, header = read_checkpoint(find_checkpoint(tmp_path, "--out"))
    assert header["step"] == 1
    assert torch.equal(loaded["matrix"], tensors(1.0)["matrix"])

    write(tmp_path, 3)  # the next one tidies up
    assert [path.stem for path in (tmp_path / "checkpoints").iterdir()] != []
    assert not list((tmp_path / "checkpoints").glob("*.partial"))


def test_nothing_to_find(tmp_path):
    with pytest.raises(UserError, match=r"CHECKPOINT is '.*nowhere', which does not exist; expected"):
        find_checkpoint(tmp_path / "nowhere", "CHECKPOINT")
    with pytest.raises(UserError, match=r"--out is '.*', which holds no checkpoint; expected"):
        find_checkpoint(tmp_path, "--out")


def test_unwritable_folder(tmp_path):
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot write the checkpoint .*run.*: "):
        write(tmp_path / "run", 1)
