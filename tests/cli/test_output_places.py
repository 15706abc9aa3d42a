"""Where a result cannot go: one line on standard error, the documented exit code, and nothing written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

RUN = ("prune", "model.onnx", "calib.npz")
PRUNE = (*RUN, "--keep", "0.5")


@pytest.mark.parametrize("name", ["model.pruned.onnx", "model.pruned.plan.json"])
def test_output_is_a_folder(place, name):
    (place.folder / name).mkdir()
    assert place.fails(3, *PRUNE) == f"{name}: is a folder"


def test_output_folder_is_missing(place):
    assert "its folder does not exist" in place.fails(3, *PRUNE, "-o", "none/out.onnx")


def test_output_is_a_device(place):
    assert "is not a regular file" in place.fails(3, *PRUNE, "-o", os.devnull)
    assert not Path(os.devnull).is_file()


def test_output_folder_is_read_only(place, monkeypatch):
    monkeypatch.setattr(os, "access", lambda _path, mode: not mode & os.W_OK)
    assert "its folder is not writable" in place.fails(3, *PRUNE)


@pytest.mark.parametrize("number", [1, 2], ids=["model", "plan"])
def test_the_disk_is_full(place, monkeypatch, number):
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in place.fails(3, *PRUNE, "--fresh")
