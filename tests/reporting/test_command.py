"""`onnxmi report` and `prune --report`: what they write, and how they fail."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from onnxmi.cli import main
from onnxmi.pruning import pipeline
from onnxmi.reporting import html

PRUNE = ("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--threads", "1")


class Folder:
    """A temporary folder with a model, samples, a run and a sweep, to run commands in."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def contents(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.path)): p.read_bytes() for p in self.path.rglob("*") if p.is_file()}

    def succeeds(self, *args: object) -> str:
        result = CliRunner().invoke(main, [str(arg) for arg in args])
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def fails(self, code: int, *args: object) -> str:
        before = self.contents()
        result = CliRunner().invoke(main, [str(arg) for arg in args])
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (code, "", 1)
        assert self.contents() == before
        return result.stderr.removeprefix("onnxmi: error: ").rstrip("\n")


@pytest.fixture
def folder(tmp_path, monkeypatch, run, sweep, mlp, samples) -> Folder:
    onnx.save(mlp(), tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", x=samples(), labels=np.arange(40) % 4)
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)


@pytest.fixture
def bare(monkeypatch):
    """An installation without the extra."""
    monkeypatch.setattr(html, "find_spec", lambda name: None)


# -- onnxmi report ----------------------------------------------------------------------------------------------------


def test_the_page_goes_beside_the_result(folder, run):
    assert folder.succeeds("report", "run.json") == "wrote run.html\n"
    assert (folder.path / "run.html").read_bytes() == html.render(run, "run.json")


def test_with_a_sweep_to_another_place(folder, run, sweep):
    assert folder.succeeds("report", "run.json", "--sweep", "sweep.json", "-o", "page.html") == "wrote page.html\n"
    assert (folder.path / "page.html").read_bytes() == html.render(run, "run.json", (sweep, "sweep.json"))


def test_a_page_of_a_sweep_alone(folder):
    folder.succeeds("report", "sweep.json")
    assert b"Trade-off" in (folder.path / "sweep.html").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "other.json: is empty"),
        (b"{", "other.json: is not JSON: "),
        (b"\xff\xfe", "other.json: is not JSON: "),
        (b"[" * 100_000, "other.json: is not JSON: "),
        (b"[]", "other.json: is not what `onnxmi prune --json` or `onnxmi sweep --json` prints"),
        (b'"text"', "other.json: is not what `onnxmi prune --json` or `onnxmi sweep --json` prints"),
        (b"{}", "other.json: is not what `onnxmi prune --json` prints: it lacks"),
        (b'{"layers": 3, "before": {}, "after": {}}', "other.json: 'layers' is not a list: is this what onnxmi"),
        (b'{"layers": [], "before": {"macs": NaN}, "after": {}}', "other.json: before: 'macs' is not a number"),
    ],
)
def test_files_that_are_something_else(folder, content, message):
    (folder.path / "other.json").write_bytes(content)
    assert folder.fails(3, "report", "other.json").startswith(message)
    if not content.startswith(b'{"'):
        assert folder.fails(3, "report", "run.json", "--sweep", "other.json").startswith(message[:24])


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("none.json",), 3, "none.json: cannot be read: No such file or directory"),
        (("run.json", "--sweep", "none.json"), 3, "none.json: cannot be read: No such file or directory"),
        ((".",), 3, ": cannot be read: Is a directory"),
        (("run.json", "-o", "none/page.html"), 3, "none/page.html: its folder does not exist"),
        (("run.json", "-o", "."), 3, ".: is a folder"),
        (("run.json", "-o", "run.json"), 2, "run.json: is also an input"),
        (("run.json", "--sweep", "sweep.json", "-o", "sweep.json"), 2, "sweep.json: is also an input"),
        ((), 2, "Missing argument 'RESULT'"),
        (("run.json", "more"), 2, "unexpected extra argument"),
    ],
)
def test_wrong_arguments(folder, args, code, message):
    assert message in folder.fails(code, "report", *args)


def test_without_the_extra(folder, bare):
    assert folder.fails(2, "report", "none.json") == (
        "a report needs jinja2 and matplotlib: install it with `pip install 'onnxmi[report]'`"
    )


# -- onnxmi prune --report --------------------------------------------------------------------------------------------


def test_a_run_with_its_page(folder, read):
    printed = folder.succeeds(*PRUNE, "--report", "run page.html")
    assert "wrote run page.html" in printed
    made = read((folder.path / "run page.html").read_bytes())
    assert f"onnxmi {' '.join(PRUNE)} --report 'run page.html'" in made.text
    assert "The file is valid: all" in made.text
    assert "Nats against the number of units k, 2 layers" in made.text


def test_the_page_is_that_of_what_json_says(folder):
    printed = folder.succeeds(*PRUNE, "--report", "page.html", "--json")
    (folder.path / "found.json").write_text(printed)
    folder.succeeds("report", "found.json")
    assert (folder.path / "found.html").read_bytes() == (folder.path / "page.html").read_bytes()


def test_json_has_what_the_page_needs(folder):
    found = json.loads(folder.succeeds(*PRUNE, "--json"))
    plan = (folder.path / "model.pruned.plan.json").read_text()
    assert found["command"] == f"onnxmi {' '.join(PRUNE)} --json"
    assert [layer["gains"] for layer in found["layers"]] == [layer["gains"] for layer in json.loads(plan)["layers"]]
    assert {"onnxmi", "onnx", "onnxruntime", "numpy"} <= set(found["versions"])


def test_the_plan_is_named_by_its_bytes(folder):
    found = json.loads(folder.succeeds(*PRUNE, "--json"))
    assert found["plan_sha256"] == hashlib.sha256((folder.path / "model.pruned.plan.json").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("page", "code", "message"),
    [
        ("none/page.html", 3, "none/page.html: its folder does not exist"),
        (".", 3, ".: is a folder"),
        ("model.onnx", 2, "model.onnx: is also an input or another output"),
        ("calib.npz", 2, "calib.npz: is also an input or another output"),
        ("./model.pruned.onnx", 2, "model.pruned.onnx: is also an input or another output"),
        ("model.pruned.plan.json", 2, "model.pruned.plan.json: is also an input or another output"),
    ],
)
def test_places_where_a_page_cannot_go(folder, monkeypatch, page, code, message):
    monkeypatch.setattr(pipeline, "prune", lambda *_, **__: pytest.fail("the long work has started"))
    assert message in folder.fails(code, *PRUNE, "--report", page)


def test_without_the_extra_no_work_is_done(folder, bare, monkeypatch):
    monkeypatch.setattr(pipeline, "prune", lambda *_, **__: pytest.fail("the long work has started"))
    assert "pip install 'onnxmi[report]'" in folder.fails(2, *PRUNE, "--report", "page.html")


def test_without_the_extra_the_rest_works(folder, bare):
    folder.succeeds(*PRUNE)
    assert (folder.path / "model.pruned.onnx").exists()


def test_if_the_page_cannot_be_made_nothing_is_written(folder, monkeypatch):
    def full(*_args: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(html, "render", full)
    assert folder.fails(3, *PRUNE, "--report", "page.html") == "not enough memory"
