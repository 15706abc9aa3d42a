"""The recipes of docs/cluster, run: a Makefile, the steps of an indexed Job of Kubernetes, and a Slurm array."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.execution.conftest import SHARDS, Place

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "docs" / "cluster"
QUIET = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run(arguments: list[object], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(one) for one in arguments],
        cwd=folder,
        env={**os.environ, **QUIET, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(place: Place, tmp_path: Path) -> Path:
    shutil.copy(place.model, tmp_path / "model.onnx")
    shutil.copy(place.samples, tmp_path / "calib.npz")
    return tmp_path


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_makefile(place: Place, folder: Path) -> None:
    make = ["make", "-s", "-f", RECIPES / "Makefile", "-j", "2", f"SHARDS={SHARDS}"]
    make.append(f"ONNXMI={sys.executable} -m onnxmi")
    run(make, folder)
    assert (folder / "model.stats.npz").read_bytes() == place.expected
    (folder / "shards" / "s_2.npz").unlink()
    before = (folder / "shards" / "s_1.npz").stat().st_mtime_ns
    run(make, folder)
    assert (folder / "shards" / "s_1.npz").stat().st_mtime_ns == before
    assert (folder / "model.stats.npz").read_bytes() == place.expected


def test_the_steps_of_the_job(place: Place, folder: Path) -> None:
    """What its pods run, with the index that Kubernetes gives them, in another order, and one of them twice."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is in the extra `test`")
    capture, merge = yaml.safe_load_all((RECIPES / "job.yaml").read_text())
    assert capture["spec"]["completionMode"] == "Indexed"
    container = capture["spec"]["template"]["spec"]["containers"][0]
    shards = {one["name"]: one["value"] for one in container["env"]}["SHARDS"]
    assert int(shards) == capture["spec"]["completions"]
    (folder / "shards").mkdir()
    (folder / "samples").mkdir()
    shutil.move(folder / "calib.npz", folder / "samples" / "calib.npz")
    script = container["args"][0].replace("onnxmi ", f"{sys.executable} -m onnxmi ")
    for index in (3, 0, 4, 2, 1, 2):
        run([*container["command"], script], folder, SHARDS=str(SHARDS), JOB_COMPLETION_INDEX=str(index))
    last = merge["spec"]["template"]["spec"]["containers"][0]
    run([*last["command"], last["args"][0].replace("onnxmi ", f"{sys.executable} -m onnxmi ")], folder)
    assert (folder / "model.stats.npz").read_bytes() == place.expected


def test_the_slurm_array(place: Place, folder: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is in the extra `test`")
    recipe = [sys.executable, RECIPES / "slurm.py", "model.onnx", "calib.npz", "shards", "--count", SHARDS]
    run([*recipe, "--cluster", "local", "-o", "model.stats.npz"], folder)
    assert (folder / "model.stats.npz").read_bytes() == place.expected
