"""The way back from the outputs on some samples: the same session and batches, and so the same bits, for all that ask.

Going back takes several times as long as going forward. So what needs the gradients of the same samples shares one way
back; and what goes it alone, as where a cache holds what the other needs, gets the very same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from onnxmi.data.calibration import Calibration
from onnxmi.evaluation.yardstick import Yardstick
from onnxmi.graph.padding_mask import mask_inputs
from onnxmi.runtime.session import Session, open_session
from onnxmi.statistics.capture import CaptureOptions
from onnxmi.statistics.output_sensitivity import OutputGradients, batch_size_within, has_gradient
from onnxmi.statistics.row_sampling import Batch
from onnxmi.transforms.analysis import Analysis
from onnxmi.typing import Array, Samples


@dataclass(frozen=True, eq=False)
class Gradients:
    """What a batch gives.

    Attributes
    ----------
    batch : Batch
        The samples.
    values : mapping of str to array
        Tensors by name, the linear operators' inputs among them.
    by_result : mapping of str to array
        Gradients by what linear operators give; see `OutputGradients.gradients`.
    """

    batch: Batch
    values: Mapping[str, Array]
    by_result: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class WayBack:
    """From the outputs to all linear operators whose gradient is known.

    Attributes
    ----------
    gradients : OutputGradients
        Which operators it reaches.
    taps : tuple of str
        Tensors that a session has to show.
    analysis : Analysis
        The model.
    calibration : Calibration
        Its samples.
    options : CaptureOptions
        How to run it.
    """

    gradients: OutputGradients
    taps: tuple[str, ...]
    analysis: Analysis
    calibration: Calibration
    options: CaptureOptions

    @staticmethod
    def of(analysis: Analysis, calibration: Calibration, yardstick: Yardstick, options: CaptureOptions) -> WayBack:
        """Look for the way; nothing is run yet."""
        model = analysis.model
        linears = [linear for linear in analysis.linears if has_gradient(linear)]
        masks = tuple(mask_inputs(model, analysis.graph, options.mask))
        gradients = OutputGradients.of(analysis, linears, yardstick, masks)
        inputs = {info.name for info in model.graph.inputs}
        read = [tap for one in linears if one.key in gradients.results for tap in one.taps if tap not in inputs]
        return WayBack(gradients, tuple(dict.fromkeys((*gradients.taps, *read))), analysis, calibration, options)

    @cached_property
    def _session(self) -> Session:
        return open_session(self.analysis.model.proto, taps=self.taps, threads=self.options.threads)

    def batch_size(self, samples: Samples) -> int:
        """As many samples as the memory takes at once, and no more than a batch has: gradients take as much again."""
        fitting = batch_size_within(self._session, self.calibration, samples, self.options.memory)
        return min(fitting, self.options.batch_size)

    def batches(self, samples: Samples) -> Iterator[Batch]:
        """Yield some samples in batches that the memory takes."""
        if len(samples):
            for chosen, feeds in self.calibration.packed(samples, self.batch_size(samples)):
                yield Batch.of(self.calibration, chosen, feeds)

    def through(self, batches: Iterable[Batch]) -> Iterator[Gradients]:
        """Go back on some batches.

        Raises
        ------
        NoGradientError
            Where an operator turns out to do what its rule does not know.
        """
        for batch in batches:
            yield Gradients(batch, *self.gradients.gradients(self._session, batch, self.options.seed))
