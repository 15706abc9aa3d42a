"""Hold the rewriter against the oracle on random networks and random plans: how many of them come out wrong?

    python tools/random_cuts.py --count 10000
    python tools/random_cuts.py --count 10000 --states      with states in the interface, which shrink, too
    python tools/random_cuts.py --count 10000 --bodies      of these networks, those that have an If, a Loop or a Scan

Every case is made from one number, so that a wrong one can be made again: --first NUMBER --count 1. The process lowers
its own priority. The exit code is 1 if a case was wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import onnx  # noqa: E402

from onnxmi.model.bodies import bodies_of  # noqa: E402
from onnxmi.model.narrow_states import narrow_states  # noqa: E402
from tests.support.oracle import Case, assert_exact, random_plan  # noqa: E402
from tests.support.random_models import random_model, random_stateful  # noqa: E402


def examine(number: int, seen: Counter[str], *, states: bool, bodies: bool) -> None:
    """Make one network and one plan, cut, and compare; raises where anything is wrong."""
    rng = random.Random(number)
    proto, fed_back = random_stateful(rng) if states else (random_model(rng), None)
    if bodies and not any(any(bodies_of(node)) for node in proto.graph.node):
        seen["networks passed over, as they have no bodies"] += 1
        return
    if states:
        case = Case.of(proto, fed_back)
    else:
        given = Case.of(proto)
        case = given.read()
        seen["networks with positions that nothing reads"] += case is not given
    plan = random_plan(case.graph, rng)
    cut = assert_exact(case, plan)
    if case.model.checker_error is None:  # onnx infers no shape behind some loops, and wants one of outputs
        onnx.checker.check_model(cut, full_check=True)
    seen["networks with narrower states"] += bool(narrow_states(cut))
    seen["networks with bodies"] += any(node.bodies for node in case.model.graph.nodes)
    seen.update(f"operator {node.op}" for node in case.model.graph.nodes)
    seen.update(f"layer of kind {layer.kind}" for layer in case.graph.layers)
    seen["layers cut"] += len(plan)
    seen["networks of which something was cut"] += bool(plan)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="networks to make")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--states", action="store_true", help="networks with states that are fed back")
    parser.add_argument("--bodies", action="store_true", help="pass over networks without bodies")
    args = parser.parse_args()
    os.nice(10)
    start, wrong, seen = time.monotonic(), 0, Counter[str]()
    for number in range(args.first, args.first + args.count):
        try:
            examine(number, seen, states=args.states, bodies=args.bodies)
        except Exception as error:
            wrong += 1
            print(f"{number}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
        if (number - args.first) % 500 == 499:
            print(f"# {number - args.first + 1}: {wrong} wrong, {time.monotonic() - start:.0f} s", flush=True)
    for name, times in sorted(seen.items()):
        print(f"{name:45} {times:8,}")
    print(f"{args.count:,} networks, {wrong} wrong, {time.monotonic() - start:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
