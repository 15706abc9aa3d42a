"""The notebooks run, and are what the scripts beside them say."""

from __future__ import annotations

import json

import pytest

from tools import notebooks

pytest.importorskip("nbclient", reason="nbclient is in the extra `docs`")
NAMES = notebooks.names()


def stored(name: str) -> list[dict]:
    return json.loads((notebooks.FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_the_cells_of_its_script(name):
    shown = [(cell["cell_type"], "".join(cell["source"])) for cell in stored(name)]
    assert shown == list(notebooks.cells(name)), "python tools/notebooks.py writes it anew"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_small_and_shows_results(name):
    assert (notebooks.FOLDER / f"{name}.ipynb").stat().st_size < notebooks.MOST_BYTES
    outputs = [cell["outputs"] for cell in stored(name) if cell["cell_type"] == "code"]
    assert sum(map(bool, outputs)) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, monkeypatch, tmp_path):
    pytest.importorskip("ipykernel", reason="ipykernel is in the extra `docs`")
    monkeypatch.setenv("ONNXMI_CACHE", str(tmp_path))
    cells = notebooks.executed(name).cells
    assert not [output for cell in cells for output in cell.get("outputs", ()) if output["output_type"] == "error"]
