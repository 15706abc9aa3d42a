"""What is different between two models: interface, cost, layers, operators, stored tensors, and outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxmi.benchmark.compare import sample_macs
from onnxmi.benchmark.inputs import bench_inputs
from onnxmi.budget.fields import Count, MaybeText, Names, count, maybe_text, names
from onnxmi.data.batching import batched
from onnxmi.data.calibration import Calibration
from onnxmi.data.sources import CalibrationLike, as_calibration
from onnxmi.errors import ModelError, stage
from onnxmi.evaluation.comparison import Comparison, compare_models
from onnxmi.gate.interface import interface_changes
from onnxmi.graph.cost import Cost, parameters
from onnxmi.model import Model
from onnxmi.model.narrow_states import narrower_notes
from onnxmi.runtime.session import Feeds, open_session
from onnxmi.runtime.synthetic import GivenSizes, read_sizes
from onnxmi.transforms.analysis import ModelLike, analyze, as_model
from onnxmi.typing import Array


@dataclass(frozen=True)
class DiffOptions:
    """Options of `diff`.

    Attributes
    ----------
    data : path, mapping, iterable of feeds, Calibration or None
        Samples to compare the outputs on, as `onnxmi.prune` takes them; None makes one input up.
    metric : str or None
        A metric of `onnxmi.evaluation.output_metrics` for all outputs that it fits; None for that of each kind.
    outputs, ignore_outputs : tuple of str
        What outputs mean, where it is not as inferred; outputs that are not compared.
    shape, dim : str or iterable of str
        Sizes of synthetic inputs: "x=1,512" for an input, "T=512" for a dynamic axis.
    threads, batch_size : int
        Intra-operator threads, 0 for onnxruntime's choice; samples in a run.
    """

    data: CalibrationLike | None = None
    metric: MaybeText = maybe_text()
    outputs: Names = names()
    ignore_outputs: Names = names()
    shape: Names = names()
    dim: Names = names()
    threads: Count = count(0)
    batch_size: Count = count(32)

    @property
    def sizes(self) -> GivenSizes:
        """What the user says of the sizes of synthetic inputs."""
        return read_sizes(self.shape, self.dim)


@dataclass(frozen=True)
class LayerChange:
    """A layer in both models, by its name; a size is None where a model has no such layer."""

    name: str
    kind: str
    before: int | None
    after: int | None


@dataclass(frozen=True)
class TensorChanges:
    """How many stored tensors are the same, have other values, another shape or type, are gone, or are new."""

    same: int
    values: int
    shape: int
    gone: int
    new: int


@dataclass(frozen=True)
class OutputDistance:
    """How far one output of the models is apart on the same inputs.

    Attributes
    ----------
    name : str
        Of the output.
    relative : float or None
        Root of the squared differences' sum over that of the first model's squared values; None for other shapes or
        types than floats.
    largest : float or None
        Largest absolute difference.
    """

    name: str
    relative: float | None
    largest: float | None


@dataclass(frozen=True, eq=False)
class Difference:
    """What is different between two models.

    Attributes
    ----------
    names : tuple of two str
        Where they come from.
    interface : tuple of str
        How inputs and outputs differ; empty where a caller sees no difference.
    costs : tuple of two Cost
        Parameters, bytes, MACs for one sample.
    layers : tuple of LayerChange
        Layers whose number of units differs.
    same_layers : int
        Layers with the same number of units in both.
    operators : mapping of str to tuple of two int
        Operators whose number differs.
    tensors : TensorChanges
        By name.
    distances : tuple of OutputDistance
        On one run; empty where the interface differs.
    compared : Comparison or None
        By the metrics of `check`, where samples are given.
    notes : tuple of str
        What else to know.
    """

    names: tuple[str, str]
    interface: tuple[str, ...]
    costs: tuple[Cost, Cost]
    layers: tuple[LayerChange, ...]
    same_layers: int
    operators: Mapping[str, tuple[int, int]]
    tensors: TensorChanges
    distances: tuple[OutputDistance, ...]
    compared: Comparison | None
    notes: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        changed = self.tensors.values or self.tensors.shape or self.tensors.gone or self.tensors.new
        return not (self.interface or self.layers or self.operators or changed)


@stage("diff")
def difference(first: ModelLike, second: ModelLike, options: DiffOptions) -> Difference:
    """Find out what is different between two models.

    Raises
    ------
    DataError
        If a file cannot be used, or a model does not run.
    UsageError
        If an option does not fit the models.
    """
    old, new = as_model(first), as_model(second)
    data = None if options.data is None else as_calibration(options.data, old)
    changes = tuple(interface_changes(old, new))
    feeds = None if changes else bench_inputs(old, data, sizes=options.sizes)
    before, after = _layers(old, feeds, options), _layers(new, feeds, options)
    changed = [
        LayerChange(name, kind, before.get((name, kind)), after.get((name, kind)))
        for name, kind in dict.fromkeys((*before, *after))
    ]
    distances, notes = _distances(old, new, feeds, options.threads)
    return Difference(
        names=(str(old.path or "the first model"), str(new.path or "the second model")),
        interface=changes,
        costs=(_cost(old, None if changes else data, options), _cost(new, None if changes else data, options)),
        layers=tuple(change for change in changed if change.before != change.after),
        same_layers=sum(change.before == change.after for change in changed),
        operators=_operators(old, new),
        tensors=_tensors(old, new),
        distances=distances,
        compared=None if data is None or changes else _compared(old, new, data, options),
        notes=(*notes, *narrower_notes(old.proto, new.proto), *(data.notes if data is not None else ())),
    )


def _layers(model: Model, feeds: Feeds | None, options: DiffOptions) -> dict[tuple[str, str], int]:
    graph = analyze(model, feeds, sizes=options.sizes).graph
    return {(layer.name, layer.kind): layer.units for layer in graph.layers}


def _cost(model: Model, data: Calibration | None, options: DiffOptions) -> Cost:
    return Cost(parameters(model.graph), model.size, sample_macs(model, data, None, options.sizes))


def _operators(old: Model, new: Model) -> dict[str, tuple[int, int]]:
    before, after = (Counter(node.op for node in model.graph.nodes) for model in (old, new))
    kinds = sorted({*before, *after})
    return {kind: (before[kind], after[kind]) for kind in kinds if before[kind] != after[kind]}


def _tensors(old: Model, new: Model) -> TensorChanges:
    before, after = set(old.graph.constants), set(new.graph.constants)
    kinds = Counter(_tensor_change(old, new, name) for name in before & after)
    return TensorChanges(kinds["same"], kinds["values"], kinds["shape"], len(before - after), len(after - before))


def _tensor_change(old: Model, new: Model, name: str) -> str:
    first, second = old.graph, new.graph
    if (first.constant_shape(name), first.constant_dtype(name)) != (
        second.constant_shape(name),
        second.constant_dtype(name),
    ):
        return "shape"
    one, other = first.constant(name), second.constant(name)
    return "same" if np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes() else "values"


def _compared(old: Model, new: Model, data: Calibration, options: DiffOptions) -> Comparison:
    return compare_models(
        old,
        new,
        batched(old, data, options.threads),
        metric=options.metric,
        overrides=options.outputs,
        ignore=options.ignore_outputs,
        batch_size=options.batch_size,
        threads=options.threads,
    )


def _distances(
    old: Model, new: Model, feeds: Feeds | None, threads: int
) -> tuple[tuple[OutputDistance, ...], tuple[str, ...]]:
    """Return the distances of all outputs on the same inputs, or why there are none."""
    if feeds is None:
        return (), ("the outputs are not compared: the inputs or outputs are not the same",)
    try:
        results = [open_session(model.proto, threads=threads).run(feeds) for model in (old, new)]
    except ModelError as error:
        return (), (f"the outputs are not compared: {error}",)
    return tuple(_distance(name, results[0][name], results[1].get(name)) for name in results[0]), ()


def _distance(name: str, first: Array, second: Array | None) -> OutputDistance:
    comparable = second is not None and first.shape == second.shape and first.dtype.kind in "fiu"
    if not comparable or second is None or not first.size:
        return OutputDistance(name, None, None)
    reference = first.astype(np.float64)
    apart = second.astype(np.float64) - reference
    scale = float(np.linalg.norm(reference))
    relative = float(np.linalg.norm(apart)) / scale if scale else None
    return OutputDistance(name, relative, float(np.abs(apart).max()))
