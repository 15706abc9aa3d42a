"""Verification: what has to hold before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx

from onnxmi.axes.keeping import Keeping
from onnxmi.axes.terms import Axes, atoms, coordinates
from onnxmi.errors import CheckError, ModelError, stage
from onnxmi.graph.channel_graph import ChannelGraph, Normalization
from onnxmi.graph.dataflow import Flow
from onnxmi.model import Graph, Model, Node
from onnxmi.model.load import checker_error
from onnxmi.model.narrow_states import narrower_text, with_whole_states
from onnxmi.outputs.uninitialized import comparable, find_uninitialized
from onnxmi.runtime.deployed import require_opening
from onnxmi.runtime.probe import Probe, run_shapes
from onnxmi.runtime.session import Feeds, open_session
from onnxmi.typing import Bools
from onnxmi.verification.agreement import Difference, ModelPair
from onnxmi.verification.discontinuities import find_discontinuities
from onnxmi.verification.masked_normalization import KNOWN, MaskedNormalization
from onnxmi.verification.masked_reference import Mask, OutputMask, with_masked_inputs


@dataclass(frozen=True)
class Check:
    """One thing that was checked: its name, whether it holds, and what was seen."""

    name: str
    passed: bool
    detail: str


def masked_original(model: Model, graph: ChannelGraph, probe: Probe, keeping: Keeping) -> onnx.ModelProto:
    """Return the original with the cut channels zeroed at the entrance of each consumer: the oracle of a rewrite.

    Normalizations over cut channels are spelled out so that they leave these out. Cut units of states are zero.
    """
    masks = list(_masks(model, graph, probe, keeping))
    outputs = _masked_states(graph, probe, keeping)
    return with_masked_inputs(model.proto, masks, _masked_normalizations(model, graph, probe, keeping), outputs)


def _masked_states(graph: ChannelGraph, probe: Probe, keeping: Keeping) -> Iterable[OutputMask]:
    """What a cut takes from a state that is given is not fed back."""
    for _, output in graph.states:
        if keeping.cuts_any(graph.axes[output]):
            yield OutputMask(output, axes_mask(graph.axes[output], keeping), probe.dtypes[output])


def _normalizations_over_cut(graph: ChannelGraph, keeping: Keeping) -> list[Normalization]:
    return [found for found in graph.normalizations if keeping.cuts_any(found.terms)]


def _not_decomposable(model: Model, graph: ChannelGraph, keeping: Keeping) -> list[str]:
    """Nodes that normalize over cut channels in a way that the oracle cannot spell out."""
    nodes = [(found, model.graph.nodes[found.node]) for found in _normalizations_over_cut(graph, keeping)]
    return [node.label for found, node in nodes if not _is_decomposable(model, node) or not found.axes]


def _is_decomposable(model: Model, node: Node) -> bool:
    """Whether the oracle can spell a normalization out; not one whose mean and deviation are read, too."""
    outputs = {info.name for info in model.graph.outputs}
    told = any(name in model.graph.consumers or name in outputs for name in node.outputs[1:] if name)
    return node.op in KNOWN and not (told and node.op in ("LayerNormalization", "BatchNormalization"))


def _masked_normalizations(
    model: Model, graph: ChannelGraph, probe: Probe, keeping: Keeping
) -> Iterable[MaskedNormalization]:
    for found in _normalizations_over_cut(graph, keeping):
        node = model.graph.nodes[found.node]
        axes = graph.read(found.node, 0, node.inputs[0])
        if _is_decomposable(model, node) and axes is not None:
            share = prod(keeping.size(axes[axis]) / axes[axis].size for axis in found.axes)
            dtype = probe.dtypes.get(node.inputs[0]) or model.graph.constant_dtype(node.inputs[0])
            yield MaskedNormalization(node.outputs[0], found.axes, axes_mask(axes, keeping), share, dtype)


def _masks(model: Model, graph: ChannelGraph, probe: Probe, keeping: Keeping) -> Iterable[Mask]:
    seen: set[tuple[int, int]] = set()
    for contraction in graph.contractions:
        place = (contraction.node, contraction.operand)
        if place in seen or not keeping.cuts(contraction.term):
            continue
        seen.add(place)
        node = model.graph.nodes[contraction.node]
        name = node.inputs[contraction.operand]
        axes = graph.read(contraction.node, contraction.operand, name)
        if axes is not None:
            zero = None if contraction.zero is None else node.inputs[contraction.zero]
            dtype = probe.dtypes.get(name) or model.graph.constant_dtype(name)
            yield Mask(node.result, contraction.operand, axes_mask(axes, keeping), dtype, zero)


def axes_mask(axes: Axes, keeping: Keeping) -> Bools:
    """Which entries of a tensor stay, with size one on the axes that do not matter."""
    factors: Bools = np.ones((1,) * len(axes), dtype=bool)
    for axis, term in enumerate(axes):
        if keeping.cuts(term):
            factors = factors & _axis_mask(axes, axis, keeping)
    return factors


def _axis_mask(axes: Axes, axis: int, keeping: Keeping) -> Bools:
    """What stays of one axis: one factor for what depends on it alone, and one for each axis that says which parts."""
    here = {atom.id for atom in atoms(axes[axis])}
    outer_atoms = {atom: keeping.outer_atom(atom) for atom in here}
    alone = keeping.only([atom for atom, over in outer_atoms.items() if over is None or over in here])
    mask = alone.mask(axes[axis]).reshape(_along(axes, axis))
    for outer, term in enumerate(axes):
        parts = {atom.id for atom in atoms(term)} if outer != axis else set()
        ragged = keeping.only([atom for atom, over in outer_atoms.items() if atom not in alone and over in parts])
        if ragged:
            place = {part: coordinates(term, part) for part in parts}
            found = ragged.mask(axes[axis], place)
            mask = mask & (found if outer < axis else found.T).reshape(_along(axes, axis, outer))
    return mask


def _along(axes: Axes, *chosen: int) -> list[int]:
    """Shape of a tensor with size one on all axes but the chosen ones."""
    return [term.size if axis in chosen else 1 for axis, term in enumerate(axes)]


@stage("check")
def check_equivalence(
    model: Model, graph: ChannelGraph, probe: Probe, keeping: Keeping, cut: onnx.ModelProto, feeds: Sequence[Feeds]
) -> Check:
    """Compare the unrepaired cut model with the masked original on real samples, without onnxruntime's optimizer."""
    name = "equals the original with the cut channels zeroed"
    unspelled = _not_decomposable(model, graph, keeping)
    if unspelled:
        return Check(name, passed=True, detail=f"not applicable: {unspelled[0]} normalises over what is cut")
    masked = masked_original(model, graph, probe, keeping)
    compared = comparable(model.graph, [info.name for info in model.graph.outputs])
    models = ModelPair(masked, cut, probe, [feeds, [probe.feeds]])
    found = models.of(compared)
    if found is not None and not found.passed:
        before, taken = _before_discontinuities(model, graph, keeping, compared)
        decided = models.of(taken) if before and taken else None
        if decided is not None and not decided.passed:  # on the last bit of what is decided on
            found = models.of(before)
    return _check(name, found, "the masked original runs on no sample")


def check_same(source: Model, model: Model, probe: Probe, feeds: Sequence[Feeds]) -> Check:
    """Compare a model with the source it was made from, on real samples or, without any, on the probe's."""
    name = "equals the source before anything is cut"
    outputs = comparable(source.graph, [info.name for info in source.graph.outputs])
    found = ModelPair(source.proto, model.proto, probe, [feeds or [probe.feeds]]).of(outputs)
    return _check(name, found, "the source runs on no sample")


def _check(name: str, found: Difference | None, unrunnable: str) -> Check:
    return Check(name, passed=False, detail=unrunnable) if found is None else Check(name, found.passed, str(found))


def _before_discontinuities(
    model: Model, graph: ChannelGraph, keeping: Keeping, outputs: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What can be compared where rounding decided on the outputs, and what is decided.

    The first are the outputs that do not depend on it, and what is decided on; none where rounding decides nothing.
    """
    decisions = find_discontinuities(model.graph)
    grounds, taken = (
        [name for name in names if not keeping.cuts_any(graph.axes.get(name, ()))]
        for names in (decisions.inputs, decisions.nodes)
    )
    if not grounds or not any(name in decisions.dependents for name in outputs):
        return (), ()
    made = [name for name in grounds if name in model.graph.producers]
    whole = dict.fromkeys([*(name for name in outputs if name not in decisions.dependents), *made])
    return tuple(whole), tuple(taken)


@stage("check")
def check_shapes(graph: ChannelGraph, probe: Probe, keeping: Keeping, cut: onnx.ModelProto, feeds: Feeds) -> Check:
    """Every tensor of the cut model, run on the probe's inputs, has the shape that the channel graph predicts.

    How many positions values decide on, a cut may change: there only what was cut is predicted. Where a branch was
    removed, what was computed from it may be a constant that broadcasts to that shape.
    """
    seen = run_shapes(cut, feeds)
    undecided = _with_data_dependent_size(Graph(cut))
    constant = Graph(cut).folded if keeping.emptied else frozenset()
    wrong = [
        f"{name} {seen[name]}"
        for name, axes in graph.axes.items()
        if name in seen and name not in constant and not _fits(axes, seen[name], keeping, only_cut=name in undecided)
    ]
    detail = f"{len(wrong)} differ, first {wrong[0]}" if wrong else f"{len(seen)} tensors"
    return Check("every tensor has the predicted shape", not wrong, detail)


def _with_data_dependent_size(graph: Graph) -> frozenset[str]:
    """Tensors whose sizes two models that agree need not share: values, or their rounding, decide on them."""
    return find_discontinuities(graph).dependents | Flow.of(graph).varying


def _fits(axes: Axes, shape: tuple[int, ...], keeping: Keeping, *, only_cut: bool) -> bool:
    return len(axes) == len(shape) and all(
        size == keeping.size(term) or (only_cut and not keeping.cuts(term))
        for term, size in zip(axes, shape, strict=True)
    )


@stage("check")
def check_result(source: Model, result: onnx.ModelProto, feeds: Sequence[Feeds]) -> list[Check]:
    """Checks on the final, repaired model: structure, interface, and that it runs to finite values."""
    return [_check_structure(source, result), _check_interface(source, result), _check_runs(source, result, feeds)]


def _check_structure(source: Model, result: onnx.ModelProto) -> Check:
    name = "passes the ONNX checker"
    if source.checker_error is not None:
        return Check(name, passed=True, detail=f"not applicable: the source fails it ({source.checker_error[:120]})")
    objection = checker_error(result)
    return Check(name, objection is None, objection or "strict, with shape inference")


def _check_interface(source: Model, result: onnx.ModelProto) -> Check:
    whole = with_whole_states(source.proto, result)
    same = [list(map(_value_type, a)) == list(map(_value_type, b)) for a, b in _interfaces(source.proto, whole)]
    narrow = narrower_text(source.proto, result)
    but = f", but for narrower states: {narrow}" if narrow else ""
    return Check("inputs and outputs are unchanged", all(same), f"names, types and shapes{but}")


def _interfaces(a: onnx.ModelProto, b: onnx.ModelProto) -> list[tuple[Any, Any]]:
    stored = {tensor.name for model in (a, b) for tensor in model.graph.initializer}  # old files list these as inputs
    inputs = [[value for value in graph.input if value.name not in stored] for graph in (a.graph, b.graph)]
    return [(inputs[0], inputs[1]), (a.graph.output, b.graph.output)]


def _value_type(value: onnx.ValueInfoProto) -> bytes:
    return bytes(value.SerializeToString(deterministic=True))


def _check_runs(source: Model, result: onnx.ModelProto, feeds: Sequence[Feeds]) -> Check:
    name = "runs under onnxruntime"
    undecided, unwritten = _with_data_dependent_size(source.graph), find_uninitialized(source.graph)
    try:
        require_opening(result)
        before, after = open_session(source.proto), open_session(result)
        for feed in feeds:
            for (output, wanted), got in zip(before.run(feed).items(), after.run(feed).values(), strict=True):
                same = _size(wanted, ranks=output in undecided) == _size(got, ranks=output in undecided)
                lost = output not in unwritten and _finite(wanted) and not _finite(got)
                if not same or lost:
                    return Check(
                        name,
                        passed=False,
                        detail=f"output {output} has shape {_size(got, ranks=False)} or values that are not finite",
                    )
    except ModelError as error:
        return Check(name, passed=False, detail=str(error))
    return Check(name, passed=True, detail="finite outputs of the original's shapes")


def _size(value: Any, *, ranks: bool) -> Any:
    """Shape of a tensor, or its rank; of sequences, of every part; of maps, their keys."""
    if isinstance(value, list):
        return [_size(part, ranks=ranks) for part in value]
    if isinstance(value, dict):
        return list(value)
    return np.ndim(value) if ranks else np.shape(value)


def _finite(value: Any) -> bool:
    return not isinstance(value, np.ndarray) or value.dtype.kind != "f" or bool(np.isfinite(value).all())


def require_passed(checks: Iterable[Check]) -> None:
    """Raise CheckError naming every check that failed."""
    failed = [f"{check.name}: {check.detail}" for check in checks if not check.passed]
    if failed:
        raise CheckError("the result was not written because a check failed: " + "; ".join(failed))
