"""Where the time of a model goes, operator by operator, as onnxruntime's profiler tells."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnxmi.runtime.session import Feeds, profile

RUNS = 20
WARM_UP = 3
_KERNEL = "_kernel_time"  # how the names of the events end that say how long a node computed
_BODIES = frozenset({"If", "Loop", "Scan"})  # the time of their bodies' nodes is counted already


@dataclass(frozen=True)
class OperatorTime:
    """Operators of one kind: how many, and what they take of a run, ms."""

    operator: str
    nodes: int
    milliseconds: float


def operator_times(proto: onnx.ModelProto, feeds: Feeds, threads: int) -> tuple[OperatorTime, ...]:
    """Profile a model; the longest operators come first. Each node counts with the median of its runs."""
    return sum_by_operator(profile(proto, feeds, threads=threads, runs=RUNS + WARM_UP), WARM_UP)


def sum_by_operator(events: Sequence[Mapping[str, Any]], warm_up: int) -> tuple[OperatorTime, ...]:
    """Add up the events of a profile by operator, without each node's first runs."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        operator = str(event.get("args", {}).get("op_name", ""))
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL) and operator not in _BODIES:
            times[operator, event["name"]].append(event["dur"] / 1e3)
    runs = Counter(len(durations) for durations in times.values()).most_common(1)[0][0] if times else 1
    total: dict[str, float] = defaultdict(float)
    nodes: Counter[str] = Counter()
    for (operator, _), durations in times.items():
        each = len(durations) / runs  # a node in the body of a loop, or one of several without names, runs more often
        total[operator] += float(np.median(durations[round(warm_up * each) :] or durations)) * each
        nodes[operator] += max(round(each), 1)
    found = [OperatorTime(operator, nodes[operator], time) for operator, time in total.items()]
    return tuple(sorted(found, key=lambda entry: -entry.milliseconds))
