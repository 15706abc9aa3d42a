"""One node case under the oracle: every layer that is found is cut to half, alone and with all others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from onnx.backend.test.case.test_case import TestCase

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.errors import ModelError
from onnxmi.graph.channel_graph import Layer
from onnxmi.verification.masked_normalization import KNOWN as SPELLED
from tests.conformance.gaps import KNOWN, NOT_COMPARED
from tests.conformance.node_cases import choices, wrap
from tests.support.oracle import Case, assert_exact, run, spread

TOLERANCE = 1e-4  # the operators inside may compute in any type; the differences of wrong cuts are of the order of 1
Plan = dict[int, Kept]


@dataclass
class Outcome:
    """Models that ran, layers and plans that were tried, and what was wrong."""

    ran: int = 0
    layers: int = 0
    plans: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.ran += other.ran
        self.layers += other.layers
        self.plans += other.plans
        self.failures += other.failures


def examine(case: TestCase, elementwise: bool) -> Outcome:
    """Cut the case in each of its wrappings; known gaps are left out."""
    found = Outcome()
    for produced in choices(case, elementwise):
        if known_gap(case.name, produced) is None:
            found.add(examine_one(case, produced))
    return found


def known_gap(name: str, produced: tuple[bool, ...]) -> str | None:
    stored = sum(produced) == 1 < len(produced)
    return next(
        (gap.why for gap in (*KNOWN, *NOT_COMPARED) if re.search(gap.names, name) and (stored or not gap.stored)), None
    )


def is_left_out(name: str) -> bool:
    """Whether a case is left out in each of its wrappings."""
    return any(re.search(gap.names, name) and not gap.stored for gap in (*KNOWN, *NOT_COMPARED))


def examine_one(case: TestCase, produced: tuple[bool, ...]) -> Outcome:
    try:
        wrapped = Case.of(wrap(case, produced))
        dense = run(wrapped.model.proto, wrapped.probe.feeds)
    except ModelError:
        return Outcome()
    if not all(np.isfinite(number).all() for number in dense):
        return Outcome()
    found = Outcome(ran=1)
    tag = f"{case.name} {''.join('01'[flag] for flag in produced)}"
    try:
        found.layers = len(wrapped.graph.layers)
    except Exception as error:  # whatever it raises is a defect
        found.failures.append(f"{tag}: infer raises {type(error).__name__}: {error}")
        return found
    for plan in plans(wrapped):
        found.plans += 1
        try:
            assert_exact(wrapped, plan, TOLERANCE)
        except Exception as error:  # a crash is a failure like a wrong number
            names = [layer.name for layer in wrapped.graph.layers if layer.id in plan]
            found.failures.append(f"{tag}: {', '.join(names)}: {type(error).__name__}: {error}"[:400])
    return found


def plans(case: Case) -> Iterator[Plan]:
    """Half of each layer, then half of all; without those that the oracle cannot spell out."""
    layers = [layer for layer in case.graph.layers if layer.size > 1]
    alone: list[Plan] = [{layer.id: spread(layer, layer.size // 2)} for layer in layers]
    ragged = {layer.id for layer in layers if layer.outer_atom is not None}
    together = {
        layer.id: spread(_flat(layer) if layer.outer_atom in ragged else layer, layer.size // 2) for layer in layers
    }
    for plan in [*alone, together] if len(layers) > 1 else alone:
        if _can_be_spelled(case, plan):
            yield plan


def _flat(layer: Layer) -> Layer:
    """The same units in every part: those of parts that are themselves ragged cannot be told apart yet."""
    return replace(layer, outer_atom=None, parts=1)


def _can_be_spelled(case: Case, plan: Plan) -> bool:
    """The oracle writes normalisations over cut channels anew: those that it knows, where they make one output."""
    for found in case.graph.normalizations:
        node = case.model.graph.nodes[found.node]
        if Keeping(plan).cuts_any(found.terms) and (node.op not in SPELLED or not found.axes or len(node.outputs) > 1):
            return False
    return True
