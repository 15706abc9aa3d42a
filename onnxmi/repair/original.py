"""The original on its way through the repair samples: what its operators give on the rows that are refitted to.

None of that depends on what is cut, unless the cut takes rows away. So several cuts of one model can share it: the
first one records the rows, and the others do not run the original at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from onnxmi.axes.keeping import Keeping
from onnxmi.axes.terms import Axes
from onnxmi.graph.linear import Linear, columns_of, feature_rows, output_rows, row_count, weights_of
from onnxmi.graph.padding_mask import Mask
from onnxmi.model.subgraph import PartialModel
from onnxmi.repair.epilogue import Epilogue
from onnxmi.repair.operator_cut import remaining_rows
from onnxmi.repair.recorded import OriginalRows
from onnxmi.repair.samples import RepairSamples
from onnxmi.runtime.routes import RoutedStepper, Routes
from onnxmi.runtime.session import Feeds
from onnxmi.runtime.stepper import Stepper
from onnxmi.statistics.capture import rows_wanted
from onnxmi.statistics.row_sampling import Batch
from onnxmi.transforms.cut import Cut
from onnxmi.typing import Array, Samples


class OriginalWalk:
    """The original, advanced from operator to operator as far as nothing is recorded.

    Parameters
    ----------
    cut : Cut
        Says which rows stay.
    samples : RepairSamples
        To run on, with what is recorded of them.
    inputs : sequence of mapping
        Of each batch.
    masks : mapping of str to Mask
        Linear.key -> where its rows are padding.
    routes : Routes
        The branches that the batches take.
    """

    def __init__(
        self,
        cut: Cut,
        samples: RepairSamples,
        inputs: Sequence[Feeds],
        masks: Mapping[str, Mask],
        routes: Routes,
    ) -> None:
        self._model, self._axes, self._keeping = cut.model, cut.graph.axes, cut.keeping
        self._samples, self._inputs, self._masks, self._routes = samples, inputs, masks, routes
        self._sampler = samples.sampler()

    @cached_property
    def _stepper(self) -> RoutedStepper:
        threads = self._samples.options.threads
        return self._routes.steps(self._model.proto, self._inputs, lambda proto, own: Stepper(proto, own, threads))

    @cached_property
    def _pieces(self) -> PartialModel:
        return PartialModel(self._model.proto)

    def before(self, tensor: str) -> frozenset[str]:
        """Return the results of all nodes that a tensor depends on, those in bodies, too."""
        return self._pieces.made_before(tensor)

    def to(self, tensor: str) -> Iterator[Mapping[str, Array]]:
        """Advance to a tensor; see `Stepper.to`."""
        return self._stepper.to([tensor])

    def at(self, linear: Linear, epilogue: Epilogue) -> Iterator[OriginalRows]:
        """Yield, for every batch, the rows to refit an operator to."""
        key, recorded = (linear.key, epilogue.stream), self._samples.recorded
        if recorded is None or not self._keeps_rows(linear, epilogue):
            yield from self._measured(linear, epilogue)
        elif (rows := recorded.rows(key)) is not None:
            yield from rows
        else:
            yield from recorded.recording(key, self._measured(linear, epilogue))

    def _keeps_rows(self, linear: Linear, epilogue: Epilogue) -> bool:
        """Whether the cut leaves all rows that an operator reads, and that its results are added to."""
        columns = columns_of(linear)
        shaped = linear.ends[0].outputs[0] if epilogue.broadcasts else epilogue.stream
        read = [name for name in (linear.taps[0], shaped) if name is not None]
        return not any(_cuts_rows(self._axes.get(name), columns, self._keeping) for name in read)

    def _measured(self, linear: Linear, epilogue: Epilogue) -> Iterator[OriginalRows]:
        tap = linear.taps[0]
        read = [tap] if epilogue.stream is None else [tap, epilogue.stream]
        # For its shape: the original is not changed.
        beside = [linear.ends[0].outputs[0]] if epilogue.broadcasts else []
        weights = weights_of(self._model, linear)
        # Batches are described anew at every step: what a sampler notes about each would add up.
        batches = self._samples.batches()
        shown = self._stepper.inside if linear.nodes[0].loops else self._stepper.to
        reached = self._stepper.reach(linear.nodes[0].result)
        for (batch, part), reaches, tensors in zip(batches, reached, shown([*read, *beside]), strict=True):
            if not reaches or tap not in tensors:  # the batch takes another branch, or no iteration
                yield OriginalRows.none(part, linear)
                continue
            activation = remaining_rows(tensors[tap], self._axes.get(tap), columns_of(linear), self._keeping)
            places = self._drawn(linear, activation, batch)
            inputs = feature_rows(linear, activation, places)
            # Without the bias, on the original's inputs: the cut model is to give these results on its own.
            results = np.stack([rows @ own.astype(rows.dtype) for rows, own in zip(inputs, weights, strict=True)])
            stream = self._stream(linear, epilogue, tensors)
            if stream is None:
                yield OriginalRows(part, places, results)
                continue
            rows = output_rows(linear, stream, places, linear.groups)
            yield OriginalRows(part, places, results, rows, stream.shape)

    def _drawn(self, linear: Linear, activation: Array, batch: Batch) -> Samples:
        count = self._samples.rows * rows_wanted(linear)
        rows = row_count(linear, activation)
        weights = self._samples.weights.of(linear, batch, rows)
        return self._sampler.sample(rows, batch, self._masks.get(linear.key), count, weights=weights)

    def _stream(self, linear: Linear, epilogue: Epilogue, tensors: Mapping[str, Array]) -> Array | None:
        """What the results are added to, of their shape."""
        if epilogue.stream is None:
            return None
        shaped, added_to = epilogue.stream, tensors[epilogue.stream]
        if epilogue.broadcasts:
            shaped = linear.ends[0].outputs[0]
            added_to = np.broadcast_to(added_to, tensors[shaped].shape)
        return remaining_rows(added_to, self._axes.get(shaped), columns_of(linear), self._keeping)


def _cuts_rows(axes: Axes | None, columns: Sequence[int], keeping: Keeping) -> bool:
    """Whether a cut takes away rows of a tensor, as of a layer over positions; see `remaining_rows`."""
    held = {column % len(axes) for column in columns} if axes else set()
    return any(axis not in held and keeping.cuts(term) for axis, term in enumerate(axes or ()))
