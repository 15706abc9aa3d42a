"""Making the yardstick: one run of the original on the samples that everything is fitted to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from onnxmi.data.calibration import Calibration
from onnxmi.evaluation.counting import counted_rows, with_sample_axes
from onnxmi.evaluation.yardstick import Yardstick
from onnxmi.model import Model
from onnxmi.outputs.view import Meaning, View
from onnxmi.runtime.session import open_session
from onnxmi.typing import Array, Bools, Samples


def make_yardstick(
    model: Model,
    meaning: Meaning,
    calibration: Calibration,
    samples: Samples,
    masks: Sequence[str],
    batch_size: int,
    threads: int,
) -> Yardstick:
    """Measure what the original has to say on some samples.

    Parameters
    ----------
    masks : sequence of str
        Inputs that are zero at padding.
    """
    session = open_session(model.proto, taps=meaning.tensors, threads=threads)

    def batches() -> Iterator[tuple[dict[str, Array], dict[str, Bools]]]:
        for chosen, feeds in calibration.packed(samples, batch_size):
            values = with_sample_axes(meaning.views, session.run(feeds), len(feeds.samples))
            yield values, counted_of(meaning.views, values, len(chosen), [feeds[name] for name in masks])

    return Yardstick.of(meaning.views, batches)


def counted_of(
    views: Sequence[View], values: Mapping[str, Array], count: int, masks: Sequence[Array]
) -> dict[str, Bools]:
    """Return which rows of a batch's tensors count, by tensor name; absent where all do."""
    counted = {view.tensor: counted_rows(view, values[view.tensor].shape, count, masks) for view in views}
    return {name: rows for name, rows in counted.items() if rows is not None}
