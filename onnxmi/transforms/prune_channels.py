"""Rewriting: carry a cut out on a copy of the model.

Generic, and driven by the channel graph alone: every stored tensor is sliced along every axis by what is kept of its
term; attributes and shape operands that state a size are restated. Shape arithmetic goes on seeing the original
sizes (so that a scale computed from a shape does not change), and the places where its results are used are corrected.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import onnx

from onnxmi.axes.keeping import Keeping
from onnxmi.axes.terms import Axes, Indices, Term, atoms, coordinates
from onnxmi.errors import InvariantError, stage
from onnxmi.graph.channel_graph import ChannelGraph, SizeOperand, Use
from onnxmi.graph.linear import Linear, new_bias
from onnxmi.graph.parameters import Bias, computing
from onnxmi.model import Model
from onnxmi.model.editor import Editor
from onnxmi.model.narrow_states import NarrowState, say_narrow
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.empty_branches import Branches, constant_value
from onnxmi.typing import Array, Floats


@dataclass(frozen=True, eq=False)
class Replacement:
    """Repaired parameters of one linear operator.

    Attributes
    ----------
    linear : Linear
        The operator.
    weights : array or None
        In the operator's own layout and type, of the shape the cut leaves; None for the unrepaired cut, with a bias.
    shift : (M,) float64
        What to add to its bias, for the outputs that stay.
    """

    linear: Linear
    weights: Array | None
    shift: Floats


@dataclass(frozen=True, eq=False)
class VectorReplacement:
    """A new value for a stored vector that one node reads."""

    node: int
    operand: int
    value: Array


@stage("cut")
def prune_channels(cut: Cut, replacements: Sequence[Replacement | VectorReplacement] = ()) -> onnx.ModelProto:
    """Return a copy of the model without the cut channels.

    Parameters
    ----------
    cut : Cut
        The model, which is not changed, and what stays of it.
    replacements : sequence of Replacement and VectorReplacement
        Repaired parameters to write instead of the plain slices.

    Raises
    ------
    InvariantError
        If a size cannot be restated; inference should have frozen such an axis.
    PlanError
        If nothing is kept of a layer that something cannot do without.
    """
    model, keeping = cut.model, cut.keeping
    editor = Editor(model.proto, model.spill_file)
    branches = _without_computing(model, cut.branches, replacements)
    _remove_branches(cut, branches, replacements, editor)
    graph = branches.without(cut.graph) if branches.removed else cut.graph
    _slice_stored(model, graph, keeping, editor)
    _slice_shared_vectors(model, graph, keeping, editor)
    _update_size_attributes(graph, keeping, editor)
    _update_size_operands(model, graph, keeping, editor)
    _keep_original_sizes_in_shape_arithmetic(model, graph, keeping, editor)
    _update_value_info(graph, keeping, editor)
    for replacement in replacements:
        if isinstance(replacement, VectorReplacement):
            name = model.graph.nodes[replacement.node].inputs[replacement.operand]
            added = editor.add_initializer(name, replacement.value)
            editor.set_input(replacement.node, replacement.operand, added)
        elif branches.remain(replacement.linear):
            _install(cut, replacement, editor)
    made = editor.finish()
    states = narrowed_states(graph, keeping)
    if states:
        say_narrow(made, states)
    return made


def narrowed_states(graph: ChannelGraph, keeping: Keeping) -> tuple[NarrowState, ...]:
    """Return the states in the model's interface that a cut makes narrower, and the units that stay of them."""
    narrow = []
    for name in (name for pair in graph.states for name in pair):
        axes = graph.axes.get(name, ())
        if keeping.cuts_any(axes):
            index = kept_index(axes, keeping)
            cut = [keeping.cuts(term) for term in axes]
            sizes = tuple(term.size if here else None for term, here in zip(axes, cut, strict=True))
            narrow.append(NarrowState(name, sizes, tuple(i if c else None for i, c in zip(index, cut, strict=True))))
    return tuple(narrow)


def slice_array(array: Array, axes: Axes, keeping: Keeping) -> Array:
    """Return the part of an array that stays.

    A ragged atom whose outer atom lies on another axis of the array (a grouped convolution's weight) keeps a different
    set of positions in every row of that axis.
    """
    return np.ascontiguousarray(array[kept_index(axes, keeping)]) if axes else array


def kept_index(axes: Axes, keeping: Keeping) -> tuple[Indices, ...]:
    """Return which positions of a tensor stay, axis by axis, in the form that numpy indexes by."""
    outer = _outer_axes(axes, keeping)
    index: list[Indices] = []
    for axis, term in enumerate(axes):
        if axis in outer:
            index.append(_per_group_index(axes, axis, outer[axis], keeping))
            continue
        kept = keeping.positions(term)
        index.append(kept.reshape(tuple(-1 if i == axis else 1 for i in range(len(axes)))))
    return tuple(index)


def sliced_shape(graph: ChannelGraph, name: str, keeping: Keeping) -> tuple[int, ...]:
    """Return the shape that a stored tensor has after the cut."""
    return keeping.shape(graph.axes[name])


def _install(cut: Cut, replacement: Replacement, editor: Editor) -> None:
    model, keeping, linear = cut.model, cut.keeping, replacement.linear
    if replacement.weights is not None and linear.weights.stored:
        editor.set_constant(linear.weight_name, replacement.weights)
    elif replacement.weights is not None:
        name = editor.add_initializer(linear.weight_name, replacement.weights)
        for slot in linear.slots:
            editor.set_input(*slot, name)
    if not linear.holds_bias:
        return
    outputs = np.flatnonzero(linear.kept_outputs(keeping).reshape(-1))
    for node, end, bias in zip(linear.nodes, linear.ends, linear.biases, strict=True):
        sliced = _several_biases(cut, linear, node.index, bias, editor) if linear.layout.shares_bias else None
        value = new_bias(model, linear, bias, replacement.shift, outputs, sliced)
        if bias is not None and bias.stored is not None:
            editor.set_input(*bias.stored.use, editor.add_initializer(bias.stored.name, value))
        elif linear.layout.bias is None:
            editor.add_after(end.index, "Add", value)
        else:
            added = editor.add_initializer(f"{linear.weight_name}.bias", value)
            editor.set_input(node.index, linear.layout.bias, added)


def _several_biases(cut: Cut, linear: Linear, node: int, bias: Bias | None, editor: Editor) -> Array | None:
    """What stays of biases that are stored as one: as another replacement left them, or as the model computes them."""
    stored = editor.stored(node, linear.layout.bias)
    if stored is not None or bias is None or bias.stored is None:
        return stored
    return slice_array(bias.stored.value(cut.model), cut.graph.axes[bias.stored.name], cut.keeping)


def _without_computing(
    model: Model, branches: Branches, replacements: Sequence[Replacement | VectorReplacement]
) -> Branches:
    """Take away, too, what computes the weights that repaired ones are stored in place of."""
    computed = {
        made.linear.weight_name
        for made in replacements
        if isinstance(made, Replacement) and made.weights is not None and not made.linear.weights.stored
    }
    gone = {node for name in computed for node in computing(model.graph, name)}
    made = {name for node in gone for name in model.graph.nodes[node].outputs}
    return replace(branches, removed=branches.removed | gone, absent=branches.absent | made)


def _remove_branches(
    cut: Cut, branches: Branches, replacements: Sequence[Replacement | VectorReplacement], editor: Editor
) -> None:
    shifts = {made.linear.key: made.shift for made in replacements if isinstance(made, Replacement)}
    for found in branches.constants:
        value = constant_value(cut.model, cut.graph, cut.keeping, found, shifts.get(found.linear.key))
        name = editor.add_initializer(found.result, value)
        for node, operand in cut.model.graph.consumers[found.result]:
            editor.set_input(node.index, operand, name)
    editor.remove(branches.removed, branches.absent)


def _outer_axes(axes: Axes, keeping: Keeping) -> dict[int, list[int]]:
    """Axis with ragged atoms -> the other axes that hold their outer atoms (absent where both lie on one axis)."""
    found: dict[int, set[int]] = defaultdict(set)
    for axis, term in enumerate(axes):
        held = {atom.id for atom in atoms(term)}
        for atom in held:
            over = keeping.outer_atom(atom)
            if over is not None and over not in held:
                found[axis].add(next(i for i, other in enumerate(axes) if over in {a.id for a in atoms(other)}))
    return {axis: sorted(outer) for axis, outer in found.items()}


def _per_group_index(axes: Axes, axis: int, outer: Sequence[int], keeping: Keeping) -> Indices:
    """Kept positions of an axis for every kept row of the outer axes, shaped to broadcast over the array."""
    rows = [keeping.positions(axes[other]) for other in outer]
    context = {
        atom.id: coordinates(axes[other], atom.id)[place.reshape(-1)]
        for other, place in zip(outer, np.meshgrid(*rows, indexing="ij"), strict=True)
        for atom in atoms(axes[other])
    }
    mask = keeping.mask(axes[axis], context)
    positions = np.nonzero(mask)[1].reshape(*map(len, rows), -1)
    sizes = dict(zip((*outer, axis), positions.shape, strict=True))
    in_order = positions.transpose(np.argsort((*outer, axis)))
    return in_order.reshape([sizes.get(number, 1) for number in range(len(axes))])


def _slice_stored(model: Model, graph: ChannelGraph, keeping: Keeping, editor: Editor) -> None:
    for name in model.graph.constants:
        axes = graph.axes.get(name)
        if axes is not None and keeping.cuts_any(axes):
            editor.set_constant(name, slice_array(model.graph.constant(name), axes, keeping))


def _slice_shared_vectors(model: Model, graph: ChannelGraph, keeping: Keeping, editor: Editor) -> None:
    """A vector that several nodes read is sliced for each, and stays one where all want the same slice.

    What subgraphs and callers read is the whole of it.
    """
    readings: dict[str, list[tuple[Use, Indices]]] = defaultdict(list)
    for (node, operand), axes in graph.uses.items():
        kept = keeping.positions(axes[0])
        readings[model.graph.nodes[node].inputs[operand]].append(((node, operand), kept))
    for name, uses in readings.items():
        variants: dict[bytes, str] = {}
        whole = model.graph.constant(name)
        stays = name in model.graph.exposed or any(len(kept) == len(whole) for _, kept in uses)
        for (node, operand), kept in uses:
            if len(kept) == len(whole):
                continue
            key = kept.tobytes()
            if key not in variants:
                variants[key] = editor.add_initializer(name, whole[kept]) if stays or variants else name
                if variants[key] == name:
                    editor.set_constant(name, whole[kept])
                    editor.set_shape(name, [len(kept)])
            editor.set_input(node, operand, variants[key])


def _update_size_attributes(graph: ChannelGraph, keeping: Keeping, editor: Editor) -> None:
    for stated in graph.size_attributes:
        if keeping.cuts(stated.term):
            editor.set_size_attribute(stated.node, stated.attribute, stated.entry, keeping.size(stated.term))
    for pinned in graph.pinned:
        if keeping.cuts(pinned.term):
            editor.add_attribute(pinned.node, pinned.attribute, pinned.value)


def _update_size_operands(model: Model, graph: ChannelGraph, keeping: Keeping, editor: Editor) -> None:
    for stated in graph.size_operands:
        if not keeping.cuts_any(stated.terms):
            continue
        name = model.graph.nodes[stated.node].inputs[stated.operand]
        if stated.literal:
            value = np.array(_updated_sizes(stated, keeping), dtype=stated.dtype)
            editor.set_input(stated.node, stated.operand, editor.add_initializer(name, value))
        else:
            ratios = [
                _ratio(t, keeping) if abs(v) == t.size and t.size else Fraction(1)
                for t, v in zip(stated.terms, stated.value, strict=True)
            ]
            editor.set_input(stated.node, stated.operand, editor.scale(name, ratios, stated.dtype, before=stated.node))


def _updated_sizes(stated: SizeOperand, keeping: Keeping) -> list[int]:
    """New entries: a size that was spelled out is spelled anew; 1 (broadcast), -1 and 0 keep their meaning.

    A Slice may state a size as a negative position, counted from the end.
    """
    return [
        keeping.size(term) * (1 if value > 0 else -1) if abs(value) == term.size else value
        for term, value in zip(stated.terms, stated.value, strict=True)
    ]


def _ratio(term: Term, keeping: Keeping) -> Fraction:
    return Fraction(keeping.size(term), term.size)


def _keep_original_sizes_in_shape_arithmetic(
    model: Model, graph: ChannelGraph, keeping: Keeping, editor: Editor
) -> None:
    for reader in graph.shape_readers:
        node = model.graph.nodes[reader]
        axes = graph.read(reader, 0, node.inputs[0])
        if axes is None:
            continue
        start, end = int(node.attributes.get("start", 0)), node.attributes.get("end")
        read = axes[start : None if end is None else int(end)]
        if keeping.cuts_any(read):
            if keeping.empties_any(read):
                raise InvariantError(f"{node.label} reads the shape of a tensor that was cut to nothing")
            ratios = [1 / _ratio(term, keeping) if term.size else Fraction(1) for term in read]
            editor.scale_output(reader, node.outputs[0], ratios)


def _update_value_info(graph: ChannelGraph, keeping: Keeping, editor: Editor) -> None:
    for name, axes in graph.axes.items():
        if keeping.cuts_any(axes):
            editor.set_shape(name, [keeping.size(term) if keeping.cuts(term) else None for term in axes])
