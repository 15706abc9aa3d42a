"""A panel: the samples that models are judged on, with what the original answers to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import onnx

from onnxmi.data.calibration import Calibration
from onnxmi.evaluation.answers import collect_answers, compare_answers, stack_samples
from onnxmi.evaluation.yardstick import Damage, Yardstick
from onnxmi.outputs.view import Answers, Meaning
from onnxmi.typing import Array, Samples


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Samples to judge models on.

    Attributes
    ----------
    original : onnx.ModelProto
        The model that others are compared with.
    meaning : Meaning
        What its outputs mean.
    yardstick : Yardstick
        The measure, made on samples that need not be these.
    data : Calibration
        Holds the samples.
    samples : (n,) int64
        Which of its samples.
    masks : tuple of str
        Inputs that are zero at padding.
    batch_size, threads : int
        How to run models.
    """

    original: onnx.ModelProto
    meaning: Meaning
    yardstick: Yardstick
    data: Calibration
    samples: Samples
    masks: tuple[str, ...]
    batch_size: int
    threads: int

    @cached_property
    def reference(self) -> Answers:
        """What the original answers."""
        return self.answers(self.original)

    @property
    def labels(self) -> Array | None:
        """The samples' classes, where they are known."""
        return None if self.data.labels is None else self.data.labels[self.samples]

    @cached_property
    def padding(self) -> list[Array]:
        """The samples' masks, (n, positions) each; zero at padding."""
        apart = self.data.whole.union(self.data.axes)  # no (samples, positions)
        return [self.data.arrays[name][self.samples] for name in self.masks if name not in apart]

    @cached_property
    def first(self) -> str | None:
        """The graph output that a metric of one output is about: the first that is compared and no state."""
        told = [view for view in self.meaning.views if view.kind != "state"] or list(self.meaning.views)
        return next((view.output for view in told if view.output in self.reference.values), None)

    def answers(self, proto: onnx.ModelProto) -> Answers:
        """Run a model on the samples.

        Raises
        ------
        ModelError
            If it does not run, or lacks a tensor that is compared.
        """
        return collect_answers(proto, self.meaning, self.data, self.samples, self.batch_size, self.threads)

    def damage(self, answers: Answers) -> Damage:
        """Return how far answers are from the original's."""
        return compare_answers(self.yardstick, self.reference, answers, self.padding)

    def first_output(self, answers: Answers) -> Array | None:
        """Return the first output, samples first; None where there is none, or its size differs between samples."""
        return (
            None
            if self.first is None or self.first not in answers.values
            else stack_samples(answers.values[self.first])
        )
