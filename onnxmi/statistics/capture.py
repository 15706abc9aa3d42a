"""Capture: run the model over the calibration samples and reduce what every operator reads to moments.

Only sums are kept, so memory does not grow with the number of samples. Where the sums of all operators together are too
much, they are measured in several passes over the samples, and those of finished passes wait in temporary files. A
memory-mapped model is rather run once, layer by layer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.data.draws import chances
from onnxmi.errors import stage
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.linear import Linear
from onnxmi.graph.padding_mask import mask_inputs, padding_masks
from onnxmi.model import Model
from onnxmi.model.mapped import is_memory_mapped
from onnxmi.runtime.environment import free_memory
from onnxmi.runtime.session import open_session
from onnxmi.runtime.stepper import Stepper
from onnxmi.statistics.accumulators import Accumulator, InputAccumulator, ScoreAccumulator
from onnxmi.statistics.attention_scores import find_score_products
from onnxmi.statistics.row_observers import ClassObserver, MeasureFactory, Observers
from onnxmi.statistics.row_sampling import Batch, RowSampler
from onnxmi.statistics.shared_inputs import find_linear_inputs, inputs_below_outputs
from onnxmi.statistics.statistics import Statistics
from onnxmi.transforms.analysis import Analysis
from onnxmi.typing import Progress, Samples, silent

# Rows that moments are drawn from: at least so many, and so many a feature where features are many.
ROWS, ROWS_PER_FEATURE = 16_384, 12
ROWS_IN_GROUPS = 4_096  # at least, of an operator in groups: each of hundreds has its own few features to fit to them
LEAN_MEMORY = 2**32  # bytes for the sums of a pass over a memory-mapped model, where nothing else is said
PATCHES, PATCHES_PER_FEATURE = 3_072, 3  # of convolutions: cheap to run, dear to unfold, and neighbors are alike
PATCHES_PER_IMAGE = 16  # so that of many images only some are looked into; all run, where other operators want rows
_IMAGES = 0x1A6E  # the draw of images is none of the other draws
_ENTRY = 4  # bytes of most activations


@dataclass(frozen=True)
class CaptureOptions:
    """How to run.

    Attributes
    ----------
    batch_size : int
        Samples a run.
    threads : int
        Intra-operator threads; 0 lets onnxruntime choose.
    seed : int
        Of the positions that are drawn from long sequences and large images.
    measure : callable or None
        Makes what a score wants measured beside the moments; see `onnxmi.statistics.row_observers`.
    mask : str or None
        The input that is zero at padding; without it, those with "mask" in their name.
    memory : int or None
        Bytes that the sums of one pass may take; None for half of what is free (memory-mapped models: `LEAN_MEMORY`).
    """

    batch_size: int = 32
    threads: int = 0
    seed: int = 0
    measure: MeasureFactory | None = None
    mask: str | None = None
    memory: int | None = None


@stage("capture")
def capture(
    analysis: Analysis,
    calibration: Calibration,
    sets: Sequence[Samples],
    options: CaptureOptions,
    progress: Progress = silent,
) -> tuple[Statistics, ...]:
    """Measure what linear operators and attention scores are made of, on several sets of samples apart.

    Parameters
    ----------
    analysis : Analysis
        The model with the linear operators whose inputs are measured.
    calibration : Calibration
        Sample inputs.
    sets : sequence of (n,) int64
        Which samples to use. The rows that are wanted are drawn from all sets together.

    Returns
    -------
    tuple of Statistics
        One for each set. The memory needed does not depend on the number of samples.
    """
    model, linears = analysis.model, analysis.linears
    images = {linear.key for linear in linears if _reads_images(analysis.graph, linear)}
    # An image gives many patches, so a few images give enough of them: the others need not be unfolded.
    n_patches = max((rows_measured(linear) for linear in linears if linear.key in images), default=0)
    parts = _parts(calibration, sets, -(-n_patches // PATCHES_PER_IMAGE) / calibration.shards, options.seed)
    accumulators = _accumulators(analysis, calibration, parts, images, options)
    lean = is_memory_mapped(model.proto)
    memory = options.memory if options.memory is not None else _default_memory(lean=lean)
    passes = [
        [accumulators[i] for i in indices]
        for indices in plan_passes([accumulator.bytes for accumulator in accumulators], memory)
    ]
    # Layer by layer pays only where the model would otherwise run several times.
    room = calibration.sample_bytes * sum(len(part.samples) for part in parts) <= (memory or 0) // 4
    batches = list(_batches(calibration, parts, options.batch_size)) if lean and len(passes) > 1 and room else []
    if not batches or not _in_stages(model, accumulators, batches, memory or 0, options.threads, progress):
        _in_passes(model, passes, calibration, parts, options, progress)
    return tuple(_statistics(accumulators, number, len(samples)) for number, samples in enumerate(sets))


def _default_memory(*, lean: bool) -> int | None:
    """Bytes for the sums of a pass where nothing is said; None where nobody knows what is free."""
    free = free_memory()
    return LEAN_MEMORY if lean else None if free is None else free // 2


def _in_passes(
    model: Model,
    passes: Sequence[Sequence[Accumulator]],
    calibration: Calibration,
    parts: Sequence[_Part],
    options: CaptureOptions,
    progress: Progress,
) -> None:
    """Run the whole model once for each pass, but for samples that nothing of the pass wants."""
    total, done = len(passes) * sum(len(part.samples) for part in parts), 0
    for accumulators in passes:
        for part in parts:
            taking = [accumulator for accumulator in accumulators if part.images or not accumulator.spatial]
            for count in _run_part(model, taking, calibration, part, options):
                done += count
                progress("capture", done, total)
        for accumulator in accumulators:
            accumulator.finalize(spill=len(passes) > 1)


def _run_part(
    model: Model, accumulators: Sequence[Accumulator], calibration: Calibration, part: _Part, options: CaptureOptions
) -> Iterator[int]:
    """Show every batch to the accumulators, and yield how many samples it has."""
    if not accumulators:
        yield len(part.samples)
        return
    taps = list(dict.fromkeys(tap for accumulator in accumulators for tap in accumulator.taps))
    session = open_session(model.proto, taps=taps, threads=options.threads)
    for number, batch, _ in _batches(calibration, [part], options.batch_size):
        values = session.run(batch.feeds)
        for accumulator in accumulators:
            accumulator.update(number, values, batch)
        yield batch.count


def _in_stages(
    model: Model,
    accumulators: Sequence[Accumulator],
    batches: Sequence[tuple[int, Batch, bool]],
    memory: int,
    threads: int,
    progress: Progress,
) -> bool:
    """Run the model once, a layer at a time: of all samples only what later layers read is held.

    Returns whether it was done: not where that would take more than the memory, or where an accumulator reads at
    several places, as what other accumulators read between them would be gone.
    """
    if any(len(set(accumulator.taps)) > 1 for accumulator in accumulators if isinstance(accumulator, InputAccumulator)):
        return False
    advance = Stepper(model.proto, [batch.feeds for _, batch, _ in batches], threads)
    for done, accumulator in enumerate(accumulators):
        values_of_batches = advance.to(accumulator.taps)
        for place, ((number, batch, images), values) in enumerate(zip(batches, values_of_batches, strict=True)):
            # The first layer's input of all batches tells what has to be held at once; in passes nothing is held.
            if done == place == 0 and len(batches) * sum(map(np.size, values.values())) * _ENTRY > memory:
                return False
            if images or not accumulator.spatial:
                accumulator.update(number, values, batch)
        accumulator.finalize(spill=True)
        progress("capture", done + 1, len(accumulators))
    return True


def plan_passes(sizes: Sequence[int], memory: int | None) -> list[list[int]]:
    """Divide what is to be measured into passes, in order, each within the memory; what is larger alone goes alone.

    Parameters
    ----------
    sizes : sequence of int
        Bytes that each needs.
    memory : int or None
        Bytes there are.

    Returns
    -------
    list of lists of int
        Indices of each pass.
    """
    passes: list[list[int]] = []
    room = 0
    for index, size in enumerate(sizes):
        if passes and (memory is None or size <= room):
            passes[-1].append(index)
        else:
            passes.append([index])
            room = memory or 0
        # In graph order, not packed best: the order of passes then does not depend on sizes that vary with options.
        room -= size
    return passes


def rows_wanted(linear: Linear) -> int:
    """Return how many rows the repair of a linear operator is solved on."""
    return max(ROWS if linear.groups == 1 else ROWS_IN_GROUPS, ROWS_PER_FEATURE * linear.features)


def rows_measured(linear: Linear) -> int:
    """Return how many rows the moments to score a linear operator's inputs are drawn from.

    Measured on a residual network with up to 864 features: half-size models of moments from 2,048 to 16,384 patches
    (2 to 12 a feature) agree with the original on 0.90 to 0.92 of the samples, in no order; nor is there one between 3
    patches of every image and 16 of every fifth. The time does differ.
    """
    fewest, a_feature = (PATCHES, PATCHES_PER_FEATURE) if linear.kernel else (ROWS, ROWS_PER_FEATURE)
    return max(fewest, a_feature * linear.features)


def _accumulators(
    analysis: Analysis,
    calibration: Calibration,
    parts: Sequence[_Part],
    images: Collection[str],
    options: CaptureOptions,
) -> list[Accumulator]:
    """What there is to measure, in the order of the graph."""
    model, graph, linears = analysis.model, analysis.graph, analysis.linears
    sets = 1 + max((part.number for part in parts), default=0)
    samplers = {
        is_spatial: RowSampler(calibration, _together(parts, images=is_spatial), options.seed)
        for is_spatial in (False, True)
    }
    sources = find_linear_inputs(linears, padding_masks(model, graph, linears, options.mask))
    labelled = inputs_below_outputs(model.graph, sources) if calibration.labels is not None else frozenset()
    placed: list[tuple[int, Accumulator]] = []
    for source in sources:
        n_rows = rows_measured(source.linear)
        observers = Observers(
            classes=ClassObserver(sets) if source.key in labelled else None,
            measure=None if options.measure is None else options.measure(model, source, n_rows),
        )
        is_spatial = source.linear.key in images
        accumulator = InputAccumulator(source, samplers[is_spatial], sets, n_rows, observers, spatial=is_spatial)
        # Graph order is what lets a stepper pass every node once.
        placed.append((source.linear.nodes[0].index, accumulator))
    for product in find_score_products(model.graph, graph, mask_inputs(model, graph, options.mask)):
        placed.append((product.node.index, ScoreAccumulator(product, sets)))
    return [accumulator for _, accumulator in sorted(placed, key=lambda pair: pair[0])]


@dataclass(frozen=True, eq=False)
class _Part:
    """Samples of one set, by whether convolutions are looked into on them."""

    number: int
    samples: Samples
    images: bool


def _parts(calibration: Calibration, sets: Sequence[Samples], images: float, seed: int) -> list[_Part]:
    """Divide each set by content: in expectation, so many images of all sets together are looked into.

    Where none of a set would be, all are; but for a shard, as other shards have some.
    """
    share = images / max(sum(map(len, sets)), 1)
    parts: list[_Part] = []
    for number, samples in enumerate(sets):
        # By content and not by place, so that the statistics of two files add up to those of both.
        drawn = chances(calibration.fingerprints[samples], seed ^ _IMAGES) < share
        # Chance may draw none of a small set: then all are looked into.
        drawn |= not drawn.any() and calibration.shard is None
        parts.extend((_Part(number, samples[drawn], images=True), _Part(number, samples[~drawn], images=False)))
    return [part for part in parts if len(part.samples)]


def _together(parts: Sequence[_Part], *, images: bool) -> Samples:
    """All samples, or those that convolutions are looked into on."""
    chosen = [part.samples for part in parts if part.images or not images]
    return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)


def _reads_images(graph: ChannelGraph, linear: Linear) -> bool:
    """Whether a convolution has positions enough on one sample that not all samples are needed."""
    row_indices = graph.axes[linear.nodes[0].outputs[0]][2:] if linear.kernel else ()
    return len(row_indices) > 0 and prod(term.size for term in row_indices) >= PATCHES_PER_IMAGE


def _batches(calibration: Calibration, parts: Sequence[_Part], size: int) -> Iterator[tuple[int, Batch, bool]]:
    """Yield the number of the set, a batch of it, and whether convolutions are looked into."""
    for part in parts:
        for chosen, feeds in calibration.packed(part.samples, size):
            yield part.number, Batch.of(calibration, chosen, feeds), part.images


def _statistics(accumulators: Sequence[Accumulator], number: int, samples: int) -> Statistics:
    """What the accumulators show of one set of samples."""
    read = [accumulator for accumulator in accumulators if isinstance(accumulator, InputAccumulator)]
    scores = {g.product.key: g.moments[number] for g in accumulators if isinstance(g, ScoreAccumulator)}
    classes = {accumulator.source.key: accumulator.observers.classes for accumulator in read}
    means = {key: observer.means[number] for key, observer in classes.items() if observer is not None}
    measures = [accumulator.observers.measure for accumulator in read if number == 0]
    results = [measure.result() for measure in measures if measure is not None]
    return Statistics(
        sources={accumulator.source.key: accumulator.moments[number] for accumulator in read if accumulator.moments},
        keys={linear.key: accumulator.source.key for accumulator in read for linear in accumulator.source.linears},
        samples=samples,
        scores={key: moments for key, moments in scores.items() if moments is not None},
        classes={key: one for key, one in means.items() if one is not None},
        measured={key: table for result in results for key, table in result.items()},
    )
