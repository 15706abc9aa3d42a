"""One look at every tensor of a model: concrete shapes and small integer values.

Static shape inference leaves holes in real exports, so the model is run under onnxruntime on synthetic inputs with odd,
distinct sizes on its dynamic axes: a dynamic axis then cannot be mistaken for a static one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnxmi.errors import ModelError, stage
from onnxmi.model import Graph, Model
from onnxmi.model.hoisted_branches import in_branches_of_loops
from onnxmi.model.inner_shapes import with_inner_shapes
from onnxmi.model.narrow_states import narrowed_feeds
from onnxmi.model.taps import Seen
from onnxmi.runtime.idle_branches import run_idle_branches
from onnxmi.runtime.session import Feeds, Session, open_session
from onnxmi.runtime.synthetic import NO_SIZES, GivenSizes, attempts
from onnxmi.typing import Array

SMALL = 4096  # integer tensors up to this size are remembered with their values: they are shape arithmetic


@dataclass(frozen=True)
class Probe:
    """What a run showed.

    Attributes
    ----------
    shapes : mapping of tensor name to shape
        Tensors that are no arrays (sequences, maps) are absent.
    values : mapping of tensor name to array
        Small integer tensors.
    dtypes : mapping of tensor name to numpy dtype
        Of every tensor that a node makes, and of the inputs.
    feeds : mapping of graph input name to array
        What was fed.
    impossible : frozenset of str
        What branches would give that the model does not run on: see `onnxmi.runtime.idle_branches`.
    """

    shapes: Mapping[str, tuple[int, ...]]
    values: Mapping[str, Array]
    dtypes: Mapping[str, np.dtype[Any]]
    feeds: Feeds
    impossible: frozenset[str] = frozenset()


@stage("probe")
def probe(model: Model, feeds: Feeds | None = None, sizes: GivenSizes = NO_SIZES) -> Probe:
    """Run the model on synthetic inputs, on `feeds` where those do not work, and then on larger synthetic ones.

    Parameters
    ----------
    model : Model
        The model.
    feeds : mapping, optional
        Inputs that are at hand.
    sizes : GivenSizes
        What the user says of the sizes.

    Raises
    ------
    ModelError
        If onnxruntime runs the model on no inputs that were tried; the message is that of the first attempt.
    """
    graph = model.graph
    feeds = None if feeds is None else narrowed_feeds(model.proto, feeds)
    first_error: ModelError | None = None
    for session in sessions_showing(model.proto, all_tensors(graph), attempts(graph.inputs, feeds, sizes)):
        for attempt in attempts(graph.inputs, feeds, sizes):
            try:
                return _report(model, attempt, arrays(session.see(attempt)))
            except ModelError as error:
                first_error = first_error or error
    raise first_error or ModelError("the model has no inputs to try")


def sessions_showing(
    proto: onnx.ModelProto, names: Sequence[str], inputs: Iterable[Feeds], threads: int = 0
) -> Iterator[Session]:
    """Yield a session that shows tensors, and others for where it does not run.

    The second one is without tensors of branches in loops, where these do not run always; the third is without tensors
    whose size changes from one iteration to the next, either, which cannot be stacked.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model.
    names : sequence of str
        The tensors.
    inputs : iterable of Feeds
        Inputs to find out on what changes; the first that the model runs on are used.
    threads : int
        Intra-operator threads; 0 lets onnxruntime choose.
    """
    yield open_session(proto, taps=names, threads=threads, optimise=False)
    hidden = in_branches_of_loops(proto.graph).intersection(names)
    if hidden:
        names = [one for one in names if one not in hidden]
        yield open_session(proto, taps=names, threads=threads, optimise=False)
    changing = _of_changing_size(proto, inputs, threads).intersection(names)
    if changing:
        names = [one for one in names if one not in changing]
        yield open_session(proto, taps=names, threads=threads, optimise=False)


def _of_changing_size(proto: onnx.ModelProto, inputs: Iterable[Feeds], threads: int) -> frozenset[str]:
    """Return the tensors inside loops whose size is not the same in all iterations."""
    made, shapes = with_inner_shapes(proto)
    if not shapes:
        return frozenset()
    with suppress(ModelError):
        session = open_session(made, taps=list(shapes.values()), threads=threads, optimise=False)
        for feeds in inputs:
            with suppress(ModelError):
                seen = session.see(feeds)
                shown = {name: seen[shape] for name, shape in shapes.items() if shape in seen}
                return frozenset(name for name, one in shown.items() if one.in_all_iterations is None)
    return frozenset()


def _see_all(proto: onnx.ModelProto, feeds: Feeds) -> dict[str, Seen]:
    first_error: ModelError | None = None
    for session in sessions_showing(proto, all_tensors(Graph(proto)), [feeds]):
        try:
            return session.see(feeds)
        except ModelError as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def all_tensors(graph: Graph) -> list[str]:
    """Return the names of all tensors that a node makes, and of those that bodies are given."""
    made = (name for node in graph.nodes for name in node.outputs)
    return list(dict.fromkeys(filter(None, (*made, *graph.body_inputs))))


def arrays(seen: Mapping[str, Seen]) -> dict[str, Seen]:
    """Keep what are plain arrays (sequences, maps and missing optionals are left out)."""
    return {name: one for name, one in seen.items() if one.is_array}


def _report(model: Model, feeds: Feeds, seen: Mapping[str, Seen]) -> Probe:
    fed = {name: Seen(value) for name, value in feeds.items()}
    idle = run_idle_branches(model, {**fed, **seen})
    known = {**fed, **seen, **arrays(idle.seen)}
    integers = {name: one.in_all_iterations for name, one in known.items() if one.value.dtype.kind in "iub"}
    return Probe(
        shapes={name: model.graph.constant_shape(name) for name in model.graph.constants}
        | {name: one.shape for name, one in known.items()},
        values={
            name: value
            for name, value in integers.items()
            if name not in fed and value is not None and value.size <= SMALL
        },
        dtypes={name: one.value.dtype for name, one in known.items()},
        feeds=feeds,
        impossible=idle.impossible,
    )


def run_shapes(proto: onnx.ModelProto, feeds: Feeds) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a node makes when the model runs on given inputs, in one iteration."""
    return {name: shape for name, (_, shape) in run_types(proto, feeds).items()}


def run_types(proto: onnx.ModelProto, feeds: Feeds) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return the type and shape of every tensor that a node makes when the model runs on given inputs."""
    seen = arrays(_see_all(proto, narrowed_feeds(proto, feeds)))
    return {name: (one.value.dtype, one.shape) for name, one in seen.items()}


def work_shapes(proto: onnx.ModelProto, feeds: Feeds) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors with all iterations together: what the work on them is proportional to."""
    seen = arrays(_see_all(proto, narrowed_feeds(proto, feeds)))
    return {name: tuple(np.shape(one.by_sample)) for name, one in seen.items()}
