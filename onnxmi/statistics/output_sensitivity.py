"""Sensitivity: how sensitive the outputs are to an error of each linear operator's results, direction by direction.

To first order an error e of a result moves the outputs by J e, whose square is ``e' (J'J) e``. The sum of J'J over
rows, averaged over samples, is the Gauss-Newton matrix of the results: the factor G of K-FAC (Martens and Grosse 2015)
for the damage that `onnxmi.outputs` measures. One backward pass a sample estimates it without bias: the gradient g of
the outputs' product with random signs has ``E[g g'] = J'J`` (Hutchinson 1990). Nothing is trained, no weight is
differentiated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import prod

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.data.draws import chances
from onnxmi.errors import stage
from onnxmi.evaluation.counting import row_shares, with_sample_axes
from onnxmi.evaluation.yardstick import Yardstick
from onnxmi.graph.linear import Linear, output_rows
from onnxmi.graph.padding_mask import mask_inputs
from onnxmi.information import Sensitivity
from onnxmi.model import Graph, Node
from onnxmi.operators.ort_fused import before_activation
from onnxmi.operators.registry import operator_of
from onnxmi.operators.vjp import NoGradientError
from onnxmi.runtime.probe import all_tensors
from onnxmi.runtime.session import Session, open_session
from onnxmi.statistics.backward import Backward, apply_rule, vjp_of
from onnxmi.statistics.capture import CaptureOptions
from onnxmi.statistics.row_sampling import Batch
from onnxmi.transforms.analysis import Analysis
from onnxmi.typing import Array, Floats, Progress, Samples, silent

SAMPLES, SAMPLES_OF_LARGE = 128, 32  # of the backward pass; docs/decisions/009 has what more of them bring
LARGE = 2**27  # stored numbers
WIDEST = 2_048  # results of a group: the matrix of more takes more memory than it is worth
SUMS = 2**30  # bytes of all matrices: the widest are left out
LIVE = 2**27  # bytes of inner tensors at once, where a sample does not take more by itself
_SALT = 0x5E5  # the draw of samples is none of the other draws


@dataclass(frozen=True, eq=False)
class OutputGradients:
    """The backward pass of one model from its compared outputs to the results of linear operators.

    Attributes
    ----------
    backward : Backward
        Through its graph.
    results : mapping
        Linear.key -> the tensors that hold its results.
    yardstick : Yardstick
        What the outputs are measured by.
    masks : tuple of str
        Inputs that are zero at padding.
    """

    backward: Backward
    results: Mapping[str, tuple[str, ...]]
    yardstick: Yardstick
    masks: tuple[str, ...]

    @staticmethod
    def of(
        analysis: Analysis, linears: Iterable[Linear], yardstick: Yardstick, masks: Sequence[str]
    ) -> OutputGradients:
        """Look for the results whose gradients are complete."""
        results = {linear.key: _results(linear) for linear in linears}
        # Only paths to outputs that are compared count: others may end in operators without a gradient.
        targets = tuple(view.tensor for view in yardstick.views)
        wanted, model = frozenset(name for names in results.values() for name in names), analysis.model
        unseen = frozenset(all_tensors(model.graph)).difference(analysis.graph.axes)
        backward = Backward(model.graph, wanted, targets, unseen)
        known = {key: names for key, names in results.items() if backward.reached.issuperset(names)}
        return OutputGradients(backward, known, yardstick, tuple(masks))

    @property
    def taps(self) -> list[str]:
        """Tensors that a session has to show."""
        graph = self.backward.graph
        known = {*(info.name for info in graph.inputs), *graph.constants, ""}
        read = [name for node in self._run_again for name in node.inputs]
        names = dict.fromkeys((*self.backward.targets, *self.backward.reads, *read))
        return [name for name in names if name not in known]

    @property
    def _run_again(self) -> list[Node]:
        """Operators whose products lie inside them."""
        results = [name for names in self.results.values() for name in names]
        nodes = (self.backward.graph.producers[name] for name in results)
        return [node for node in nodes if not all(layout.result_is_product for layout in operator_of(node).layouts)]

    def gradients(self, session: Session, batch: Batch, seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
        """Go back through a batch.

        Returns
        -------
        values : dict
            Tensor name -> array, of the inputs and of all that the session taps.
        gradients : dict
            Result of a linear operator -> gradient of what the outputs are measured by, with random signs.

        Raises
        ------
        NoGradientError
            Where an operator turns out to do what its rule does not know.
        """
        seen = session.see(batch.feeds)
        values = {**batch.feeds, **{name: one.by_sample for name, one in seen.items()}}
        iterations = {name: one for name, one in seen.items() if one.loops}
        masks = [batch.feeds[name] for name in self.masks]
        outputs = with_sample_axes(self.yardstick.views, values, batch.fed)
        rows = {
            view.tensor: row_shares(view, outputs[view.tensor].shape, batch.count, masks)
            for view in self.yardstick.views
        }
        # Random signs times the root of the loss's curvature: E [J's s'J] is the Gauss-Newton matrix (Hutchinson), from
        # one backward pass instead of one for each output column.
        seeds = self.yardstick.seeds(outputs, partial(_signs, self.yardstick, batch, seed), rows)
        upper = {name: one.reshape(values[name].shape) for name, one in seeds.items()}
        by_tensor = self.backward(values, upper, iterations)
        makers = self.backward.graph.producers
        return values, {name: before_activation(makers[name], values[name], one) for name, one in by_tensor.items()}

    def of_products(
        self, linear: Linear, values: Mapping[str, Array], gradients: Mapping[str, Array]
    ) -> Iterator[Array]:
        """Gradients of an operator's products, (groups, rows, M) for each of its nodes, from what `gradients` returns.

        Raises
        ------
        NoGradientError
            Where an operator turns out to do what its rule does not know.
        """
        for end in linear.ends if linear.key in self.results else ():
            # Nothing compared depends on this node.
            if not any(name in gradients for name in end.outputs):
                continue
            if linear.layout.result_is_product:
                gradient = gradients[end.outputs[0]]
                row_indices = np.arange(gradient.size // linear.outputs.size)
                yield output_rows(linear, gradient, row_indices, linear.groups)
            else:
                # The product is inside the operator, as a gate's is in an LSTM: its rule has to recompute it.
                ctx = self.backward.context(end, values.__getitem__, gradients)
                yield apply_rule(linear.layout.product_gradients, ctx)


@stage("sensitivity")
def measure_sensitivities(
    analysis: Analysis,
    calibration: Calibration,
    samples: Samples,
    yardstick: Yardstick,
    options: CaptureOptions,
    requested: Collection[str] | None = None,
    progress: Progress = silent,
) -> dict[str, Sensitivity]:
    """Go back from the outputs on some of the samples, drawn by content.

    Parameters
    ----------
    analysis : Analysis
        The model with all linear operators whose results could be asked about; they share `SUMS`.
    yardstick : Yardstick
        Says what an error of the outputs counts: the units that prices and results have, too.
    options : CaptureOptions
        The seed, the threads, the padding mask, and the memory that inner tensors may take at once where one sample
        does not take more; `LIVE` at most.
    requested : collection of str, optional
        Keys of those whose results are asked about; all where nothing is said. It has no say in who is left out: what
        is measured of one does not depend on who else is asked about.

    Returns
    -------
    dict
        Linear.key -> its sensitivity. Missing are those that have more than `WIDEST` results or would take more than
        `SUMS` together, that are fused with more than an activation, or from which some path to an output leads
        through an operator with no rule; all, where an operator turned out to do what its rule does not know.
    """
    model, linears = analysis.model, analysis.linears
    masks = tuple(mask_inputs(model, analysis.graph, options.mask))
    measured = [one for one in _within(SUMS, linears) if requested is None or one.key in requested]
    way = OutputGradients.of(analysis, measured, yardstick, masks)
    drawn = drawn_samples(model.graph, calibration, samples, options.seed)
    if not way.results or not len(drawn):
        return {}
    session = open_session(model.proto, taps=way.taps, threads=options.threads)
    sums: dict[str, Floats] = {}
    done = 0
    progress("go back", done, len(drawn))
    for chosen, feeds in calibration.packed(drawn, batch_size_within(session, calibration, drawn, options.memory)):
        try:
            values, gradients = way.gradients(session, Batch.of(calibration, chosen, feeds), options.seed)
            for linear in measured:
                for rows in way.of_products(linear, values, gradients):  # in order: sums are rounded
                    sums[linear.key] = sums.get(linear.key, 0.0) + _squares(rows)
        # A failure on one batch would leave some operators with fewer samples than others: then none is weighted.
        except NoGradientError:
            return {}
        done += len(chosen)
        progress("go back", done, len(drawn))
    # An operator whose gradients overflowed is left out alone; the others are still right.
    return {key: Sensitivity(len(drawn), total) for key, total in sums.items() if np.isfinite(total).all()}


def drawn_samples(graph: Graph, calibration: Calibration, samples: Samples, seed: int) -> Samples:
    """Draw as many for one model, whatever is asked about: a statistics file has what a run by itself would measure."""
    large = sum(prod(graph.constant_shape(name)) for name in graph.constants) > LARGE
    count = SAMPLES_OF_LARGE if large else SAMPLES
    share = count / calibration.shards / max(len(samples), 1)
    return samples[chances(calibration.fingerprints[samples], seed ^ _SALT) < share]


def _within(limit: int, linears: Sequence[Linear]) -> list[Linear]:
    """Return the operators that can be asked about, in their order, without the widest beyond the limit."""
    # Narrow matrices first: so the most operators are weighted within the limit.
    narrowest = sorted((one for one in linears if _has_gradient(one) and _is_narrow(one)), key=_bytes)
    totals = accumulate(map(_bytes, narrowest))
    room = {linear.key for linear, total in zip(narrowest, totals, strict=True) if total <= limit}
    return [linear for linear in linears if linear.key in room]


def _bytes(linear: Linear) -> int:
    return linear.outputs.size**2 // linear.groups * np.dtype(np.float64).itemsize


def _has_gradient(linear: Linear) -> bool:
    """Whether the gradient of an operator's product can be known: also of one that lies inside the operator."""
    if not linear.layout.result_is_product:  # inside a loop, iterations would be taken for steps
        return all(map(vjp_of, linear.ends)) and not linear.nodes[0].loops
    return has_gradient(linear)


def _results(linear: Linear) -> tuple[str, ...]:
    """Tensors by whose gradients that of an operator's product is known."""
    if linear.layout.result_is_product:
        return tuple(end.outputs[0] for end in linear.ends)
    return tuple(name for end in linear.ends for name in end.outputs if name)


def has_gradient(linear: Linear) -> bool:
    """Whether what an operator gives is its product, but for an activation whose slope is known."""
    known = linear.layout.result_is_product and all(map(vjp_of, linear.ends))
    return known and linear.activation_qparams is None


def _is_narrow(linear: Linear) -> bool:
    return linear.outputs.size <= WIDEST * linear.groups


def batch_size_within(session: Session, calibration: Calibration, drawn: Samples, memory: int | None) -> int:
    """As many samples as leave the inner tensors within the memory, if all were as long as the longest."""
    longest = max(
        (feeds for _, feeds in calibration.packed(drawn, 1)), key=lambda feeds: sum(map(np.size, feeds.values()))
    )
    # A backward pass holds all inner tensors of its samples; one sample is run to see how much that is.
    live = sum(value.nbytes for value in session.run(longest).values())
    return max(1, min(len(drawn), min(LIVE, memory or LIVE) // max(live, 1)))


def _squares(rows: Array) -> Floats:
    """Sum over rows of g g', (groups, M, M)."""
    # In float32 within a batch, where few rows are summed; in float64 from batch to batch.
    return np.asarray(np.matmul(rows.swapaxes(1, 2), rows), dtype=np.float64)


def _signs(yardstick: Yardstick, batch: Batch, seed: int, tensor: str, shape: tuple[int, ...]) -> Array:
    """Random signs of every sample's own, whatever the batch: by its content and by the tensor's place."""
    place, view = next((n, view) for n, view in enumerate(yardstick.views) if view.tensor == tensor)
    axis = view.sample_axis
    if axis is None:
        return _drawn([seed, place, int(batch.prints[0])], shape)
    own = (*shape[:axis], *shape[axis + 1 :])
    # A batch filled up to its fixed size repeats its samples, and so their signs.
    prints = np.resize(batch.prints, shape[axis])
    return np.stack([_drawn([seed, place, int(fingerprint)], own) for fingerprint in prints], axis=axis)


def _drawn(seed: Sequence[int], shape: tuple[int, ...]) -> Array:
    # Signs have the least variance of all random vectors with unit covariance (Hutchinson 1990).
    return np.asarray(np.random.default_rng(seed).integers(0, 2, size=shape) * 2 - 1)
