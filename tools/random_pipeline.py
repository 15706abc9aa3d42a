"""Run random networks of every kind through the whole pipeline, in every mode: is anything wrong with what comes out?

    python tools/random_pipeline.py --count 10000 --jobs 2 --rotate

`--rotate` runs one mode a network, in turn; without it every network goes through all of them. `--forms all` takes each
network in one of the forms that files are shipped in, in turn: optimized by onnxruntime, in 8 bits, in half precision.

A clean result or a refusal that means what the documents say is right; whatever else happens is a finding, and so is a
result that an oracle rejects which uses none of the package's own checks. Every network is made from one number: repeat
one with --first NUMBER --count 1. The process lowers its own priority. The exit code is 1 if anything was found.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click  # noqa: E402

from tests.support.random_models import random_network  # noqa: E402
from tests.support.random_models.shipped import FORMS  # noqa: E402
from tests.support.whole_runs import MODES, Outcome, examine  # noqa: E402

SLOW = 60.0  # seconds of one mode on one of these networks: a finding
SHOWN = 12  # numbers of networks to print for a kind of finding
Record = tuple[int, Outcome]
Made = tuple[str, frozenset[str]]  # the form of a network, and the steps that it is made of


def one(number: int, modes: tuple[str, ...], forms: tuple[str, ...], rotate: bool) -> tuple[list[Record], Made]:
    """Examine one network; also say what it is made of."""
    form, turn = forms[number % len(forms)], number // len(forms)  # so that every form meets every mode
    chosen = (modes[turn % len(modes)],) if rotate else modes
    steps = random_network(random.Random(number)).steps
    return [(number, outcome) for outcome in examine(number, chosen, form)], (form, steps)


def _all(
    numbers: range, modes: tuple[str, ...], forms: tuple[str, ...], rotate: bool, jobs: int
) -> Iterator[tuple[list[Record], Made]]:
    work = partial(one, modes=modes, forms=forms, rotate=rotate)
    if jobs == 1:
        yield from map(work, numbers)
        return
    with ProcessPoolExecutor(jobs, initializer=os.nice, initargs=(10,)) as pool:
        yield from pool.map(work, numbers, chunksize=4)


class Tally:
    """Counts of what came out, and the numbers of the networks with findings."""

    def __init__(self) -> None:
        self.states: dict[str, Counter[str]] = defaultdict(Counter)
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.seconds: Counter[str] = Counter()
        self.findings: dict[str, list[Record]] = defaultdict(list)
        self.steps: Counter[str] = Counter()
        self.forms: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, records: Iterable[Record], made: Made) -> None:
        form, steps = made
        self.steps.update(steps)
        for number, outcome in records:
            self.states[outcome.mode][outcome.state] += 1
            self.forms[form][outcome.state] += 1
            self.seconds[outcome.mode] += outcome.seconds
            if outcome.state == "refused":
                self.refusals[outcome.mode, outcome.reason] += 1
            if outcome.state == "found":
                self.findings[outcome.reason].append((number, outcome))
            if outcome.seconds > SLOW:
                self.findings[f"took longer than {SLOW:.0f} s"].append((number, outcome))

    def lines(self) -> Iterator[str]:
        """The report."""
        yield "made of: " + ", ".join(f"{name} {count:,}" for name, count in sorted(self.steps.items()))
        for mode, states in self.states.items():
            yield f"{mode:16} {_counts(states)}; {self.seconds[mode]:,.0f} s"
        for form, states in self.forms.items():
            yield f"{form:16} {_counts(states)}"
        for (mode, reason), count in sorted(self.refusals.items()):
            yield f"refused   {mode:9} {count:6,}  {reason}"
        for kind, records in sorted(self.findings.items(), key=lambda item: -len(item[1])):
            modes = Counter(outcome.mode for _, outcome in records)
            told = ", ".join(f"{mode} {count:,}" for mode, count in modes.items())
            numbers = " ".join(str(number) for number in islice(dict.fromkeys(number for number, _ in records), SHOWN))
            yield f"FOUND     {len(records):6,}  {kind} ({told}): networks {numbers}"
            yield f"                  first: {' '.join(records[0][1].detail.split())[:240]}"


def _counts(states: Counter[str]) -> str:
    return ", ".join(f"{states[state]:,} {state}" for state in ("made", "refused", "absent", "found"))


@click.command(help=__doc__)
@click.option("--count", default=1000, show_default=True, help="Networks to make.")
@click.option("--first", default=0, show_default=True, help="Number of the first one.")
@click.option("--modes", default=",".join(MODES), show_default=True, help="Modes to run, separated by commas.")
@click.option("--forms", default="plain", show_default=True, help="Forms to take in turn, or `all`.")
@click.option("--rotate", is_flag=True, help="One mode a network, in turn.")
@click.option("--jobs", default=1, show_default=True, help="Processes.")
@click.option("--every", default=500, show_default=True, help="Say how far it is after so many networks.")
def main(count: int, first: int, modes: str, forms: str, rotate: bool, jobs: int, every: int) -> None:
    """Examine networks and report."""
    chosen = _named(modes, "mode", MODES)
    shipped = tuple(FORMS) if forms == "all" else _named(forms, "form", FORMS)
    os.nice(5)
    started, tally = time.monotonic(), Tally()
    numbers = range(first, first + count)
    for number, (records, made) in enumerate(_all(numbers, chosen, shipped, rotate, jobs), 1):
        tally.add(records, made)
        for found_in, outcome in records:
            if outcome.state == "found":
                detail = " ".join(outcome.detail.split())[:160]
                click.echo(f"# network {found_in}, {made[0]}, {outcome.mode}: {outcome.reason}: {detail}", err=True)
        if number % every == 0:
            found = sum(map(len, tally.findings.values()))
            click.echo(f"# {number:,}: {found} findings, {time.monotonic() - started:.0f} s", err=True)
    for line in tally.lines():
        click.echo(line)
    found = sum(map(len, tally.findings.values()))
    click.echo(f"{count:,} networks, {found:,} findings, {time.monotonic() - started:.0f} s")
    sys.exit(1 if found else 0)


def _named(names: str, kind: str, known: Iterable[str]) -> tuple[str, ...]:
    chosen, known = tuple(names.split(",")), tuple(known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise click.UsageError(f"no {kind} {unknown[0]!r}; there are {', '.join(known)}")
    return chosen


if __name__ == "__main__":
    main()
