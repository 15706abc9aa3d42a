"""How much memory a run may take, and what follows from it: the samples of a batch, and the sums of one pass.

What does not fit waits in temporary files (`onnxmi.runtime.live_tensors`) or takes another pass.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.pruning.options import PruneOptions
from onnxmi.runtime.session import Feeds, open_session
from onnxmi.transforms.analysis import Analysis

BATCH_BYTES = 2**28  # of the tensors that a batch is measured at, where nothing is said of memory
OF_BATCHES = 8  # parts of the memory, one of which these tensors may take: onnxruntime holds others beside them
OF_SUMS = 2  # parts of the memory, one of which sums, and what a backward pass holds, may take


def with_fitting_batches(options: PruneOptions, analysis: Analysis, data: Calibration) -> PruneOptions:
    """Return options with so many samples in a batch that what is measured of one fits.

    Without `memory` that depends on the model and the samples alone, and not on the machine: batches decide how sums
    are rounded.

    Parameters
    ----------
    data : Calibration
        The samples, without the padding that is known.

    Raises
    ------
    ModelError
        If the model does not run on the largest of them.
    """
    *_, (_, largest) = data.packed(np.arange(data.count), 1)
    # By a run of it: the sizes that the analysis ran the model with say nothing of the samples'.
    each = _measured_bytes(analysis, largest) / (data.step or 1)
    most = BATCH_BYTES if options.memory is None else min(BATCH_BYTES, options.memory // OF_BATCHES)
    fitting = max(1, int(most / max(each, 1)))
    return options if fitting >= options.batch_size else replace(options, batch_size=fitting)


def _measured_bytes(analysis: Analysis, feeds: Feeds) -> int:
    """Bytes of all tensors that linear operators read, in one run."""
    read = dict.fromkeys(tap for linear in analysis.linears for tap in linear.taps)
    given = sum(feeds[name].nbytes for name in read if name in feeds)
    session = open_session(analysis.model.proto, taps=[name for name in read if name not in feeds], threads=1)
    return given + sum(value.nbytes for value in session.run(feeds).values() if isinstance(value, np.ndarray))
