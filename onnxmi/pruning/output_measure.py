"""What a run's outputs mean and are measured by: found out once, when first asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from onnxmi.data.calibration import Calibration
from onnxmi.evaluation.calibrate import make_yardstick
from onnxmi.evaluation.evaluation_set import EvaluationSet
from onnxmi.evaluation.yardstick import Yardstick
from onnxmi.graph.channel_graph import Layer
from onnxmi.graph.padding_mask import mask_inputs
from onnxmi.outputs.compared_layers import layers_not_compared
from onnxmi.outputs.override import parse_override
from onnxmi.outputs.view import Meaning
from onnxmi.pruning.options import PruneOptions
from onnxmi.transforms.analysis import Analysis, find_meaning
from onnxmi.typing import Samples


@dataclass(frozen=True, eq=False)
class OutputMeasure:
    """The outputs of one model on one set of samples.

    Attributes
    ----------
    analysis : Analysis
        The model.
    data : Calibration
        The samples.
    fit : (n,) int64
        Those that the measure is made on.
    options : PruneOptions
        Of the run.
    """

    analysis: Analysis
    data: Calibration
    fit: Samples
    options: PruneOptions

    @cached_property
    def masks(self) -> tuple[str, ...]:
        """Inputs that are zero at padding."""
        return tuple(mask_inputs(self.analysis.model, self.analysis.graph, self.options.mask))

    @cached_property
    def meaning(self) -> Meaning:
        """What the outputs mean."""
        options = self.options
        overrides = tuple(map(parse_override, options.outputs))
        return find_meaning(self.analysis, self.data, overrides, options.ignore_outputs, options.threads)

    @cached_property
    def yardstick(self) -> Yardstick:
        """What the original has to say, on the samples that everything is fitted to."""
        how = self.options.batch_size, self.options.threads
        return make_yardstick(self.analysis.model, self.meaning, self.data, self.fit, self.masks, *how)

    def panel(self, samples: Samples) -> EvaluationSet:
        """Return samples to judge models on."""
        original, how = self.analysis.model.proto, (self.options.batch_size, self.options.threads)
        return EvaluationSet(original, self.meaning, self.yardstick, self.data, samples, self.masks, *how)

    def told(self, layers: Iterable[Layer]) -> tuple[Layer, ...]:
        """Return the layers that something compared depends on: what others lose, nothing would tell."""
        unseen = set(layers_not_compared(self.analysis.model.graph, self.analysis.graph, self.meaning))
        return tuple(layer for layer in layers if layer not in unseen)
