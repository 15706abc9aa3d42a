"""The original's answers on some batches, held to measure many cut models against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnxmi.data.calibration import BatchFeeds
from onnxmi.evaluation.calibrate import counted_of
from onnxmi.evaluation.counting import with_sample_axes
from onnxmi.evaluation.yardstick import Yardstick
from onnxmi.model import Model
from onnxmi.runtime.session import open_session
from onnxmi.typing import Array, Bools, Samples


@dataclass(frozen=True, eq=False)
class DamageReference:
    """What batches gave in the original.

    Attributes
    ----------
    yardstick : Yardstick
        The measure.
    feeds : tuple of BatchFeeds
        Inputs of each batch.
    wanted : tuple of mapping
        The original's tensors of each batch.
    counted : tuple of mapping
        Which of their rows count.
    """

    yardstick: Yardstick
    feeds: tuple[BatchFeeds, ...]
    wanted: tuple[Mapping[str, Array], ...]
    counted: tuple[Mapping[str, Bools], ...]

    @staticmethod
    def of(
        model: Model,
        yardstick: Yardstick,
        batches: Iterable[tuple[Samples, BatchFeeds]],
        masks: Sequence[str],
        threads: int,
    ) -> DamageReference:
        """Run the original on batches as `Calibration.packed` yields them."""
        session = open_session(model.proto, taps=[view.tensor for view in yardstick.views], threads=threads)
        feeds: list[BatchFeeds] = []
        wanted: list[Mapping[str, Array]] = []
        counted: list[Mapping[str, Bools]] = []
        for chosen, inputs in batches:
            values = with_sample_axes(yardstick.views, session.run(inputs), len(inputs.samples))
            feeds.append(inputs)
            wanted.append(values)
            counted.append(counted_of(yardstick.views, values, len(chosen), [inputs[name] for name in masks]))
        return DamageReference(yardstick, tuple(feeds), tuple(wanted), tuple(counted))

    def damage(self, made: Iterable[Mapping[str, Array]]) -> float:
        """Return the damage of a model that gave these tensors; what it does not give is taken for the original's."""
        errors = self.yardstick.errors()
        for inputs, wanted, values, counted in zip(self.feeds, self.wanted, made, self.counted, strict=True):
            errors.add(wanted, with_sample_axes(self.yardstick.views, values, len(inputs.samples)), counted)
        return errors.damage().total
