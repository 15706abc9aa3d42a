"""Which axis of a tensor holds the samples: seen in runs of few and of more samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.errors import ModelError
from onnxmi.model import Model
from onnxmi.model.batch_axis import batch_axes, is_free
from onnxmi.runtime.probe import Probe
from onnxmi.runtime.session import Feeds, as_numpy, open_session
from onnxmi.typing import Shape

FEW, MORE = 1, 3  # samples of the two runs; `onnxmi.data.batching` makes sure that a model runs on both


@dataclass(frozen=True, eq=False)
class Runs:
    """Inputs of two runs that differ in the number of samples.

    Attributes
    ----------
    feeds : sequence of feeds
        One or two.
    counts : sequence of int
        How many samples each has.
    """

    feeds: Sequence[Feeds]
    counts: Sequence[int]

    @staticmethod
    def of(calibration: Calibration) -> Runs:
        """Take the first samples; where the graph fixes the size of batches, there is one run of such a batch."""
        samples = np.arange(calibration.count)
        if calibration.step is not None:
            return Runs([calibration.one_run(samples)], [calibration.step])
        feeds = [calibration.feed(np.resize(samples, count)) for count in (FEW, MORE)]
        return Runs(feeds, [FEW, MORE])

    @staticmethod
    def synthetic(model: Model, seen: Probe) -> Runs:
        """Take what the model was probed with: once as it is, once with samples that are left out or repeated."""
        free = {
            info.name: [axis for axis, dim in enumerate(info.dims or ()) if is_free(dim)] for info in model.graph.inputs
        }
        batches = batch_axes(model.graph.inputs)
        sizes = [seen.feeds[name].shape[axis] for name, axis in batches.items() if axis in free[name]]
        if not sizes:
            fixed = [feed.shape[0] for feed in seen.feeds.values() if feed.ndim]
            return Runs([seen.feeds], fixed[:1] or [1])
        batch, other = sizes[0], FEW if sizes[0] != FEW else MORE
        feeds = dict(seen.feeds)
        for name, axes in free.items():
            for axis in (axis for axis in axes if feeds[name].shape[axis] == batch):
                feeds[name] = np.take(feeds[name], np.resize(np.arange(batch), other), axis=axis)
        return Runs([seen.feeds, feeds], [batch, other])


def sample_axes(model: Model, tensors: Sequence[str], runs: Runs, threads: int = 0) -> dict[str, int | None]:
    """Find the axis of samples of each tensor.

    Returns
    -------
    dict of str to int or None
        None where no axis follows the number of samples alone, so that each sample has to be run by itself.
    """
    shapes = shapes_of(model, tensors, runs, threads)
    return {name: sample_axis([of[name] for of in shapes if name in of], runs.counts) for name in tensors}


def shapes_of(model: Model, tensors: Sequence[str], runs: Runs, threads: int = 0) -> list[dict[str, Shape]]:
    """Run the model, and return the shapes of some tensors in each run; a run that fails is left out."""
    if not tensors:
        return []
    session = open_session(model.proto, taps=list(dict.fromkeys(tensors)), threads=threads)
    found: list[dict[str, Shape]] = []
    for feeds in runs.feeds:
        try:
            found.append({name: tuple(value.shape) for name, value in as_numpy(session.run(feeds)).items()})
        except ModelError:
            continue
    return found


def sample_axis(shapes: Sequence[Shape], counts: Sequence[int]) -> int | None:
    """Return the first axis that has just as many entries as there are samples, in every run."""
    if not shapes or len({len(shape) for shape in shapes}) > 1:
        return None
    for axis in range(len(shapes[0])):
        if all(shape[axis] == count for shape, count in zip(shapes, counts, strict=False)):
            return axis
    return None
