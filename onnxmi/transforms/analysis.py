"""A model looked through: what can be cut, what cannot, and what the later stages need to know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike

import onnx

from onnxmi.data.calibration import Calibration
from onnxmi.errors import UsageError
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.infer import infer
from onnxmi.graph.linear import Linear, find_linears
from onnxmi.model import Model, load
from onnxmi.outputs.infer import infer_meaning
from onnxmi.outputs.override import Override
from onnxmi.outputs.sample_axis import Runs
from onnxmi.outputs.view import Meaning
from onnxmi.runtime.probe import Probe, probe
from onnxmi.runtime.session import Feeds
from onnxmi.runtime.states import find_states
from onnxmi.runtime.synthetic import NO_SIZES, GivenSizes
from onnxmi.transforms.fix_inputs import fix_inputs
from onnxmi.transforms.hoist_gather import UnusedPositions, hoist_position_gather

ModelLike = Model | onnx.ModelProto | str | PathLike[str]


@dataclass(frozen=True, eq=False)
class Analysis:
    """A model with its channel graph and its linear operators.

    Attributes
    ----------
    source : Model
        The model as it was given.
    model : Model
        What is looked at and cut: the source, without unused positions.
    probe : Probe
        What a run of it showed.
    graph : ChannelGraph
        Its channel graph.
    linears : tuple of Linear
        Its linear operators.
    unused_positions : Unread
        Which positions are left out.
    """

    source: Model
    model: Model
    probe: Probe
    graph: ChannelGraph
    linears: tuple[Linear, ...]
    unused_positions: UnusedPositions = field(default_factory=UnusedPositions)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of the model before anything is cut."""
        before, after = (sum(node.op == "If" for node in one.graph.nodes) for one in (self.source, self.model))
        always = f"{before - after} conditions are always the same: branches that are never taken were left out"
        return (*([always] if after < before else []), *self.unused_positions.notes)


def analyze(
    model: ModelLike,
    feeds: Feeds | None = None,
    source: Model | None = None,
    sizes: GivenSizes = NO_SIZES,
    fix: Sequence[str] = (),
    states: Mapping[str, str] | None = None,
) -> Analysis:
    """Load a model and find out what can be cut.

    Parameters
    ----------
    model : path, onnx.ModelProto or Model
        What to look at.
    feeds : mapping, optional
        Inputs to run it on where synthetic ones do not work.
    source : Model, optional
        What it was made from, if it is not as it was given.
    sizes : GivenSizes
        What the user says of the sizes of synthetic inputs.
    fix : sequence of str
        Inputs that are fixed to a value, such as ``sr=16000``.
    states : mapping of str to str, optional
        Inputs -> the outputs that are fed back as them, whose units may be cut; those that names tell where it is
        empty. None to cut no state.

    Raises
    ------
    ModelError
        If the file cannot be read or onnxruntime cannot run the model.
    UsageError
        If an input that is fixed does not exist, or its value does not fit; or if there are no such states.
    """
    given = as_model(model)
    whole, fixed = fix_inputs(given, fix)
    seen = probe(whole, feeds, sizes)
    seen = replace(seen, feeds={**seen.feeds, **fixed})
    read, unread = hoist_position_gather(whole, seen)
    if read is not whole:
        seen = probe(read, seen.feeds, sizes)
    graph = infer(read, seen, None if states is None else _given_states(read, seen, states))
    return Analysis(source or given, read, seen, graph, find_linears(read.graph, graph), unread)


def _given_states(model: Model, seen: Probe, states: Mapping[str, str]) -> dict[str, str]:
    """Return the states that may be cut, inputs -> outputs."""
    known = dict(states) or {name: output for output, name in find_states(model.graph, seen).items() if name}
    names = {info.name for info in (*model.graph.inputs, *model.graph.outputs)}
    missing = [name for pair in known.items() for name in pair if name not in names]
    if missing:
        raise UsageError(f"--allow-interface: the model has no input or output {missing[0]!r}")
    if not known:
        raise UsageError("--allow-interface: no output is recognized as a state; --sequence with --state says which")
    return known


analyse = analyze  # the name that it had before; it goes on working


def find_meaning(
    analysis: Analysis,
    data: Calibration | None = None,
    overrides: Sequence[Override] = (),
    ignore: Sequence[str] = (),
    threads: int = 0,
) -> Meaning:
    """Find out what the outputs mean.

    Parameters
    ----------
    analysis : Analysis
        The model.
    data : Calibration, optional
        Samples to run it on, instead of what it was probed with.
    overrides : sequence of Override
        What the user says of outputs.
    ignore : sequence of str
        Graph outputs that are not to be compared.
    threads : int
        Intra-operator threads of onnxruntime; 0 lets it choose.

    Raises
    ------
    UsageError
        If an output that the user speaks of is not there.
    """
    model, seen = analysis.model, analysis.probe
    runs = Runs.synthetic(model, seen) if data is None else Runs.of(data)
    return infer_meaning(model, seen, analysis.graph, runs, overrides, ignore, threads)


def as_model(model: ModelLike) -> Model:
    """Return a Model from a path, a proto or a Model."""
    if isinstance(model, Model):
        return model
    if isinstance(model, onnx.ModelProto):
        return Model.of(model)
    if not isinstance(model, str | PathLike):
        raise UsageError(f"model: expected a path, an onnx.ModelProto or an onnxmi.Model, not {type(model).__name__}")
    return load(model)
