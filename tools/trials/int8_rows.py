"""The rows of a table of 8-bit files: how each file is made from the model and its calibration samples."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
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
    """What is tried on one model.

    Attributes
    ----------
    mode : str
        onnxruntime's for it.
    budgets : mapping
        Beside the default one.
    batches : tuple of int
        Sizes of batches that are timed.
    shares : tuple of float
        Of the MACs, at which models are pruned, and then quantized in that mode.
    """

    mode: str
    budgets: Mapping[str, Mapping[str, Any]]
    batches: tuple[int, ...]
    shares: tuple[float, ...] = ()


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
        (0.5, 0.36, 0.25, 0.15),
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
    """The files of one model; makes those that are not there yet, unless it only finds."""

    case: Case
    files: Path
    python: Path | None
    makes: bool = True

    def path(self, row: str) -> Path:
        return self.files / f"{self.case.name}.{row}.onnx"

    def ready(self, row: str, make: Callable[[Path], object]) -> onnx.ModelProto | None:
        path = self.path(row)
        if self.makes and not path.exists():
            make(path)
        return onnx.load(path) if path.exists() else None

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
    """Yield the rows of a model that there are files of, in the order of the table."""
    for label, proto in _rows(maker):
        if proto is not None:
            yield Made(label, proto)


def _rows(maker: Maker) -> Iterator[tuple[str, onnx.ModelProto | None]]:
    study, dense = ROWS[maker.case.name], maker.case.model.proto
    yield "dense", dense
    for bits in (8, 7):
        how = partial(maker.quantized, dense, bits=bits)
        yield f"onnxruntime, {study.mode}, {bits}-bit weights", maker.ready(f"int{bits}", how)
    for tool in ("optimum", "olive"):
        if maker.python is not None or maker.path(tool).exists():
            yield f"{tool}, dynamic", maker.ready(tool, partial(maker.by_tool, tool))
    pruned = maker.ready("pruned", maker.pruned)
    yield "pruned", pruned
    for bits in (8, 7):
        if pruned is not None:
            how = partial(maker.quantized, pruned, bits=bits)
            yield f"both, by hand, {bits}-bit weights", maker.ready(f"hand{bits}", how)
    for share in study.shares:
        row = f"macs{share:.2f}".replace("0.", "")
        yield f"pruned to {share:g} of the MACs", maker.ready(row, partial(maker.pruned, macs=share))
        plan = maker.path(row).with_suffix(".plan.json")
        how = partial(maker.pruned, plan=plan, quantize=study.mode)
        yield f"and `--quantize {study.mode}`", maker.ready(f"{row}-int8", how)
    for label, budget in {"": {}, **study.budgets}.items():
        row = "-".join(["auto", *label.strip("-").replace("%", "").split()])
        command = f"**`{f'{label} --quantize auto'.strip()}`**"
        yield command, maker.ready(row, partial(maker.pruned, quantize="auto", **budget))
