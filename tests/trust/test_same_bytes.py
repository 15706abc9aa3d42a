"""The same inputs give the same bytes: again, elsewhere, under another hash seed, and beside another run."""

from __future__ import annotations

import os
import random
import shutil
import subprocess

import numpy as np
import onnx
import pytest

from tests.support.random_models import random_model

OUT, PLAN = "model.pruned.onnx", "model.pruned.plan.json"


def start(place, folder, *more, hash_seed="0"):
    return subprocess.Popen(
        place.command(
            "prune",
            "model.onnx",
            "calib.npz",
            "--keep",
            "0.5",
            "--force",
            "--overwrite",
            "--threads",
            "1",
            "--seed",
            "3",
            *more,
        ),
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert (process.returncode, errors) == (0, "")


def result(folder):
    return (folder / OUT).read_bytes(), (folder / PLAN).read_bytes()


@pytest.fixture(params=["mlp", "network"])
def elsewhere(place, request):
    """The model and its samples in two folders."""
    if request.param == "network":
        onnx.save(random_model(random.Random(20)), place.folder / "model.onnx")
        sizes = [
            dim.dim_value for dim in onnx.load(place.folder / "model.onnx").graph.input[0].type.tensor_type.shape.dim
        ]
        np.savez(place.folder / "calib.npz", x=np.random.default_rng(0).normal(size=(24, *sizes[1:])).astype("f4"))
    folder = place.folder / "a folder" / "with é"
    folder.mkdir(parents=True)
    for name in ("model.onnx", "calib.npz"):
        shutil.copy(place.folder / name, folder)
    return folder


@pytest.mark.parametrize("score", ["joint", "random"])
def test_in_another_folder_and_under_another_hash_seed(place, elsewhere, score):
    first = start(place, place.folder, "--score", score, hash_seed="0")
    second = start(place, elsewhere, "--score", score, hash_seed="12345")
    finish(first, second)
    assert result(place.folder) == result(elsewhere)
    finish(start(place, place.folder, "--score", score, hash_seed="7"))
    assert result(place.folder) == result(elsewhere)


def test_two_runs_into_one_place_leave_the_files_of_one_of_them(place):
    """Options differ, so that a model of one and a plan of the other would show."""
    alone = []
    for keep in ("0.3", "0.6"):
        finish(start(place, place.folder, "--keep", keep))
        alone.append(result(place.folder))
    for _ in range(2):
        finish(*(start(place, place.folder, "--keep", keep) for keep in ("0.3", "0.6")))
        assert result(place.folder) in alone
        assert {path.name for path in place.folder.iterdir()} == {"model.onnx", "calib.npz", OUT, PLAN}


def test_two_runs_on_one_model_do_not_disturb_each_other(place):
    outputs = [["-o", f"{number}.onnx"] for number in range(3)]
    finish(*(start(place, place.folder, *output) for output in outputs))
    assert len({(place.folder / f"{number}.onnx").read_bytes() for number in range(3)}) == 1
