"""How the calibration samples are divided between fitting, judging and reporting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxmi.calibration import Calibration, chances

Samples = NDArray[np.int64]

HELD_BACK = 1 / 8  # share of the samples that nothing is fitted to: the reported agreement is measured on them
HELD_BACK_TO_SEARCH = 1 / 4  # where that agreement decides what is made: fewer samples tell less than it asks
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


def deal_samples(data: Calibration, seed: int, held_back: float = HELD_BACK) -> Deal:
    """Divide the calibration samples by seed and content: a sample gets the same part in whatever file it comes.

    So statistics of several files can be added up, equal samples are never on both sides, and the shares are kept on
    average. Where chance would make a part half as large or twice, the samples nearest to it are moved.
    """
    lots = chances(data.fingerprints, seed)
    order = np.argsort(lots, kind="stable")
    held = _clipped(int((lots < held_back).sum()), data.count * held_back)
    held = min(max(held, 1), data.count - 1)
    work = data.count - held
    limit = held_back + (1 - held_back) * JUDGED
    judge = _clipped(int(((lots >= held_back) & (lots < limit)).sum()), work * JUDGED)
    parts = np.split(order, [held, held + judge])
    out, judging, fit = (np.sort(part) for part in parts)
    return Deal(fit, judging, out if out.size else fit)


def _clipped(found: int, expected: float) -> int:
    """Keep a count between half and twice what is expected; none where less than one is."""
    return int(np.clip(found, np.ceil(expected / 2), np.floor(2 * expected))) if expected >= 1 else 0
