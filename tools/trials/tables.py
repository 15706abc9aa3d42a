"""Rows as Markdown tables and as one plot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trials.kinds import ALIKE, ALLOCATED, CONTROL, ZEROED, kind_of

Row = dict[str, Any]
Speeds = Mapping[tuple[str, str, float], Row]
SHOWN = {True: "yes", False: "no"}


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean, and with several values the lowest and the highest."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if max(values) == min(values) else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """In the order in which keys come first."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def free_tables(rows: Iterable[Row], speeds: Speeds) -> Iterator[str]:
    """A table a model: accuracy by method and sparsity, and under it what the files cost."""
    for model, found in _grouped(rows, lambda r: (r["model"], r["samples"])).items():
        yield from _title(model[0], found)
        sparsities = sorted({row["sparsity"] for row in found})
        methods = _grouped(found, lambda r: (r["method"], r["repair"]))
        lines = []
        for (method, repair), group in methods.items():
            cells = (_cell(group, sparsity) for sparsity in sparsities)
            lines.append((method, SHOWN[repair], *cells))
        yield from table(("method", "repair", *(f"{s:g}" for s in sparsities)), lines)
        yield from _costs(found, speeds, sparsities)


def _title(model: str, rows: Sequence[Row]) -> Iterator[str]:
    seeds = sorted({row["seed"] for row in rows})
    samples = rows[0]["samples"]
    judged = f"the first {samples:,} evaluation samples" if samples else "the whole evaluation file"
    original = f"original accuracy {rows[0]['dense']:.3f}"
    yield f"**{model}**: accuracy / agreement; {original}; {judged}; seeds {_listed(seeds)}"
    yield ""


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _cell(rows: Sequence[Row], sparsity: float) -> str:
    """Mean accuracy / agreement, and the range of the accuracy over the seeds."""
    found = [row for row in rows if row["sparsity"] == sparsity]
    if not found:
        return "-"
    accuracy = [row["accuracy"] for row in found]
    text = f"{np.mean(accuracy):.3f} / {np.mean([row['agreement'] for row in found]):.3f}"
    return text if len(found) == 1 else f"{text} ({min(accuracy):.3f} to {max(accuracy):.3f})"


SHOWN_OF = {ZEROED: ("magnitude, per matrix", False), ALIKE: ("joint", True), ALLOCATED: ("joint, allocated", True)}


def _costs(rows: Sequence[Row], speeds: Speeds, sparsities: Sequence[float]) -> Iterator[str]:
    """What does not depend on the score: zeros against cuts."""
    model, lines = rows[0]["model"], []
    for kind, shown in SHOWN_OF.items():
        found = [r for r in rows if (r["method"], r["repair"]) == shown]
        lines.append(
            (kind, *(_cost([r for r in found if r["sparsity"] == s], speeds.get((model, kind, s))) for s in sparsities))
        )
    again = speeds.get((model, CONTROL, 0.0))
    control = f"; a copy of the dense model {_speed(again)}" if again else ""
    yield f"Speed-up on one thread, with its interval{control}; size of the file in MB, after gzip:"
    yield ""
    yield from table(("", *(f"{s:g}" for s in sparsities)), lines)


def _cost(rows: Sequence[Row], speed: Row | None) -> str:
    if not rows:
        return "-"
    mean = {key: float(np.mean([row[key] for row in rows])) for key in ("bytes", "gzip")}
    return f"{_speed(speed)}; {mean['bytes'] / 1e6:.2f}, {mean['gzip'] / 1e6:.2f}"


def _speed(row: Row | None) -> str:
    return f"x {row['speedup']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" if row else "-"


def by_kind(rows: Iterable[Row]) -> Speeds:
    """Model, kind and sparsity -> how fast."""
    return {(row["model"], row["kind"], row["sparsity"]): row for row in rows}


def chosen(rows: Iterable[Row]) -> list[Row]:
    """Of the learning rates that were tried, the one that did best on the held-back training samples."""
    groups = _grouped(rows, lambda r: (r["model"], r["samples"], r["method"], r["sparsity"], r["seed"], r["steps"]))
    return [max(group, key=lambda r: r["held"]) for group in groups.values()]


def tuned_tables(rows: Iterable[Row], speeds: Speeds) -> Iterator[str]:
    for (model, _, steps), found in _grouped(chosen(rows), lambda r: (r["model"], r["samples"], r["steps"])).items():
        yield from _title(f"{model}, {steps:,} steps of 32", found)
        sparsities = sorted({row["sparsity"] for row in found})
        head = ("method", "rate", *(f"{s:g}" for s in sparsities), "speed-up", "MB, after gzip")
        lines = []
        for method, group in _grouped(found, lambda r: r["method"]).items():
            rates = " / ".join(_rates(group, s) for s in sparsities)
            speed = " / ".join(_times(speeds.get((model, kind_of(method), s))) for s in sparsities)
            size = " / ".join(_mean(group, s, "gzip", 1e6, "{:.2f}") for s in sparsities)
            lines.append((method, rates, *(_cell(group, s) for s in sparsities), speed, size))
        yield from table(head, lines)


def _rates(rows: Sequence[Row], sparsity: float) -> str:
    return ", ".join(sorted({f"{row['rate']:g}" for row in rows if row["sparsity"] == sparsity})) or "-"


def _times(row: Row | None) -> str:
    return f"x {row['speedup']:.2f}" if row else "-"


def _mean(rows: Sequence[Row], sparsity: float, key: str, unit: float, shown: str) -> str:
    found = [row[key] / unit for row in rows if row["sparsity"] == sparsity]
    return shown.format(np.mean(found)) if found else "-"


def rival_tables(rows: Iterable[Row]) -> Iterator[str]:
    head = ("tool", "parameters", "MACs", "accuracy", "agreement", "error", "speed-up", "seconds", "faults of the file")
    for (model, share), found in _grouped(rows, lambda r: (r["model"], r["share"])).items():
        dense = next((f"; original accuracy {row['dense']:.3f}" for row in found if "dense" in row), "")
        yield f"**{model}**, asked for x {share:g} of the parameters{dense}"
        yield ""
        yield from table(head, (_rival(row) for row in sorted(found, key=lambda r: "onnxmi" not in r["tool"])))


def _rival(row: Row) -> tuple[str, ...]:
    if "failed" in row:
        return (row["tool"], *["-"] * 7, f"failed: {row['failed']}")
    numbers = {
        "share_left": "x {:.3f}",
        "macs": "x {:.3f}",
        "accuracy": "{:.3f}",
        "agreement": "{:.3f}",
        "error": "{:.2f}",
        "speedup": "x {:.2f}",
        "cut_seconds": "{:.2g}",
    }
    cells = (text.format(row[key]) if key in row else "-" for key, text in numbers.items())
    return (row["tool"], *cells, "; ".join(row["faults"]) or "none")


def ablation_tables(rows: Iterable[Row]) -> Iterator[str]:
    for (model, part), found in _grouped(rows, lambda r: (r["model"], r["part"])).items():
        seeds = _listed(sorted({row["seed"] for row in found}))
        yield f"**{part}**, {model}, sparsity {found[0]['sparsity']:g}, seeds {seeds}"
        yield ""
        lines = []
        for setting, group in _grouped(found, lambda r: r["setting"]).items():
            cells = (spread([row[key] for row in group]) for key in ("accuracy", "agreement", "error"))
            lines.append((setting, f"x {np.mean([r['macs'] for r in group]):.2f}", *cells))
        yield from table(("setting", "MACs", "accuracy", "agreement", "error"), lines)


# -- the plot ---------------------------------------------------------------------------------------------------------

# (method, repair) -> name and style; colours that stay apart for most readers (Okabe and Ito)
DRAWN = {
    ("magnitude, whole model", False): ("magnitude, zeroed, whole model", "#999999", "o", ":"),
    ("sparsegpt, per block", True): ("SparseGPT, repaired in one pass", "#999999", "o", "-"),
    ("zeroed, repaired step by step", True): ("zeroed, repaired step by step", "#000000", "o", "-"),
    ("magnitude", False): ("magnitude, cut", "#D55E00", "s", ":"),
    ("magnitude", True): ("magnitude, cut and repaired", "#D55E00", "s", "-"),
    ("pairwise", True): ("pairwise MI, cut and repaired", "#CC79A7", "^", "-"),
    ("joint", False): ("joint MI, cut", "#0072B2", "D", ":"),
    ("joint", True): ("joint MI, cut and repaired", "#0072B2", "D", "-"),
    ("joint, allocated", True): ("the same, sizes allocated", "#009E73", "v", "-"),
}


LOWEST = 0.12  # accuracy below the dense model's that is still drawn: what falls further is of no use


def plot(rows: Sequence[Row], speeds: Speeds, target: Path) -> None:
    """Accuracy by sparsity and, below, by speed-up; a column a model; lines that leave a panel below are lost."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    models = _grouped(rows, lambda r: r["model"])
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "claims"})  # small, and the same bytes again
    size = (3.2 * len(models), 6.0)
    figure, axes = plt.subplots(2, len(models), figsize=size, layout="constrained", squeeze=False, sharey="col")
    for column, (model, found) in zip(axes.T, models.items(), strict=True):
        for axis in column:
            axis.axhline(found[0]["dense"], color="black", linewidth=0.8, linestyle="--")
        for (method, repair), (name, colour, marker, line) in DRAWN.items():
            points = _points([r for r in found if (r["method"], r["repair"]) == (method, repair)])
            style = {"color": colour, "marker": marker, "linestyle": line, "markersize": 4}
            timed = [(speeds.get((model, kind_of(method), sparsity)), height) for sparsity, height in points]
            paced = [(speed["speedup"], height) for speed, height in timed if speed]
            for axis, drawn in zip(column, (points, paced), strict=True):
                if drawn:
                    axis.plot(*zip(*drawn, strict=True), label=name, **style)
        top = found[0]["dense"]
        column[0].set(title=model, xlabel="sparsity", ylim=(top - LOWEST, top + LOWEST / 10))
        column[1].set(xlabel="times as fast")
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy")
    handles, names = max((axis.get_legend_handles_labels() for axis in axes[0]), key=lambda found: len(found[0]))
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)


def _points(rows: Sequence[Row]) -> list[tuple[float, float]]:
    groups = _grouped(sorted(rows, key=lambda r: r["sparsity"]), lambda r: r["sparsity"])
    return [(sparsity, float(np.mean([r["accuracy"] for r in group]))) for sparsity, group in groups.items()]
