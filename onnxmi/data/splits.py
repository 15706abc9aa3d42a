"""How the calibration samples are divided between fitting, judging and reporting."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from onnxmi.data.calibration import Calibration, chances
from onnxmi.typing import Samples

HELD_BACK = 1 / 8  # share of the samples that nothing is fitted to: the reported agreement is measured on them
HELD_BACK_TO_SEARCH = 1 / 4  # where a loss decides what is made: half of them decide, the other half is reported on
JUDGED = 1 / 10  # share of the others that judges the repair


@dataclass(frozen=True, eq=False)
class Deal:
    """A division of the calibration samples.

    Attributes
    ----------
    fit, judge : (n,) int64
        To measure and solve on, and to judge the repair on; `judge` is empty where there are too few to divide.
    held : (n,) int64
        Nothing is fitted to these, and nothing chosen on them: what is reported is measured on them (on all, where
        there is only one sample).
    validate : (n,) int64
        Nothing is fitted to these, but a search for a loss chooses on them; empty where there is none.
    """

    fit: Samples
    judge: Samples
    held: Samples
    validate: Samples = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def validates(self) -> Samples:
        """The samples that a search chooses on: those of the report where there are too few to divide."""
        return self.validate if self.validate.size else self.held

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
    if held_back <= HELD_BACK or len(out) < 2:
        return Deal(fit, judging, out if out.size else fit)
    # By their lots again, so that what is reported on is held back in whatever way a run divides the samples.
    tested = min(max(int((lots[out] < HELD_BACK).sum()), 1), len(out) - 1)
    by_lot = out[np.argsort(lots[out], kind="stable")]
    return Deal(fit, judging, np.sort(by_lot[:tested]), np.sort(by_lot[tested:]))


def _clipped(found: int, expected: float) -> int:
    """Keep a count between half and twice what is expected; none where less than one is."""
    return int(np.clip(found, np.ceil(expected / 2), np.floor(2 * expected))) if expected >= 1 else 0
