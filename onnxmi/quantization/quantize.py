"""Float model in, 8-bit model out, by a recipe: the same recipe gives the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import onnx

from onnxmi.errors import ModelError, PlanError, stage
from onnxmi.model import Graph
from onnxmi.model.bodies import nested_nodes
from onnxmi.model.external_data import serialized
from onnxmi.model.graph import OPTIONAL_DEFAULTS
from onnxmi.model.mapped import with_values_inside
from onnxmi.model.taps import with_taps
from onnxmi.quantization import ort_quantizer
from onnxmi.quantization.operators import Quantizable, glue_between, quantizable
from onnxmi.quantization.processor import saturates
from onnxmi.quantization.recipe import HALF, NEAREST, Recipe
from onnxmi.runtime.session import Feeds
from onnxmi.typing import Array

FOUR_BIT_IR = 10  # version of the file format that has 4-bit tensors
_FOUR_BIT_TYPES = (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
PER_CHANNEL_OPSET = 13  # from which on DequantizeLinear takes a scale for each column


@dataclass(frozen=True, eq=False)
class PreparedModel:
    """A float model as onnxruntime's quantizer takes it.

    Attributes
    ----------
    source : onnx.ModelProto
        The model.
    proto : onnx.ModelProto
        The same: constants folded, normalizations fused with convolutions, every operator with a name of its own, and
        the tensors that are compared among its outputs.
    kept : tuple of str
        These tensors.
    """

    source: onnx.ModelProto
    proto: onnx.ModelProto
    kept: tuple[str, ...]

    @cached_property
    def graph(self) -> Graph:
        """The prepared model, to be read."""
        return Graph(self.proto)

    def with_weights(self, values: Mapping[str, Array]) -> PreparedModel:
        """Return the same with other values of some stored tensors, of the same types and shapes."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for tensor in proto.graph.initializer:
            if tensor.name in values:
                value = values[tensor.name]
                kind, sizes = tensor.data_type, tensor.dims
                new = onnx.TensorProto(name=tensor.name, data_type=kind, dims=sizes, raw_data=value.tobytes())
                tensor.CopyFrom(new)
        return PreparedModel(self.source, proto, self.kept)

    def quantizable(self, mode: str) -> tuple[Quantizable, ...]:
        """Return the operators that can be quantized in a mode."""
        return quantizable(self.graph, mode)

    def everything(self, mode: str, calibration: str = "minmax") -> Recipe:
        """Return the recipe that quantizes all of them, as this processor needs it."""
        opset = next((entry.version for entry in self.proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
        names = tuple(operator.name for operator in self.quantizable(mode))
        if mode == HALF:
            return Recipe(mode, (), kept=self.kept)
        if mode == "weights":
            return Recipe(mode, (), kept=self.kept, four_bit=names)
        return Recipe(
            mode,
            names,
            per_channel=mode == "dynamic" or opset >= PER_CHANNEL_OPSET,
            reduced_range=saturates(),
            calibration=calibration if mode == "static" else "",
            kept=self.kept,
        )


Rounding = Callable[[PreparedModel, Recipe], PreparedModel]
"""Moves the weights that a recipe quantizes to where they should be rounded to."""


def require_small(proto: onnx.ModelProto) -> None:
    """Refuse a model that onnxruntime's quantizer cannot take in one file.

    Raises
    ------
    ModelError
        If it is over 2 GiB.
    """
    if serialized(proto) is None:
        raise ModelError("--quantize: the model is over 2 GiB, which is not supported; use --quantize none")


@stage("quantize")
def prepare(proto: onnx.ModelProto, kept: Sequence[str] = ()) -> PreparedModel:
    """Fold constants and fuse what is exact.

    Parameters
    ----------
    proto : onnx.ModelProto
        A float model.
    kept : sequence of str
        Inner tensors that have to stay as they are called.

    Raises
    ------
    ModelError
        If onnxruntime cannot.
    """
    whole = with_values_inside(proto)
    outputs = [value.name for value in proto.graph.output]
    kept = tuple(name for name in dict.fromkeys(kept) if name not in outputs)
    fused = ort_quantizer.fuse(with_taps(whole, [*outputs, *kept])[0])
    _name_operators(fused)
    return PreparedModel(whole, fused, kept)


def _name_operators(proto: onnx.ModelProto) -> None:
    """Give every operator a name of its own: the quantizer tells them apart by that."""
    times = Counter(node.name for node in proto.graph.node)
    for node in proto.graph.node:
        if not node.name or times[node.name] > 1:
            node.name = f"{node.op_type}:{next(filter(None, node.output), '')}"


@stage("quantize")
def quantize(prepared: PreparedModel, recipe: Recipe) -> onnx.ModelProto:
    """Quantize a prepared model; a static recipe has to have its ranges, see `with_ranges`.

    Raises
    ------
    ModelError
        If onnxruntime cannot.
    """
    if recipe.mode == HALF:
        return _with_interface_of(ort_quantizer.to_half(prepared.proto), prepared.source)
    made = prepared.proto
    if recipe.four_bit:
        made = ort_quantizer.to_4_bits(made, _operators(prepared, recipe.four_bit))
    if recipe.int8:  # of no operators, onnxruntime would take all
        made = _in_8_bits(prepared, recipe, made)
    return _with_interface_of(made, prepared.source)


def _in_8_bits(prepared: PreparedModel, recipe: Recipe, proto: onnx.ModelProto) -> onnx.ModelProto:
    """Quantize the operators of a recipe that are 8-bit."""
    nodes = _operators(prepared, recipe.int8)
    how = {"per_channel": recipe.per_channel, "reduced": recipe.reduced_range}
    if recipe.mode == "static":
        nodes |= _glue(prepared, recipe)
        return ort_quantizer.to_static(proto, nodes, set(nodes.values()), recipe.ranges, **how)
    return ort_quantizer.to_dynamic(proto, nodes, set(nodes.values()), **how)


def _operators(prepared: PreparedModel, names: Collection[str]) -> dict[str, str]:
    """Return the types of some operators by their names, in the model's order."""
    return {node.name: node.op for node in prepared.graph.nodes if node.name in names}


def with_ranges(prepared: PreparedModel, recipe: Recipe, feeds: Iterable[Feeds]) -> Recipe:
    """Return a recipe with the ranges of activations that samples give; of a dynamic one, itself."""
    if recipe.mode != "static":
        return recipe
    read = {*recipe.int8, *_glue(prepared, recipe)}
    operators = {node.op for node in prepared.graph.nodes if node.name in read}
    found = ort_quantizer.find_ranges(prepared.proto, feeds, recipe.calibration, operators)
    needed = {name for node in prepared.graph.nodes if node.name in read for name in (*node.inputs, *node.outputs)}
    return replace(recipe, ranges={name: ends for name, ends in found.items() if name in needed})


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """An 8-bit model, and how it was made.

    Attributes
    ----------
    proto : onnx.ModelProto
        The model.
    recipe : Recipe
        With the ranges that were used.
    """

    proto: onnx.ModelProto
    recipe: Recipe


def follow(
    recipe: Recipe, proto: onnx.ModelProto, feeds: Iterable[Feeds], rounding: Rounding | None = None
) -> QuantizedModel:
    """Quantize a model by a recipe that was made for another cut of the same original.

    Operators that this cut does not have are left out. Those that the other did not have are quantized, unless the
    recipe leaves them float. Ranges are found where the recipe has none.

    Parameters
    ----------
    rounding : callable, optional
        How weights are rounded where the recipe does not round each to the nearest; all are, where it is not given.

    Raises
    ------
    ModelError
        If onnxruntime cannot.
    """
    prepared = prepare(proto, recipe.kept)
    whole = prepared.everything(recipe.mode)
    known = {operator.name: operator for operator in prepared.quantizable(recipe.mode)}
    small = [name for name in recipe.four_bit if name in whole.int8 and known[name].in_blocks]
    chosen = whole.with_4_bits(small).with_float([name for name in recipe.left_float if name in known])
    own = replace(recipe, int8=chosen.int8, four_bit=chosen.four_bit, left_float=chosen.left_float)
    rounded = _rounded(prepared, own, rounding)
    ready = own if own.ranges else with_ranges(rounded, own, feeds)
    return QuantizedModel(quantize(rounded, ready), ready)


def _rounded(prepared: PreparedModel, recipe: Recipe, rounding: Rounding | None) -> PreparedModel:
    return prepared if rounding is None or recipe.rounding == NEAREST else rounding(prepared, recipe)


def replay(recipe: Recipe, proto: onnx.ModelProto, rounding: Rounding | None = None) -> onnx.ModelProto:
    """Quantize a model exactly as a plan says; `rounding` is as for `follow`.

    Raises
    ------
    PlanError
        If the recipe is of another model.
    ModelError
        If onnxruntime cannot.
    """
    prepared = prepare(proto, recipe.kept)
    require_operators(prepared, recipe)
    return quantize(_rounded(prepared, recipe, rounding), recipe)


def require_operators(prepared: PreparedModel, recipe: Recipe) -> None:
    """Refuse a recipe of another model.

    Raises
    ------
    PlanError
        If it names an operator that cannot be 8-bit here, or one has no range.
    """
    known = {operator.name: operator for operator in prepared.quantizable(recipe.mode)}
    unknown = [name for name in recipe.int8 if name not in known]
    unknown += [name for name in recipe.four_bit if name not in known or not known[name].in_blocks]
    if unknown:
        raise PlanError(
            f"the plan quantizes operator {unknown[0]!r}, which this model does not have or cannot quantize"
        )


def _glue(prepared: PreparedModel, recipe: Recipe) -> dict[str, str]:
    return _operators(prepared, set(glue_between(prepared.graph, set(recipe.int8))))


def _with_interface_of(made: onnx.ModelProto, source: onnx.ModelProto) -> onnx.ModelProto:
    """Return a quantized model with exactly the inputs, outputs and notes of the float one."""
    stored = {tensor.name for tensor in source.graph.initializer}
    for field, values in (
        ("input", [value for value in source.graph.input if value.name not in stored]),
        ("output", source.graph.output),
    ):
        made.graph.ClearField(field)
        getattr(made.graph, field).extend(values)
    four_bit = any(tensor.data_type in _FOUR_BIT_TYPES for tensor in made.graph.initializer)
    made.ir_version = max(made.ir_version, FOUR_BIT_IR if four_bit else OPTIONAL_DEFAULTS)
    made.graph.ClearField("value_info")  # says nothing that cannot be inferred
    made.graph.name = source.graph.name
    made.ClearField("metadata_props")
    made.metadata_props.extend(source.metadata_props)
    used = set(_domains(made))
    entries = [entry for entry in made.opset_import if entry.domain in used]
    copies = [onnx.OperatorSetIdProto.FromString(entry.SerializeToString()) for entry in entries]
    made.ClearField("opset_import")
    made.opset_import.extend(copies)
    return made


def _domains(proto: onnx.ModelProto) -> Iterator[str]:
    """Yield the domains whose operator sets a model needs."""
    yield from ("", "ai.onnx")
    yield from (node.domain for node in nested_nodes(proto.graph))
