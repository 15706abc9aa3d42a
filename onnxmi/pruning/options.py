"""The options of a pruning run, and what is wrong with some of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from onnxmi.budget.fields import (
    Count,
    Flag,
    MaybeText,
    Names,
    Number,
    OptionField,
    Size,
    Text,
    count,
    flag,
    maybe_text,
    names,
    quantity,
    size,
    text,
)
from onnxmi.budget.goals import Budget
from onnxmi.budget.size_grid import parse_alignment
from onnxmi.budget.units import BYTES, FACTOR, MILLISECONDS, POINTS, SHARE
from onnxmi.errors import UsageError
from onnxmi.outputs.override import Override, parse_override
from onnxmi.selection.scorer import Scorer
from onnxmi.selection.scores import SCORERS
from onnxmi.selection.top_down import TARGETS


@dataclass(frozen=True)
class PruneOptions:
    """Options of `prune`.

    Attributes
    ----------
    keep, max_size, params, macs, speedup, max_latency, max_drop
        What is asked for; see `onnxmi.budget.goals.Budget`. Without any, the fastest model that costs at most one
        point.
    best_effort : bool
        Take the nearest that can be reached instead of failing.
    metric : str or None
        What `max_drop` counts; see `onnxmi.evaluation.metrics`. None for accuracy with labels, else agreement.
    align : str
        "auto" for sizes that pay on the processor, "none", or a number that sizes are multiples of.
    batch : int
        Samples a run when times are measured.
    score : str
        joint, pairwise, magnitude, wanda, variance or random.
    estimator : str
        gaussian, or binned for the pairwise score.
    repair : bool
        Refit the weights that lost inputs.
    cut : tuple of str
        Kinds of layers to cut; empty for channels, ffn, heads and hidden.
    skip, only : tuple of str
        Shell patterns of layer names to leave alone, or to cut and no others.
    seed : int
        For the division of the samples, the positions drawn and the random score.
    threads : int
        Intra-operator threads of onnxruntime; 0 lets it choose.
    batch_size : int
        Samples a run when statistics are measured.
    mask : str or None
        The input that is zero at padding; without it, one with "mask" in its name.
    memory : int or None
        Bytes that what is measured in one pass may take; None for as much as it needs.
    target : str
        What layers right below the outputs are scored against: "outputs", or the calibration's "labels".
    sensitivity : bool
        Score neurons by what the outputs feel of them, where that can be found; else all of a layer count alike.
    latency : bool
        Measure both models' latency.
    outputs : tuple of str
        What outputs are, where it is not what `inspect` says: `NAME:KIND[:AXIS][*WEIGHT]`.
    ignore_outputs : tuple of str
        Outputs that are not compared.
    few_samples : bool
        Promise a loss on fewer distinct samples than that takes.
    force : bool
        Return a result whose outputs are lost.
    """

    keep: Number = quantity(SHARE)
    max_size: Size = size(BYTES)
    params: Number = quantity(SHARE)
    macs: Number = quantity(SHARE)
    speedup: Number = quantity(FACTOR)
    max_latency: Number = quantity(MILLISECONDS)
    max_drop: Number = quantity(POINTS)
    best_effort: Flag = flag(False)
    metric: MaybeText = maybe_text()
    align: OptionField[str, str | int] = OptionField(str, "auto")
    batch: Count = count(1)
    score: Text = text("joint")
    estimator: Text = text("gaussian")
    repair: Flag = flag(True)
    cut: Names = names(",")
    skip: Names = names()
    only: Names = names()
    seed: Count = count(0)
    threads: Count = count(0)
    batch_size: Count = count(32)
    mask: MaybeText = maybe_text()
    memory: Size = size(BYTES)
    target: Text = text("outputs")
    sensitivity: Flag = flag(True)
    latency: Flag = flag(True)
    outputs: Names = names()
    ignore_outputs: Names = names()
    few_samples: Flag = flag(False)
    force: Flag = flag(False)

    @property
    def budget(self) -> Budget:
        """What is asked for."""
        return Budget(**{field.name: getattr(self, field.name) for field in fields(Budget)})

    @property
    def scorer(self) -> Scorer:
        """How units are chosen."""
        return SCORERS[self.score, self.estimator]

    @property
    def shown(self) -> dict[str, Any]:
        """The options that a plan tells its reader."""
        names = ("score", "estimator", "cut", "skip", "only", "seed", "sensitivity")
        given = {name: value for name in ("outputs", "ignore_outputs") if (value := getattr(self, name))}
        return {**self.budget.asked, **{name: getattr(self, name) for name in names}, **given}

    @property
    def overrides(self) -> tuple[Override, ...]:
        """What the user says of outputs."""
        return tuple(map(parse_override, self.outputs))

    def check(self) -> None:
        """Raise UsageError where options are out of range or contradict each other."""
        self.budget.check()
        parse_alignment(self.align)
        if (self.score, self.estimator) not in SCORERS:
            known = ", ".join(f"{score} with {estimator}" for score, estimator in SCORERS)
            raise UsageError(f"no score {self.score!r} with estimator {self.estimator!r}; there are: {known}")
        if self.batch_size < 1 or self.batch < 1 or self.threads < 0 or self.seed < 0:
            raise UsageError("batch and batch size must be 1 or more, threads and seed 0 or more")
        if self.memory is not None and self.memory < 1:
            raise UsageError(f"--memory {self.memory}: wanted: a size such as {BYTES.example}")
        if self.target not in TARGETS:
            raise UsageError(f"no target {self.target!r}; there are: {', '.join(TARGETS)}")
        _ = self.overrides
