from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.data.calibration import Calibration, check_calibration
from onnxmi.evaluation.quality import compare, outputs
from onnxmi.graph.channel_graph import ChannelGraph, LayerId
from onnxmi.graph.linear import Linear
from onnxmi.model import Model
from onnxmi.repair import Repaired, RepairSamples, StepOptions, repair_stepwise
from onnxmi.statistics.capture import CaptureOptions, capture
from onnxmi.statistics.statistics_file import StatisticsFile
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from tests.support.oracle import Case


@dataclass
class Bench:
    """A model with samples, cut and repaired."""

    proto: onnx.ModelProto
    samples: int = 193
    case: Case = field(init=False)

    def __post_init__(self) -> None:
        self.case = Case.of(self.proto)
        rng = np.random.default_rng(5)
        arrays = {}
        for info in self.model.graph.inputs:
            shape = [self.samples, *(dim if isinstance(dim, int) else 5 for dim in (info.dims or ())[1:])]
            arrays[info.name] = rng.normal(size=shape).astype(np.float32)
        self.data: Calibration = check_calibration(arrays, self.model.graph)
        self.fit, self.validation, self.test = np.split(np.arange(self.samples), [131, 161])

    @property
    def model(self) -> Model:
        return self.case.model

    @property
    def graph(self) -> ChannelGraph:
        return self.case.graph

    @property
    def linears(self) -> tuple[Linear, ...]:
        return self.case.analysis.linears

    def keep(self, share: float = 0.5) -> Keeping:
        kept: dict[LayerId, Kept] = {}
        for layer in self.graph.layers:
            indices = np.arange(0, layer.size, max(1, round(1 / share)))
            kept[layer.id] = layer.keep(np.tile(indices, (layer.parts, 1)) if layer.outer_atom else indices)
        return Keeping(kept)

    def stepwise(self, keeping: Keeping, steps: StepOptions | None = None, shared: Repaired | None = None) -> Repaired:
        return repair_stepwise(self.cut(keeping), self.repair_samples(), steps or StepOptions(), shared)

    def cut(self, keeping: Keeping) -> Cut:
        return self.case.cut_of(keeping)

    def repair_samples(self) -> RepairSamples:
        return RepairSamples(self.data, self.fit, self.validation, CaptureOptions(batch_size=32, threads=1))

    def statistics(self) -> StatisticsFile:
        options = CaptureOptions(batch_size=32, threads=1)
        fit, validation = capture(self.case.analysis, self.data, [self.fit, self.validation], options)
        return StatisticsFile(self.model.digest, fit, validation)

    def error(self, keeping: Keeping, replacements: Sequence[object] = ()) -> float:
        """Relative error of the output on samples nothing was fitted to."""
        made = prune_channels(self.cut(keeping), replacements)
        before, after = (outputs(p, self.data, self.test, 32, 1) for p in (self.model.proto, made))
        return compare(before, after, None, len(self.test)).relative_error

    def damage(self, proto: onnx.ModelProto) -> float:
        """Squared error of the output on the judging samples."""
        wanted, made = (outputs(one, self.data, self.validation, 32, 1) for one in (self.model.proto, proto))
        return float(np.square(made - wanted).mean())


@pytest.fixture
def bench() -> type[Bench]:
    return Bench
