"""How the calibration samples are divided between fitting, judging and reporting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxmi.calibration import Calibration

Samples = NDArray[np.int64]

HELD_BACK = 1 / 8  # share of the samples that nothing is fitted to: the reported agreement is measured on them
JUDGED = 1 / 10  # share of the others that judges the repair


@dataclass(frozen=True, eq=False)
class Deal:
    """A division of the calibration samples.

    Attributes
    ----------
    fit, judge : (n,) int64
        To measure and solve on, and to judge the repair on; `judge` is empty where there are too few to divide.
    held : (n,) int64
        Nothing is fitted to these: what is reported is measured on them (on all, where there is only one sample).
    """

    fit: Samples
    judge: Samples
    held: Samples

    @property
    def judges(self) -> Samples:
        """The judging samples, or those of the fit where there are none."""
        return self.judge if self.judge.size else self.fit


def deal_samples(data: Calibration, seed: int) -> Deal:
    """Divide the calibration samples by seed."""
    work, held = data.split(seed, HELD_BACK)
    judge = np.sort(np.random.default_rng(seed).permutation(work)[: int(len(work) * JUDGED)])
    return Deal(np.setdiff1d(work, judge), judge, held if held.size else work)
