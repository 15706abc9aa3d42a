"""Silero's voice activity detectors: chunks of 512 samples at 16 kHz with the 64 before them, and a state that goes on.

The files differ in what they take: the state as one tensor or two, the rate or not, one chunk or a sequence of them.
A state's samples lie on its second axis, so a calibration file cannot hold one for each chunk: it holds the one that
the original is in in the middle of the talk.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shipped.family import Array, Arrays, Family, Figures, Groups, Model, Request
from shipped.running import Loaded
from shipped.sound import Wave, talk

RATE, CHUNK, CONTEXT = 16_000, 512, 64
CALIBRATION, FRESH = 512, 60.0  # chunks; seconds
AT_ONCE = 32  # chunks of a run, where the model takes a sequence
SPEECH = 0.5
STATES = {"state": (2, 1, 128), "h": (1, 1, 128), "c": (1, 1, 128)}
INPUT, SAMPLE_RATE = "input", "sr"


def chunks(sound: Wave) -> Array:
    """(n, CONTEXT + CHUNK) each chunk behind the end of the one before."""
    whole = len(sound) // CHUNK
    padded = np.concatenate([np.zeros(CONTEXT), sound[: whole * CHUNK]]).astype(np.float32)
    return np.stack([padded[i * CHUNK : i * CHUNK + CONTEXT + CHUNK] for i in range(whole)])


@dataclass
class Listener:
    """A model with its state."""

    model: Model
    state: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = {n: np.zeros(STATES[n], dtype=np.float32) for n in self.model.inputs if n in STATES}

    def feeds(self, rows: Array) -> Arrays:
        rate = {SAMPLE_RATE: np.array(RATE, dtype=np.int64)} if SAMPLE_RATE in self.model.inputs else {}
        return {INPUT: rows, **rate, **self.state}

    def hear(self, rows: Array) -> Array:
        """The probability of speech in each chunk; the state is kept for the next."""
        probabilities, *states = self.model.run(self.feeds(rows))
        self.state = dict(zip(self.state, states, strict=True))
        return np.asarray(probabilities, dtype=np.float64).reshape(-1)

    def listen(self, rows: Array) -> Array:
        step = AT_ONCE if "h" in self.state else 1
        return np.concatenate([self.hear(rows[start : start + step]) for start in range(0, len(rows), step)])


def calibrate(request: Request) -> Arrays:
    rows = chunks(talk(request, (CALIBRATION + 1) * CHUNK / RATE, RATE))[:CALIBRATION]
    listener = Listener(Loaded.of(request.model))
    listener.listen(rows[: CALIBRATION // 2])
    return listener.feeds(rows)


def fresh(request: Request) -> Groups:
    return {"talk": {INPUT: chunks(talk(request, FRESH, RATE))}}


def judge(original: Model, pruned: Model, groups: Groups) -> Figures:
    (arrays,) = groups.values()
    reference, found = (Listener(model).listen(arrays[INPUT]) for model in (original, pruned))
    return {
        "chunks": len(reference),
        "speech": float((reference > SPEECH).mean()),
        "same_decision": float(((reference > SPEECH) == (found > SPEECH)).mean()),
        "mean_difference": float(np.abs(reference - found).mean()),
        "largest_difference": float(np.abs(reference - found).max()),
    }


def timed(model: Model, groups: Groups) -> Arrays:
    (arrays,) = groups.values()
    listener = Listener(model)
    return listener.feeds(arrays[INPUT][: AT_ONCE if "h" in listener.state else 1])


FAMILY = Family(calibrate, fresh, judge, timed, ("same_decision", "mean_difference", "largest_difference"))
