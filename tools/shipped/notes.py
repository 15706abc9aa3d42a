"""Basic-pitch: two seconds of sound to notes, their beginnings and their contours, three maps of probabilities."""

from __future__ import annotations

import numpy as np

from shipped.agreement import f1
from shipped.family import Arrays, Family, Figures, Groups, Model, Request, first_sample
from shipped.running import both
from shipped.sound import noise, talk, tune

RATE, LENGTH = 22_050, 43_844
CALIBRATION, FRESH = 40, 64
TALK_SHARE = 0.2
ON = 0.5
INPUT = "serving_default_input_2:0"
# As the package's own code names the three.
NAMES = {
    "StatefulPartitionedCall:1": "note",
    "StatefulPartitionedCall:2": "onset",
    "StatefulPartitionedCall:0": "contour",
}


def _windows(request: Request, count: int) -> Arrays:
    rng, spoken = request.rng(), int(count * TALK_SHARE)
    said = talk(request, spoken * LENGTH / RATE + 1, RATE)[: spoken * LENGTH].reshape(spoken, LENGTH)
    played = [
        tune(rng, LENGTH, RATE) + noise(rng, LENGTH) * 10 ** rng.uniform(-4.5, -2.0) for _ in range(count - spoken)
    ]
    windows = np.concatenate([np.clip(np.stack(played), -1, 1), said]).astype(np.float32)
    return {INPUT: windows[rng.permutation(count), :, None]}


def calibrate(request: Request) -> Arrays:
    return _windows(request, CALIBRATION)


def fresh(request: Request) -> Groups:
    return {"windows": _windows(request, FRESH)}


def judge(original: Model, pruned: Model, groups: Groups) -> Figures:
    ((_, reference, found),) = both(original, pruned, groups)
    scores = {
        NAMES[name]: f1(one > ON, other > ON)
        for name, one, other in zip(original.outputs, reference, found, strict=True)
    }
    cells = {
        f"cells_{NAMES[name]}": int((one > ON).sum()) for name, one in zip(original.outputs, reference, strict=True)
    }
    return {**{f"f1_{name}": score for name, score in scores.items()}, **cells}


FAMILY = Family(calibrate, fresh, judge, first_sample, ("f1_note", "f1_onset", "f1_contour"))
