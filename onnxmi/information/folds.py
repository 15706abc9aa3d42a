"""Repair with the ridge that is best across parts of the samples, each judged by a fit to the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnxmi.information.residual import Missing
from onnxmi.information.ridge import RIDGES, Repair, lowest, regression_of
from onnxmi.typing import Floats

STANDARD_ERRORS = 2.0  # what an excess has to be of its own standard error to count


def fit_in_folds(
    folds: Sequence[Missing],
    held_out: Missing | None,
    plain: Floats,
    bias: Floats,
    ridges: Sequence[float] = RIDGES,
    prior: Floats | None = None,
) -> Repair:
    """Repair with the best ridge of a grid by cross-validation, and only if it beats the unrepaired cut there.

    Every part is judged by a fit to the other parts, and the rows held out by a fit to all; rows count alike. So a
    ridge is judged on all samples, where few held out would leave it to chance. The largest ridge is taken that is not
    worse than the best by more than two standard errors of the difference (the rule of Breiman et al. 1984 with two for
    one: the excess of one part alone is one standard error whatever its size).

    Parameters
    ----------
    folds : what is missing on each part of the rows to fit to, at least two.
    held_out : the same on rows that are in no part.
    plain, bias, ridges, prior : as in `onnxmi.information.fit_missing`.

    Returns
    -------
    Repair. Fitted to all parts with the ridge that was chosen; the errors are those of the cross-validation.
    """
    whole = Missing.merged(folds)
    trials = [(Missing.merged([*folds[:number], *folds[number + 1 :]]), fold) for number, fold in enumerate(folds)]
    if held_out is not None:
        trials.append((whole, held_out))
    start = plain if prior is None else prior
    # What the unrepaired cut is as a change of the prior: `error` measures changes.
    undone = plain - start, np.zeros_like(bias)
    # Parts are of unequal size, and a row counts as much in a small part.
    shares = np.array([judge.count for _, judge in trials]) / sum(judge.count for _, judge in trials)
    error_plain = float(shares @ [judge.error(*undone) for _, judge in trials])
    regressions = [regression_of(train) for train, _ in trials]
    errors: dict[float, Floats] = {}

    def errors_of(ridge: float) -> Floats:
        if ridge not in errors:
            judged = zip(regressions, trials, strict=True)
            errors[ridge] = shares * [judge.error(*regress(ridge)) for regress, (_, judge) in judged]
        return errors[ridge]

    ridge = _sparing(sorted(ridges, reverse=True), errors_of)
    error = float(errors[ridge].sum())
    if error >= error_plain:
        return Repair(plain, bias, ridge, error_plain, error, used=False)
    # A ridge is relative to the mean variance, so the one chosen on parts holds for all rows.
    change, shift = regression_of(whole)(ridge)
    return Repair(start + change, bias + shift, ridge, error_plain, error, used=True)


def _sparing(ridges: Sequence[float], errors_of: Callable[[float], Floats]) -> float:
    """Return the largest ridge that is not clearly worse than the best, from the errors of each on every part (P,).

    Where one part or one sample in it decides, its excess is no more than its own standard error.
    """
    if not ridges:
        raise ValueError("no ridges to try")
    # Sums, as the parts' shares are in the errors already.
    best = lowest(ridges, lambda ridge: float(errors_of(ridge).sum()))
    for ridge in ridges[: ridges.index(best)]:  # the largest first
        excess = errors_of(ridge) - errors_of(best)
        if excess.mean() <= STANDARD_ERRORS * excess.std(ddof=1) / np.sqrt(excess.size):
            return ridge
    return best
