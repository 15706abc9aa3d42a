"""A disk that fills up while results are written: as a limit on the size of files, which needs no disk to fill."""

from __future__ import annotations

import os
import resource
import signal
import subprocess

import pytest


def limited(place, size, *args):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.run(
        place.command(*args),
        cwd=place.folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )


@pytest.mark.parametrize("size", [0, 100, 700], ids=["nothing fits", "some bytes fit", "all but the plan fits"])
def test_what_does_not_fit_on_the_disk_is_not_there(place, size):
    before = place.contents()
    done = limited(place, size, "prune", "model.onnx", "calib.npz", "--keep", "0.5", "--threads", "1")
    assert done.returncode == 3
    assert done.stderr.startswith("onnxmi: error: model.pruned.")
    assert "cannot be written: File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert place.contents() == before


@pytest.mark.parametrize("size", [0, 300, 1000], ids=["nothing fits", "in a header", "in an array"])
def test_statistics_that_do_not_fit_are_not_there(place, size):
    before = place.contents()
    done = limited(place, size, "capture", "model.onnx", "calib.npz", "-o", "s.npz", "--threads", "1")
    assert done.returncode == 3
    assert done.stderr == "onnxmi: error: s.npz: cannot be written: File too large\n"
    assert place.contents() == before
