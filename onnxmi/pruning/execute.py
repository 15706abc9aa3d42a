"""Carrying out: choose the units that stay, cut them, verify the cut, and repair it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx

from onnxmi.graph.channel_graph import UnitCounts
from onnxmi.graph.plan import Plan
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.session import PruningSession
from onnxmi.repair import OutputComparison, Repaired, RepairNote, RepairSamples, repair, repair_one_pass
from onnxmi.selection.top_down import SelectOptions, select_channels
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from onnxmi.typing import Progress, silent
from onnxmi.verification.checks import Check, check_equivalence, check_shapes, require_passed


@dataclass(frozen=True, eq=False)
class Candidate:
    """A cut that was carried out and repaired.

    Attributes
    ----------
    proto : onnx.ModelProto
        The smaller model.
    plan : Plan
        What stays.
    checks : tuple of Check
        Of the rewrite; all passed.
    repairs : tuple of RepairNote
        What repair did to each operator.
    quantized : onnx.ModelProto or None
        Its 8-bit version, which the plan tells how to make; None where the result stays float.
    """

    proto: onnx.ModelProto
    plan: Plan
    checks: tuple[Check, ...]
    repairs: tuple[RepairNote, ...]
    quantized: onnx.ModelProto | None = None

    @property
    def result(self) -> onnx.ModelProto:
        """What is judged and written: the 8-bit version where there is one."""
        return self.proto if self.quantized is None else self.quantized


def select_options(options: PruneOptions) -> SelectOptions:
    """Pick the options that say how to choose units."""
    return SelectOptions(options.score, options.estimator, options.seed, options.target, options.sensitivity)


def make_plan(session: PruningSession, counts: UnitCounts, progress: Progress = silent) -> Plan:
    """Choose the units that stay, for given numbers of them.

    Parameters
    ----------
    counts : dict
        Layer id -> units to keep (of each part).
    """
    analysis, options = session.analysis, session.options
    choices = select_channels(analysis, session.measured.fit, counts, select_options(options), progress)
    states = dict(analysis.graph.states) if options.allow_interface else None
    return Plan(analysis.model.digest, choices, options.shown, states=states)


def execute_plan(
    session: PruningSession,
    plan: Plan,
    *,
    stepwise: bool = True,
    samples: RepairSamples | None = None,
    progress: Progress = silent,
) -> Candidate:
    """Cut by a plan, show that the rewrite is right before anything is repaired, and repair.

    Parameters
    ----------
    stepwise : bool
        Repair step by step as well and keep what is better; else in one pass, which costs no forward pass.
    samples : RepairSamples, optional
        What the repair step by step is made on, instead of all samples.
    """
    cut = Cut(session.analysis, plan.keeping(session.analysis.graph))
    unrepaired, checks = _unrepaired(session, cut)
    repaired = _repaired(session, cut, samples, progress, stepwise=stepwise) if session.options.repair else Repaired()
    final = prune_channels(cut, repaired.replacements) if repaired.replacements else unrepaired
    candidate = Candidate(final, plan, tuple(checks), repaired.notes)
    return candidate if session.precision is None else in_8_bits(session, candidate)


def in_8_bits(session: PruningSession, candidate: Candidate) -> Candidate:
    """Quantize a float candidate as the session says, and let its plan say so."""
    quantized = session.quantized(candidate.proto)
    return replace(candidate, quantized=quantized.proto, plan=replace(candidate.plan, quantization=quantized.recipe))


def _repaired(
    session: PruningSession, cut: Cut, samples: RepairSamples | None, progress: Progress, *, stepwise: bool
) -> Repaired:
    if not stepwise:
        return repair_one_pass(cut, session.measured)
    outputs = OutputComparison(session.validation_damage, session.offsets, session.least_validation_damage)
    return repair(cut, samples or session.repair_samples, session.measured, outputs, progress)


def _unrepaired(session: PruningSession, cut: Cut) -> tuple[onnx.ModelProto, list[Check]]:
    """Return the model with sliced weights, and the checks that it passed."""
    proto, probe, feeds = prune_channels(cut), cut.analysis.probe, session.some_feeds(session.split.fit)
    checks = [
        check_equivalence(cut.model, cut.graph, probe, cut.keeping, proto, feeds),
        check_shapes(cut.graph, probe, cut.keeping, proto, probe.feeds),
    ]
    checks.extend(session.source_checks)
    require_passed(checks)
    return proto, checks
