"""The tools that look for what nobody thought of, at a small scale; each tells the large one in its help."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def run(name, *args):
    command = [sys.executable, ROOT / "tools" / f"{name}.py", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("kind", ["models", "samples", "plans"])
def test_damaged_files_are_refused_or_pruned(kind):
    done = run("fuzz", "--kind", kind, "--cases", 40)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"40 cases of {kind}: " in done.stdout
    assert "'exit 0': " in done.stdout
    assert "'exit 3': " in done.stdout


def test_random_cuts_are_exact():
    done = run("random_cuts", "--count", 40)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "40 networks, 0 wrong" in done.stdout


def test_random_networks_go_through_the_pipeline():
    done = run("random_pipeline", "--first", 3, "--count", 3, "--modes", "cut")
    assert re.search(r"^cut +3 made, 0 refused, 0 absent, 0 found;", done.stdout, re.MULTILINE)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_a_survey_of_one_mode_leaves_the_other_sections(tools):
    from coverage_page import document

    old = document("", "random", "## At random\n")
    new = document(document(old, "macs", "## Half\n"), "random", "## Other\n")
    assert "## Other" in new
    assert "## Half" in new
    assert "## At random" not in new


def test_killed_runs_leave_whole_files():
    models = ROOT / "models"
    files = ["--model", models / "digits-mlp.onnx", "--calib", models / "digits-mlp.calib.npz"]
    done = run("kill", *files, "--times", 6)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "0 wrong" in done.stdout


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))


def test_what_pip_runs_first_is_pythons_start(tools):
    import kill

    assert not kill.reached(b'  File "/site-packages/__editable___onnxmi_0_1_0_finder.py", line 7, in <module>\n')
    assert kill.reached(b'  File "/site-packages/onnxmi/cli/prune.py", line 7, in <module>\nKeyboardInterrupt\n')
    assert kill.reached(b"onnxmi: error: interrupted\n")


def test_the_ranges_are_read_from_the_package(tools):
    import ranges

    names = [one.partition(">=")[0] for one in ranges.stated("install_requires")]
    assert names == ["onnx", "onnxruntime", "onnx-graphsurgeon", "numpy", "click", "rich", "threadpoolctl"]
    assert ranges.lower_bound("onnx>=1.16,<2") == "onnx==1.16"
    assert "scipy>=1.11" in ranges.stated("TEST")
    assert "jinja2>=3.1" in ranges.stated("TEST")
