"""Running a model for its answers: the compared tensors and the graph outputs, a sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx

from onnxmi.data.calibration import Calibration
from onnxmi.evaluation.counting import counted_rows
from onnxmi.evaluation.streams import Results, runs_of
from onnxmi.evaluation.yardstick import Damage, Yardstick
from onnxmi.outputs.view import Answers, Meaning, View
from onnxmi.runtime.session import open_session
from onnxmi.typing import Array, Ints, Samples

Collect = Callable[[onnx.ModelProto, Meaning, Calibration, Samples, int, int], Answers]
"""Runs a model on some samples: (model, meaning, calibration, samples, batch size, threads)."""


def collect_answers(
    proto: onnx.ModelProto,
    meaning: Meaning,
    calibration: Calibration,
    samples: Samples,
    batch_size: int,
    threads: int,
) -> Answers:
    """Run a model on some samples.

    Where samples follow each other, the model's own states go on from one to the next within each stretch.
    Where a tensor has no sample axis and the model takes any number of samples, each is run alone.

    Raises
    ------
    ModelError
        If the model does not run, or lacks a tensor that is compared.
    """
    session = open_session(proto, taps=compared_tensors(proto, meaning), threads=threads)
    axes = {view.tensor: view.sample_axis for view in meaning.views}
    places = {int(sample): place for place, sample in enumerate(samples)}
    runs: dict[str, dict[int, Array]] = {name: {} for name in session.outputs}
    # Without an axis of samples a batch cannot be divided, so each sample is run alone.
    size = batch_size if all(axis is not None for axis in axes.values()) else 1
    for chosen, fed, results in runs_of(session, calibration, samples, size):
        for name, each in _by_sample(results, axes, fed, len(chosen)).items():
            # Batches come in an order of their own, by length: places put the answers back into the samples' order.
            runs[name].update(zip((places[int(sample)] for sample in chosen), each, strict=False))
    whole = {name: tuple(each[n] for n in sorted(each)) for name, each in runs.items() if len(each) == len(samples)}
    return Answers(len(samples), whole)


def compared_tensors(proto: onnx.ModelProto, meaning: Meaning) -> list[str]:
    """Return the tensors that a model is run for: what is compared, and the graph outputs that are plain arrays."""
    arrays = (value.name for value in proto.graph.output if value.type.HasField("tensor_type"))
    return list(dict.fromkeys((*meaning.tensors, *arrays)))


def _by_sample(results: Results, axes: Mapping[str, int | None], fed: int, count: int) -> dict[str, list[Array]]:
    """Divide each plain array into those of its samples."""
    return {
        name: list(_divided(value, axes.get(name, 0), fed))[:count]
        for name, value in results.items()
        if isinstance(value, np.ndarray)
    }


def _divided(value: Array, axis: int | None, fed: int) -> Iterator[Array]:
    if axis is not None and value.ndim > axis and value.shape[axis] == fed:
        yield from np.moveaxis(value, axis, 0)
    elif fed == 1:
        yield value


def stack_samples(arrays: Sequence[Array]) -> Array | None:
    """Return the samples' arrays as one, samples first; None where their shapes differ."""
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else None


def batches_of(view: View, answers: Answers) -> Iterator[tuple[Ints, Array]]:
    """Put a view's arrays together again: (samples, tensor) pairs, those of one shape in one tensor.

    A view without a sample axis comes a sample at a time.
    """
    arrays = answers.values[view.tensor]
    if view.sample_axis is None:
        yield from ((np.array([number]), array) for number, array in enumerate(arrays))
        return
    # In an order that the model cannot change: sums are rounded in the order of their terms.
    shapes = sorted({array.shape for array in arrays})
    for shape in shapes:
        alike = np.array([number for number, array in enumerate(arrays) if array.shape == shape])
        yield alike, np.stack([arrays[number] for number in alike], axis=view.sample_axis)


def compare_answers(yardstick: Yardstick, reference: Answers, made: Answers, masks: Sequence[Array] = ()) -> Damage:
    """Measure the damage of all samples' answers.

    Parameters
    ----------
    masks : sequence of (samples, positions) array
        Inputs of the very samples that are zero at padding.
    """
    errors = yardstick.errors()
    for view in yardstick.views:
        others = made.values.get(view.tensor)
        for samples, expected in batches_of(view, reference):
            same = others is not None and all(
                others[n].shape == reference.values[view.tensor][n].shape for n in samples
            )
            if others is None or not same:
                errors.add({view.tensor: expected}, {view.tensor: np.empty(0)}, {})
                continue
            axis = view.sample_axis
            answered = others[samples[0]] if axis is None else np.stack([others[n] for n in samples], axis=axis)
            rows = counted_rows(view, expected.shape, len(samples), [mask[samples] for mask in masks])
            errors.add({view.tensor: expected}, {view.tensor: answered}, {} if rows is None else {view.tensor: rows})
    return errors.damage()
