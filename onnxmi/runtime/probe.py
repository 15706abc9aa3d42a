"""One look at every tensor of a model: concrete shapes and small integer values.

Static shape inference leaves holes in real exports, so the model is run under onnxruntime on synthetic inputs with odd,
distinct sizes on its dynamic axes: a dynamic axis then cannot be mistaken for a static one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnxmi.errors import ModelError, stage
from onnxmi.model import Model
from onnxmi.runtime.session import Feeds, as_numpy, open_session
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
    """

    shapes: Mapping[str, tuple[int, ...]]
    values: Mapping[str, Array]
    dtypes: Mapping[str, np.dtype[Any]]
    feeds: Feeds


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
    names = [name for name in dict.fromkeys(_all_tensors(model)) if name]
    session = open_session(model.proto, taps=names, optimise=False)
    first_error: ModelError | None = None
    for attempt in attempts(graph.inputs, feeds, sizes):
        try:
            return _report(model, attempt, as_numpy(session.run(attempt)))
        except ModelError as error:
            first_error = first_error or error
    raise first_error or ModelError("the model has no inputs to try")


def _all_tensors(model: Model) -> Iterator[str]:
    for node in model.graph.nodes:
        yield from node.outputs


def _report(model: Model, feeds: Feeds, seen: Mapping[str, Array]) -> Probe:
    shapes = {name: model.graph.constant_shape(name) for name in model.graph.constants}
    shapes |= {name: tuple(value.shape) for name, value in feeds.items()}
    shapes |= {name: tuple(value.shape) for name, value in seen.items()}
    values = {name: value for name, value in seen.items() if value.dtype.kind in "iub" and value.size <= SMALL}
    dtypes = {name: value.dtype for name, value in [*feeds.items(), *seen.items()]}
    return Probe(shapes, values, dtypes, feeds)


def run_shapes(proto: onnx.ModelProto, feeds: Feeds) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a node makes when the model runs on given inputs."""
    return {name: shape for name, (_, shape) in run_types(proto, feeds).items()}


def run_types(proto: onnx.ModelProto, feeds: Feeds) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return the type and shape of every tensor that a node makes when the model runs on given inputs."""
    names = [out for node in proto.graph.node for out in node.output if out]
    session = open_session(proto, taps=list(dict.fromkeys(names)), optimise=False)
    return {name: (value.dtype, tuple(value.shape)) for name, value in as_numpy(session.run(feeds)).items()}
