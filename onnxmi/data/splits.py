"""How the calibration samples are split into fit, validation, search and test samples."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.data.draws import chances
from onnxmi.typing import Samples

HELD_BACK = 1 / 8  # share of the test samples
HELD_BACK_TO_SEARCH = 1 / 4  # share of the search and test samples together, where a search for a loss decides
VALIDATION_SHARE = 1 / 10  # share of the validation samples among the others


@dataclass(frozen=True, eq=False)
class Split:
    """A division of the calibration samples.

    Attributes
    ----------
    fit : (n,) int64
        Units are selected and weights are fitted on these.
    validation : (n,) int64
        Ridges and repairs are chosen on these; empty where there are too few samples to divide.
    test : (n,) int64
        Nothing is fitted and nothing chosen on these: the report is measured on them. All samples, where there is
        only one.
    search : (n,) int64
        A search for a promised loss decides on these; empty where there is none.
    """

    fit: Samples
    validation: Samples
    test: Samples
    search: Samples = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def searched(self) -> Samples:
        """What a search decides on: search and validation samples; the test samples where there are too few to divide.

        Of the validation samples a repair only takes the ridges, which is little beside what more samples tell.
        """
        return np.union1d(self.search, self.validation) if self.search.size else self.test

    @property
    def not_fitted(self) -> Samples:
        """The samples that no weight is fitted to: validation, search and test samples."""
        return np.unique(np.concatenate([self.validation, self.search, self.test]))

    @property
    def validation_or_fit(self) -> Samples:
        """The validation samples; the fit samples where there are too few to divide."""
        return self.validation if self.validation.size else self.fit


@dataclass(frozen=True)
class LotLimits:
    """Where the draw of a sample's content divides it: what a shard, which sees few samples, cannot count.

    Attributes
    ----------
    held_back : float
        Below it, nothing is fitted to a sample.
    validation : float
        From there on and below this, it is a validation sample.
    """

    held_back: float = HELD_BACK
    validation: float = HELD_BACK + (1 - HELD_BACK) * VALIDATION_SHARE


def limits_of(split: Split, data: Calibration, seed: int) -> LotLimits:
    """Return the limits by which shards of some samples are split as these were."""
    lots = chances(data.split_prints, seed)
    others = np.concatenate([split.fit, split.validation])
    return LotLimits(float(lots[others].min()), float(lots[split.fit].min()))


def split_shard(data: Calibration, seed: int, limits: LotLimits) -> Split:
    """Split one shard's samples as they would be among those of all shards: any part may be empty."""
    lots = chances(data.split_prints, seed)
    is_held, is_fit = lots < limits.held_back, lots >= limits.validation
    parts = [np.flatnonzero(chosen) for chosen in (is_fit, ~is_fit & ~is_held, is_held)]
    return Split(fit=parts[0], validation=parts[1], test=parts[2])


def split_samples(data: Calibration, seed: int, held_back: float = HELD_BACK) -> Split:
    """Split the calibration samples by seed and content: a sample gets the same part in whatever file it comes.

    So statistics of several files can be added up, equal samples are never on both sides, and the shares are kept on
    average. Where chance would make a part half as large or twice, the samples nearest to it are moved. Samples that
    follow each other are alike: stretches of sequences stay together.

    Parameters
    ----------
    held_back : float
        Share of the samples that nothing is fitted to: the test samples and, above `HELD_BACK`, the search samples.
    """
    lots = chances(data.split_prints, seed)
    order = np.argsort(lots, kind="stable")
    n_held = _clip_count(int((lots < held_back).sum()), data.count * held_back)
    n_held = min(max(n_held, 1), data.count - 1)
    n_others = data.count - n_held
    limit = held_back + (1 - held_back) * VALIDATION_SHARE
    n_validation = _clip_count(int(((lots >= held_back) & (lots < limit)).sum()), n_others * VALIDATION_SHARE)
    held, validation, fit = (np.sort(part) for part in np.split(order, [n_held, n_held + n_validation]))
    if held_back <= HELD_BACK or len(held) < 2:
        return Split(fit, validation, held if held.size else fit)
    # By their lots again, so that the test samples are the same ones in whatever way a run splits the samples.
    n_test = min(max(int((lots[held] < HELD_BACK).sum()), 1), len(held) - 1)
    by_lot = held[np.argsort(lots[held], kind="stable")]
    return Split(fit, validation, test=np.sort(by_lot[:n_test]), search=np.sort(by_lot[n_test:]))


def _clip_count(count: int, expected: float) -> int:
    """Keep a count between half and twice what is expected; none where less than one is."""
    return int(np.clip(count, np.ceil(expected / 2), np.floor(2 * expected))) if expected >= 1 else 0
