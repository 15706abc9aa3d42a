"""What a pruning run made, and what it found on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from onnxmi.budget.goals import Goal, Trial
from onnxmi.evaluation.output_metrics import MetricValue
from onnxmi.evaluation.quality import Quality
from onnxmi.evaluation.yardstick import Damage
from onnxmi.graph.channel_graph import Layer
from onnxmi.graph.cost import Cost
from onnxmi.graph.plan import Plan
from onnxmi.pruning.changed_answers import ChangedAnswer
from onnxmi.pruning.contributions import Contribution
from onnxmi.pruning.evaluation import Evaluation
from onnxmi.pruning.hints import Hint
from onnxmi.repair import RepairNote
from onnxmi.runtime.timing import Latency
from onnxmi.transforms.analysis import Analysis
from onnxmi.verification.checks import Check


@dataclass(frozen=True, eq=False)
class Outcome:
    """A verified model, and what was found on the way to it.

    Attributes
    ----------
    proto : onnx.ModelProto
        The verified, smaller model.
    digest : str
        SHA-256 of that model as it was verified.
    plan : Plan
        What stays of each layer that was cut.
    analysis : Analysis
        The source's channel graph, with what was frozen and why.
    left_out, unseen, idle : tuple of Layer
        Layers that were left out; of them, those that no compared output tells about, and those in branches that no
        sample takes.
    before, after : Cost
        Parameters, bytes and MACs.
    quality : Quality or None
        On samples that nothing was fitted to; None where there is only one sample.
    damage : Damage
        Of every output, on the same samples.
    latency : tuple of two Latency, or None
        Of the original and of the result, on one sample.
    repairs : tuple of RepairNote
        What repair did to each operator.
    checks : tuple of Check
        All of them passed.
    notes : tuple of str
        What the user should know.
    goals : tuple of Goal
        What was asked for, and reached; none for a plan or a share.
    trials : tuple of Trial
        What was tried on the way.
    metric : str
        What the loss is counted in that decides.
    decisive : MetricValue or None
        That metric of the output that loses most; None where nothing was measured.
    readings : mapping of str to tuple of MetricValue
        Output -> its metrics with what they lose, on the same samples.
    hints : tuple of Hint
        What could be cut besides.
    contributions : tuple of Contribution
        What pruning and what 8 bits did, where the result is quantized; else nothing.
    evaluation : Evaluation or None
        What is lost on an evaluation file, where one was given.
    changed : tuple of ChangedAnswer
        Test samples on which another class is chosen.
    unquantized : onnx.ModelProto or None
        The pruned float model, where the result is quantized.
    peak_memory : int or None
        Most bytes that the process had held when the run ended; None where that is not known.
    """

    proto: onnx.ModelProto
    digest: str
    plan: Plan
    analysis: Analysis
    left_out: tuple[Layer, ...]
    unseen: tuple[Layer, ...]
    before: Cost
    after: Cost
    quality: Quality | None
    damage: Damage
    latency: tuple[Latency, Latency] | None
    repairs: tuple[RepairNote, ...]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    goals: tuple[Goal, ...] = ()
    trials: tuple[Trial, ...] = ()
    metric: str = ""
    readings: Mapping[str, tuple[MetricValue, ...]] = field(default_factory=dict)
    decisive: MetricValue | None = None
    hints: tuple[Hint, ...] = ()
    contributions: tuple[Contribution, ...] = ()
    idle: tuple[Layer, ...] = ()
    evaluation: Evaluation | None = None
    changed: tuple[ChangedAnswer, ...] = ()
    peak_memory: int | None = None
    unquantized: onnx.ModelProto | None = None

    @property
    def kept_whole(self) -> tuple[Layer, ...]:
        """Layers that could have been cut, and keep all their units: cutting them costs more than it saves."""
        others = {choice.layer for choice in self.plan.choices} | {layer.name for layer in self.left_out}
        return tuple(layer for layer in self.analysis.graph.layers if layer.name not in others)

    @property
    def by_default(self) -> bool:
        """Whether no budget was given."""
        return bool(self.trials) and "max_drop" not in self.plan.options
