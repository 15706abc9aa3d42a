"""The rows of a table of 8-bit files: how each file is made from the model and its calibration samples."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

import onnxmi
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.session import start_session
from onnxmi.quantization.quantize import prepare, quantize, with_ranges
from trials.cases import Case

WORKER = Path(__file__).with_name("int8_worker.py")


@dataclass(frozen=True)
class Study:
    """What is tried on one model: onnxruntime's mode for it, budgets beside the default one, and sizes of batches."""

    mode: str
    budgets: Mapping[str, Mapping[str, Any]]
    batches: tuple[int, ...]


ROWS: Mapping[str, Study] = {
    "sst2-minilm": Study(
        "dynamic",
        {
            "--max-drop 0.5%": {"max_drop": 0.005},
            "--max-drop 1.5%": {"max_drop": 0.015},
            "--max-drop 3%": {"max_drop": 0.03},
            "--max-size 12MB": {"max_size": "12MB"},
        },
        (1, 8),
    ),
    "fashion-cnn": Study("static", {}, (1, 32)),
    "fashion-resnet": Study("static", {}, (1, 32)),
}


@dataclass(frozen=True)
class Made:
    """A row: what it is called, and its model."""

    label: str
    proto: onnx.ModelProto


@dataclass(frozen=True)
class Maker:
    """Makes the files of one model that are not there yet."""

    case: Case
    files: Path
    python: Path | None

    def path(self, row: str) -> Path:
        return self.files / f"{self.case.name}.{row}.onnx"

    def ready(self, row: str, make: Callable[[Path], object]) -> onnx.ModelProto:
        path = self.path(row)
        if not path.exists():
            make(path)
        return onnx.load(path)

    def pruned(self, path: Path, **options: Any) -> None:
        calibration = self.case.file("calib.npz")
        onnxmi.prune(self.case.model, calibration, threads=1, latency=False, force=True, output=path, **options)

    def quantized(self, source: onnx.ModelProto, path: Path, *, bits: int) -> None:
        """By onnxruntime's recipe for this kind of model: every operator, ranges by least and greatest values."""
        session = start_session(self.case.model, self.case.file("calib.npz"), PruneOptions(threads=1))
        prepared = prepare(source)
        recipe = replace(prepared.everything(ROWS[self.case.name].mode), reduced_range=bits == 7)
        onnx.save(quantize(prepared, with_ranges(prepared, recipe, session.range_feeds())), path)

    def by_tool(self, tool: str, path: Path) -> None:
        subprocess.run([str(self.python), str(WORKER), tool, str(self.case.file("onnx")), str(path)], check=True)


def made_rows(maker: Maker) -> Iterator[Made]:
    """Yield all rows of a model, in the order of the table."""
    study, dense = ROWS[maker.case.name], maker.case.model.proto
    yield Made("dense", dense)
    for bits in (8, 7):
        row = f"int{bits}"
        proto = maker.ready(row, lambda path, bits=bits: maker.quantized(dense, path, bits=bits))
        yield Made(f"onnxruntime, {study.mode}, {bits}-bit weights", proto)
    for tool in ("optimum", "olive"):
        if maker.python is not None or maker.path(tool).exists():
            yield Made(f"{tool}, dynamic", maker.ready(tool, lambda path, tool=tool: maker.by_tool(tool, path)))
    pruned = maker.ready("pruned", maker.pruned)
    yield Made("pruned", pruned)
    for bits in (8, 7):
        row = f"hand{bits}"
        proto = maker.ready(row, lambda path, bits=bits: maker.quantized(pruned, path, bits=bits))
        yield Made(f"both, by hand, {bits}-bit weights", proto)
    yield Made("**`--quantize auto`**", maker.ready("auto", lambda path: maker.pruned(path, quantize="auto")))
    for label, budget in study.budgets.items():
        row = label.strip("-").replace(" ", "-").replace("%", "")
        made = maker.ready(row, lambda path, budget=budget: maker.pruned(path, quantize="auto", **budget))
        yield Made(f"**`{label} --quantize auto`**", made)
