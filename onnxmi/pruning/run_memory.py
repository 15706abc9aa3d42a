"""How much memory a run may take, and what follows from it: the samples of a batch, and the sums of one pass.

What does not fit waits in temporary files (`onnxmi.runtime.live_tensors`) or takes another pass.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from onnxmi.pruning.options import PruneOptions
from onnxmi.transforms.analysis import Analysis

BATCH_BYTES = 2**28  # of the tensors that a batch is measured at, where nothing is said of memory
OF_BATCHES = 8  # parts of the memory, one of which these tensors may take


def with_fitting_batches(options: PruneOptions, analysis: Analysis, samples: int) -> PruneOptions:
    """Return options with so many samples in a batch that what is measured of one fits.

    Without `memory` that depends on the model alone, and not on the machine: batches decide how sums are rounded.

    Parameters
    ----------
    analysis : Analysis
        With the shapes of a run.
    samples : int
        How many samples were run.
    """
    shapes, dtypes = analysis.probe.shapes, analysis.probe.dtypes
    taps = {tap for linear in analysis.linears for tap in linear.taps if tap in shapes and tap in dtypes}
    each = sum(prod(shapes[tap]) * dtypes[tap].itemsize for tap in taps) / max(samples, 1)
    most = BATCH_BYTES if options.memory is None else min(BATCH_BYTES, options.memory // OF_BATCHES)
    fitting = max(1, int(most / max(each, 1)))
    return options if fitting >= options.batch_size else replace(options, batch_size=fitting)
