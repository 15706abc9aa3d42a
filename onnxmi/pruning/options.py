"""The options of a pruning run, and what is wrong with some of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from onnxmi.budget.fields import (
    Count,
    Flag,
    MaybeFileSize,
    MaybeQuantity,
    MaybeSize,
    MaybeText,
    Names,
    OptionField,
    Text,
    count,
    flag,
    maybe_file_size,
    maybe_path,
    maybe_quantity,
    maybe_size,
    maybe_text,
    names,
    text,
)
from onnxmi.budget.goals import Budget
from onnxmi.budget.size_grid import parse_alignment
from onnxmi.budget.units import BYTES, FACTOR, MILLISECONDS, POINTS, SHARE, ShareOfFile
from onnxmi.errors import UsageError
from onnxmi.outputs.override import Override, parse_override
from onnxmi.quantization.recipe import HALF, MODES
from onnxmi.selection.scorer import Scorer
from onnxmi.selection.scores import SCORERS
from onnxmi.selection.top_down import TARGETS

QUANTIZE = ("none", *MODES, "auto", HALF)
"""Whether the result is quantized to 8 bits, and how; or stored as float16."""


@dataclass(frozen=True)
class PruneOptions:
    """Options of `prune`, `sweep` and `collect`; each is also a keyword of these functions.

    Quantities may be numbers or texts with a unit: 0.5 or "50%", 2 or "2x", 10_000_000 or "10MB", 5 or "5ms".

    **Budgets.** Without any, the fastest model is searched that loses at most 0.01 of the metric. Budgets of cost hold
    together; `max_drop` beside them is a condition.

    Attributes
    ----------
    keep : float or None
        Share of every layer's units that stays, all layers alike; no other budget of cost goes with it.
    max_size : int, ShareOfFile or None
        Bytes of the file with its external data, at most; "50%" is a share of the original's.
    params, macs : float or None
        Share of the original's parameters, and of its multiply-accumulates (MACs), that stays, at most.
    speedup : float or None
        Times as fast as the original on this machine, at least.
    max_latency : float or None
        Milliseconds a run on this machine, at most.
    max_drop : float or None
        Points of the metric that may be lost on samples that nothing was fitted to: 0.01 is one percentage point of an
        accuracy.
    best_effort : bool
        Take the nearest that can be reached instead of failing.
    metric : str or None
        What `max_drop` counts, such as "f1", "top5", "mse" or "module:function"; None for the metric of each output's
        kind, which is accuracy for classes with labels.
    align : str or int
        Sizes that layers are cut to: "auto" for those that pay on this processor, multiples of a number, or "none".

    quantize : str
        "none"; "dynamic" or "static" for an 8-bit result, made by onnxruntime's quantizer; "weights" for 4-bit weights
        and float activations; "auto" for the fastest of them, measured; "half" to store numbers as float16, which makes
        the file smaller, and no faster on CPUs. Budgets of size and time, and the loss, are then those of that model.

    cut : str or iterable of str
        Kinds of layers to cut, such as "ffn,heads"; empty for `onnxmi.graph.layer_filter.DEFAULT_KINDS`.
    skip, only : str or iterable of str
        Shell patterns of layer names to leave alone, or to cut and no others; `inspect` has the names. Other tools call
        them `ignored_layers` or `nodes_to_exclude`.
    outputs : str or iterable of str
        What outputs are, where it is not what `inspect` says: ``NAME:KIND[:AXIS][*WEIGHT]``.
    ignore_outputs : str or iterable of str
        Outputs that are not compared.
    fix : str or iterable of str
        Inputs that always have one value, such as "sr=16000": branches that are never taken then are left out of the
        result, which does not read these inputs any more.
    allow_interface : bool
        Cut units of states, too: inputs and outputs that are fed back become narrower, which the result says.

    score : str
        What a unit is worth: "joint", or to compare "pairwise", "magnitude", "wanda", "variance" or "random".
    estimator : str
        "gaussian", or "binned" for the pairwise score.
    target : str
        What layers right below the outputs are scored against: "outputs", or the calibration's "labels".
    sensitivity : bool
        Weight neurons by the sensitivity of the outputs to them, where a backward pass can tell it.
    repair : bool
        Refit the weights that lost inputs.

    seed : int
        For the division of the samples, the positions drawn and the random score. The same inputs and seed give the
        same bytes.
    threads : int
        Intra-operator threads of onnxruntime; 0 lets it choose.
    batch : int
        Samples a run when times are measured.
    batch_size : int
        Samples a run when statistics are measured.
    memory : int or None
        Bytes that a run may take beside the model: batches are as small, and passes over the samples as many, as that
        needs. None for half of what is free.
    mask : str or None
        The input that is zero at padding; None for one with "mask" in its name.
    latency : bool
        Measure the time of both models for the report, whatever the budget is.
    few_samples : bool
        Promise a loss on fewer distinct samples than a promise needs.
    force : bool
        Return a result with an output that is more than half lost.
    fresh : bool
        Measure everything anew, and keep nothing for later runs.
    timings : str or None
        Path of a plan whose times a search decides by, instead of measuring them: with the same inputs and options the
        result has the same bytes.

    Raises
    ------
    UsageError
        If a value has a wrong type. What is out of range is refused by the functions that take the options.

    Examples
    --------
    >>> options = onnxmi.PruneOptions(max_size="1.5MB", max_latency="0.2s", max_drop="1%", skip="*/head/*")
    >>> options.max_size, options.max_latency, options.max_drop, options.skip
    (1500000, 200.0, 0.01, ('*/head/*',))
    >>> onnxmi.PruneOptions(speedup="fast")
    Traceback (most recent call last):
    onnxmi.errors.UsageError: speedup: 'fast' is not a factor such as 2x
    """

    keep: MaybeQuantity = maybe_quantity(SHARE)
    max_size: MaybeFileSize = maybe_file_size()
    params: MaybeQuantity = maybe_quantity(SHARE)
    macs: MaybeQuantity = maybe_quantity(SHARE)
    speedup: MaybeQuantity = maybe_quantity(FACTOR)
    max_latency: MaybeQuantity = maybe_quantity(MILLISECONDS)
    max_drop: MaybeQuantity = maybe_quantity(POINTS)
    best_effort: Flag = flag(default=False)
    metric: MaybeText = maybe_text()
    align: OptionField[str, str | int] = OptionField(str, "auto")
    batch: Count = count(1)
    quantize: Text = text("none")
    score: Text = text("joint")
    estimator: Text = text("gaussian")
    repair: Flag = flag(default=True)
    cut: Names = names(",")
    skip: Names = names()
    only: Names = names()
    seed: Count = count(0)
    threads: Count = count(0)
    batch_size: Count = count(32)
    mask: MaybeText = maybe_text()
    memory: MaybeSize = maybe_size(BYTES)
    target: Text = text("outputs")
    sensitivity: Flag = flag(default=True)
    latency: Flag = flag(default=True)
    outputs: Names = names()
    ignore_outputs: Names = names()
    fix: Names = names()
    allow_interface: Flag = flag(default=False)
    few_samples: Flag = flag(default=False)
    force: Flag = flag(default=False)
    fresh: Flag = flag(default=False)
    timings: MaybeText = maybe_path()

    @property
    def budget(self) -> Budget:
        """What is asked for."""
        return Budget(**{field.name: getattr(self, field.name) for field in fields(Budget)})

    def for_file(self, size: int) -> PruneOptions:
        """Return options whose size is in bytes, where it is a share of the original's."""
        share = self.max_size
        return replace(self, max_size=max(int(share * size), 1)) if isinstance(share, ShareOfFile) else self

    @property
    def scorer(self) -> Scorer:
        """How units are chosen."""
        return SCORERS[self.score, self.estimator]

    @property
    def shown(self) -> dict[str, Any]:
        """The options that a plan tells its reader."""
        names = ("score", "estimator", "cut", "skip", "only", "seed", "sensitivity")
        given = {name: value for name in ("outputs", "ignore_outputs", "fix") if (value := getattr(self, name))}
        if self.quantize != "none":
            given["quantize"] = self.quantize
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
        if self.quantize not in QUANTIZE:
            raise UsageError(f"no quantization {self.quantize!r}; there are: {', '.join(QUANTIZE)}")
        if self.batch_size < 1 or self.batch < 1 or self.threads < 0 or self.seed < 0:
            raise UsageError("batch and batch size must be 1 or more, threads and seed 0 or more")
        if self.memory is not None and self.memory < 1:
            raise UsageError(f"--memory {self.memory} is out of range: expected a size such as {BYTES.example}")
        if self.target not in TARGETS:
            raise UsageError(f"no target {self.target!r}; there are: {', '.join(TARGETS)}")
        _ = self.overrides
