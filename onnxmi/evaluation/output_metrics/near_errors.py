"""Chances that answers stay right: each takes the errors of the answers whose margins are like its own.

Few answers lie near a border, so few are seen to change, and their number says little. An error that was seen at one
answer might as well have been that of another one like it. All errors tried at all of these tell the same share, and
tell it more steadily.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from onnxmi.typing import Floats

NEIGHBORS = 0.25  # share of the answers whose errors each takes; errors grow with the logits on some models
FEWEST, MOST = 10, 128  # of them
_BLOCK = 2**13  # answers that are looked at at once


def chances_to_stay(margins: Floats, errors: Floats) -> Floats:
    """Return the chance that each answer is right with an error that was found at one like it.

    Parameters
    ----------
    margins : (answers,) float64
        By how much what is right is ahead of the best of the rest; below 0 where the answer is wrong.
    errors : (answers,) float64
        What was added to each margin. NaN makes an answer wrong.

    Returns
    -------
    (answers,) float64
        Between 0 and 1.
    """
    count = len(margins)
    size = min(max(round(NEIGHBORS * count), FEWEST), MOST, count)
    if size == 0:
        return np.zeros(0)
    # A wrong answer near the border is as likely to change as a right one: only the distance counts.
    order = np.argsort(np.abs(margins), kind="stable")
    windows = sliding_window_view(errors[order], size)
    first = np.clip(np.arange(count) - size // 2, 0, count - size)
    chances = np.empty(count)
    for start in range(0, count, _BLOCK):
        rows = order[start : start + _BLOCK]
        ahead = margins[rows, None] + windows[first[start : start + _BLOCK]]
        chances[rows] = (ahead >= 0).mean(1)  # equal answers have equal ties
    return chances
