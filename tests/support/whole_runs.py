"""One random network through the whole pipeline, in every mode: what came of it, and whether that is right.

A clean result, or an `OnnxmiError` that means what the documents say of it, is right. Everything else is a finding.
"""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import onnxmi
from onnxmi.errors import InvariantError, NothingToPruneError, OnnxmiError
from onnxmi.gate.check import CheckOptions, check
from tests.support import judge
from tests.support.random_models import random_network
from tests.support.random_models.network import Network
from tests.support.random_models.shipped import as_shipped

KINDS = ("channels", "ffn", "heads", "hidden", "qk", "value", "width")
COUNT, FRESH = 66, 240  # samples to calibrate on, and others to judge by; multiples of every fixed batch

# What may be refused: what the message says -> what it is counted as.
REFUSALS: tuple[tuple[str, str], ...] = (
    (r"nothing to prune: every cut that was tried loses", "every cut loses too much"),
    (r"nothing to prune: none of the layers was chosen", "no layer of the kinds asked for"),
    (r"nothing to prune: the layers that may be cut make up less", "layers make up too little"),
    (r"nothing to prune: the model meets the budget", "meets the budget as it is"),
    (r"nothing to prune: a share of", "a share keeps every unit"),
    (r"nothing to prune", "no layer can be cut"),
    (r"the plan keeps every unit", "the plan keeps every unit"),
    (r"out of reach", "out of reach"),
    (r"not within --max-drop .* on the test samples", "loses more on its test samples"),
    (r"has no multiply-accumulates", "nothing of that cost to save"),
    (r"not written: (column \d+ of )?output .* is lost", "an output would be lost"),
)
"""Beside these, any refusal of a network that runs is a finding: it is no true reason."""


@dataclass(frozen=True)
class Outcome:
    """What came of one mode: "made", "refused" and why, "found" and what, or "absent" where there is no such network.

    `detail` is for whoever looks into it.
    """

    mode: str
    state: str
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0


class WrongError(Exception):
    """A result that an oracle rejects."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True, eq=False)
class Subject:
    """A random network with its samples."""

    seed: int
    network: Network

    @classmethod
    def of(cls, seed: int, form: str = "plain") -> Subject | None:
        """A network by its number, in one of `FORMS`; None where it cannot be had in that one."""
        network = as_shipped(random_network(random.Random(seed)), form)
        return None if network is None else cls(seed, network)

    @cached_property
    def arrays(self) -> dict[str, Any]:
        """What is calibrated on; every fourth network with labels."""
        made = self.network.samples(COUNT, 0)
        labels = self._labels(made) if self.seed % 4 == 3 else None
        return made if labels is None else {**made, "labels": labels}

    def _labels(self, samples: dict[str, Any]) -> Any:
        """What the network answers, and one in five something else."""
        first = judge.run_all(self.network, self.network.proto, samples)[0]
        if not isinstance(first, np.ndarray) or first.ndim != 2 or len(first) != COUNT or first.dtype.kind != "f":
            return None
        rng = np.random.default_rng(self.seed)
        return np.where(rng.random(COUNT) < 0.2, rng.integers(0, first.shape[1], COUNT), first.argmax(1))

    @cached_property
    def fresh(self) -> tuple[dict[str, Any], list[Any]]:
        """Samples to judge by, and what the original makes of them."""
        made = self.network.samples(FRESH, 1)
        return made, judge.run_all(self.network, self.network.proto, made)

    def prune(self, plan: Any = None, **options: Any) -> onnxmi.Result:
        chosen = onnxmi.PruneOptions(latency=False, threads=1, seed=self.seed, **options)
        return onnxmi.prune(self.network.proto, self.arrays, chosen, plan=plan)

    def judged(self, proto: onnx.ModelProto) -> None:
        """Raise where a column of the result's outputs is lost."""
        samples, wanted = self.fresh
        lost = judge.lost_columns(self.network, wanted, judge.run_all(self.network, proto, samples))
        if lost:
            worst = max(lost, key=lambda name: lost[name])
            raise WrongError("lost column", f"{len(lost)}, worst {worst} at {lost[worst]:.2f} of its variance")


# -- modes ------------------------------------------------------------------------------------------------------------


def default(subject: Subject) -> None:
    """No budget; the result is checked against the source."""
    result = subject.prune()
    subject.judged(result.proto)
    checked(subject, result.proto)


def macs(subject: Subject) -> None:
    subject.judged(subject.prune(macs=0.5).proto)


def max_size(subject: Subject) -> None:
    size = len(subject.network.proto.SerializeToString())
    made = subject.prune(max_size=round(size * 0.8)).proto
    if len(made.SerializeToString()) > round(size * 0.8):
        raise WrongError("missed budget", "the result is larger than what was asked for")
    subject.judged(made)


def keep(subject: Subject) -> None:
    """Half of every layer of every kind; then the plan again, which has to give the same."""
    result = subject.prune(keep=0.5, cut=KINDS)
    subject.judged(result.proto)
    again = subject.prune(plan=result.plan)
    if _bytes(again.proto) != _bytes(result.proto):
        raise WrongError("plan gives something else", "the plan with the same samples gives other bytes")


def cut(subject: Subject) -> None:
    """A plain cut of the layers that are exact: as the original with zeros, and as `apply` makes it."""
    proto = subject.network.proto
    kinds = KINDS if not judge.shared(proto, 1) else tuple(kind for kind in KINDS if kind != "qk")
    names = [layer.name for layer in onnxmi.analyse(proto).graph.layers if layer.grade == "exact"]
    if not names:
        raise NothingToPruneError("nothing to prune: no layer is exact")
    result = subject.prune(keep=0.5, cut=kinds, only=tuple(names), repair=False, force=True)
    applied = onnxmi.apply(proto, result.plan).model
    if _bytes(applied) != _bytes(result.proto):
        raise WrongError("apply gives something else", "a plan applied is not the plain cut")
    if judge.judgeable(proto) and {choice.layer for choice in result.plan.choices} <= set(names):
        _exact(subject, result.proto)  # a name may choose others, too: layers that share an operator


def _exact(subject: Subject, made: onnx.ModelProto) -> None:
    zeroed, batch = judge.masked(subject.network.proto, made), subject.network.batch
    for count in (batch,) if batch else (2, 5):
        feeds = subject.network.samples(count, 2)
        apart = judge.difference(judge.run(zeroed, feeds), judge.run(made, feeds))
        if apart > judge.SAME:
            raise WrongError("wrong cut", f"differs by {apart:.1e} from the masked original on {count} samples")


def sweep(subject: Subject) -> None:
    options = onnxmi.PruneOptions(threads=1, seed=subject.seed)
    curve = onnxmi.sweep(subject.network.proto, subject.arrays, options, by="macs", shares=(0.8, 0.6, 0.4))
    dropped = [note for note in curve.notes if "was dropped" in note]
    if len(curve.points) + len(curve.skipped) + len(dropped) != 3:
        raise WrongError("points are missing", f"{len(curve.points)} made, {len(curve.skipped)} skipped")
    if dropped:
        raise WrongError("a check stopped a model", dropped[0])


def checked(subject: Subject, made: onnx.ModelProto) -> None:
    """Hold a result against its source by the gate."""
    with tempfile.TemporaryDirectory() as folder:
        old, new, data = (Path(folder, name) for name in ("old.onnx", "new.onnx", "data.npz"))
        old.write_bytes(_bytes(subject.network.proto))
        new.write_bytes(_bytes(made))
        np.savez(data, **subject.arrays)
        limits = {"max-size-ratio": 2.0, "max-macs": 1e9, "max-drop": 1.0}
        report = check(new, CheckOptions(limits=limits, baseline=old, data=data, threads=1))
    failed = [verdict.name for verdict in report.failed]
    if failed:
        raise WrongError("the gate fails a result", ", ".join(failed))


def _bytes(proto: onnx.ModelProto) -> bytes:
    return bytes(proto.SerializeToString(deterministic=True))


MODES: Mapping[str, Callable[[Subject], None]] = {
    mode.__name__: mode for mode in (default, macs, max_size, keep, cut, sweep)
}


# -- what came of it --------------------------------------------------------------------------------------------------


def examine(seed: int, modes: tuple[str, ...] = tuple(MODES), form: str = "plain") -> Iterator[Outcome]:
    """Run one network through the modes."""
    subject = Subject.of(seed, form)
    if subject is None:
        yield from (Outcome(mode, "absent") for mode in modes)
        return
    for mode in modes:
        started = time.process_time()
        outcome = _outcome(mode, subject)
        yield replace(outcome, seconds=time.process_time() - started)


def _outcome(mode: str, subject: Subject) -> Outcome:
    try:
        MODES[mode](subject)
    except WrongError as error:
        return Outcome(mode, "found", error.kind, str(error))
    except InvariantError as error:
        return Outcome(mode, "found", "contradiction", str(error))
    except OnnxmiError as error:
        return _refused(mode, error)
    except Exception as error:
        return Outcome(mode, "found", f"{type(error).__name__} in {_place(error)}", str(error))
    return Outcome(mode, "made")


def _refused(mode: str, error: OnnxmiError) -> Outcome:
    message = " ".join(str(error).split())
    for pattern, reason in REFUSALS:
        if re.search(pattern, message):
            return Outcome(mode, "refused", reason, message)
    return Outcome(mode, "found", f"{type(error).__name__}: {message[:70]}", message)


def _place(error: Exception) -> str:
    """The last line of the package that the exception came through."""
    place, step = "?", error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if "onnxmi" in Path(code.co_filename).parts:
            place = f"{Path(code.co_filename).stem}.{code.co_name}"
        step = step.tb_next
    return place
