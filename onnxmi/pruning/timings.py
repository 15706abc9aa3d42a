"""Times that a result rests on: measured once in a run, kept in its plan, and taken from there by another run.

Times are never measured twice alike, and so a budget of time would never give the same model twice. All that a search
decides by goes through here. A time is known by what was timed: its operators, the shapes of its weights and of its
inputs. The values of weights do not matter for time, and so do not count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from onnxmi.errors import UsageError
from onnxmi.graph.plan import Plan, Times, load_plan
from onnxmi.model import Model
from onnxmi.model.load import nodes_hash
from onnxmi.runtime.session import Feeds
from onnxmi.runtime.timing import Latency


@dataclass(frozen=True, eq=False)
class Timings:
    """The times of one run.

    Attributes
    ----------
    given : mapping or None
        Those of an earlier run by what was timed; None where all are measured.
    used : dict
        Those that were used so far.
    missing : list of str
        What was timed although times were given: they have none of it.
    """

    given: Mapping[str, Times] | None = None
    used: dict[str, Times] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def of(self, timed: Sequence[object], counts: Sequence[int | None], measure: Callable[[], Times]) -> Times:
        """Return the times of something: those of this run or of the one given, else measured now.

        Parameters
        ----------
        timed : sequence
            What says what is timed, for JSON.
        counts : sequence of int or None
            How many times each list has to have; None for any number, which is the same for all of these.
        measure : callable
            Returns the lists of times, ms.
        """
        key = hashlib.sha256(json.dumps(timed).encode()).hexdigest()[:32]
        if key not in self.used:
            known = (self.given or {}).get(key)
            usable = known is not None and _fits(known, counts)
            if not usable and self.given is not None:
                self.missing.append(key)
            self.used[key] = known if known is not None and usable else measure()
        return self.used[key]

    def of_models(
        self, protos: Sequence[onnx.ModelProto], feeds: Feeds, measure: Callable[[], Sequence[Latency]]
    ) -> tuple[Latency, ...]:
        """Return the times of models that are timed in turn; see `of`."""
        shapes = sorted((name, list(np.shape(value))) for name, value in feeds.items())
        timed = [shapes, *map(structure, protos)]
        times = self.of(timed, [None] * len(protos), lambda: [latency.times.tolist() for latency in measure()])
        return tuple(Latency(np.array(own, dtype=np.float64)) for own in times)

    @property
    def note(self) -> str | None:
        """What the user should know of it."""
        if self.given is None:
            return None
        if self.missing:
            return (
                f"{len(self.missing)} of {len(self.used)} times that the result rests on are not in the plan of"
                " --timings and were measured now: another run may give another result"
            )
        return f"all {len(self.used)} times that the result rests on are from the plan of --timings: none was measured"


def open_timings(path: str | None, model: Model) -> Timings:
    """Read the times of a plan; without one, all are measured.

    Raises
    ------
    PlanError
        If the plan cannot be read.
    UsageError
        If it is of another model, or has no times.
    """
    if path is None:
        return Timings()
    plan = load_plan(path)
    if plan.digest != model.digest:
        raise UsageError(
            f"--timings {path}: is of a model with digest {plan.digest[:12]}, this one's is {model.digest[:12]}"
        )
    if not plan.timings:
        raise UsageError(f"--timings {path}: this plan has no times: its result does not rest on any")
    return Timings(plan.timings)


def with_timings(plan: Plan, timings: Timings) -> Plan:
    """Return a plan with the times that it rests on."""
    return plan.with_timings(timings.used) if timings.used else plan


def _fits(times: Times, counts: Sequence[int | None]) -> bool:
    """Whether a plan, which anybody may edit, has as many times as are needed."""
    alike = {len(own) for own, count in zip(times, counts, strict=False) if count is None}
    right = all(count in (None, len(own)) for own, count in zip(times, counts, strict=False))
    return len(times) == len(counts) and right and len(alike) <= 1


def structure(proto: onnx.ModelProto) -> str:
    """Return a digest of what a model computes, without the values of its weights."""
    digest = nodes_hash(proto)
    for held in proto.graph.initializer:
        digest.update(repr((held.name, held.data_type, list(held.dims))).encode())
    return digest.hexdigest()[:32]
