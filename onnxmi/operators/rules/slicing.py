"""Operators that take a window of an axis, or put something beside it."""

from __future__ import annotations

from onnxmi.operators.context import Rule, Site, Terms

Window = tuple[int, int, int]  # start, end and step as stated


def _slice(site: Site) -> None:
    """A window of step one splits its axis in three; any other window freezes it."""
    operand, out = site.operand(0), site.outs[0]
    if operand is None or out is None:
        return
    windows = _windows(site, operand)
    if windows is None:
        site.freeze_all("takes a window that is not known")
        return
    bounds: dict[int, tuple[int, int]] = {}
    for axis, (term, result) in enumerate(zip(operand, out, strict=True)):
        if axis in windows:
            bounds[axis] = _take(site, term, result, windows[axis])
        else:
            site.unify(term, result)
    _state_bounds(site, windows, bounds)


def _windows(site: Site, operand: Terms) -> dict[int, Window] | None:
    """Axis -> window, in the order in which they are stated; None where they depend on the data."""
    starts, ends = site.axes(1, "starts"), site.axes(2, "ends")
    if starts is None or ends is None or not all(site.is_sized(place) for place in (1, 2, 3, 4)):
        return None
    axes = site.axes(3)
    steps = site.axes(4, "steps") or (1,) * len(starts)
    stated = zip(axes if axes is not None else range(len(starts)), starts, ends, steps, strict=True)
    return {axis % len(operand): (start, end, step) for axis, start, end, step in stated}


def _take(site: Site, term: int, result: int, window: Window) -> tuple[int, int]:
    """Tie one axis to its window; return the terms whose sizes the stated start and end are."""
    size, taken = site.size(term), site.size(result)
    start, end, step = window
    if step != 1:
        site.freeze([term, result], "takes every other position of it, or reorders it")
        return term, term
    first = min(max(start + size if start < 0 else start, 0), size)
    before, after = site.solver.dim(first), site.solver.dim(size - first - taken)
    total = site.solver.sum
    if size == taken:
        before, after = site.solver.dim(0), site.solver.dim(0)
    site.unify(term, total([before, result, after]))
    return (
        before if start >= 0 else total([result, after]),
        total([before, result]) if end >= 0 else after,
    )


def _state_bounds(site: Site, windows: dict[int, Window], bounds: dict[int, tuple[int, int]]) -> None:
    starts, ends = [bounds[axis][0] for axis in windows], [bounds[axis][1] for axis in windows]
    if len(site.node.inputs) > 1:
        site.states_sizes(1, starts)
        site.states_sizes(2, ends)
        return
    for entry, (start, end, _) in enumerate(windows.values()):
        for attribute, stated, term in (("starts", start, starts[entry]), ("ends", end, ends[entry])):
            if stated < 0:
                site.freeze([term], "counts from the end of it")
            elif stated == site.size(term):
                site.states_size(attribute, term, entry)


def _pad(site: Site) -> None:
    """Padding with a constant puts channels of its own beside an axis; any other kind freezes it."""
    operand, out = site.operand(0), site.outs[0]
    if operand is None or out is None:
        return
    pads, axes = site.axes(1, "pads"), site.axes(3)
    if pads is None:
        site.freeze_all("pads by amounts that are not known")
        return
    where = [axis % len(operand) for axis in (axes if axes is not None else range(len(operand)))]
    amounts = {axis: (pads[i], pads[i + len(where)]) for i, axis in enumerate(where)}
    constant = site.attribute("mode", "constant") == "constant" and site.is_sized(1) and site.is_sized(3)
    for axis, (term, result) in enumerate(zip(operand, out, strict=True)):
        before, after = amounts.get(axis, (0, 0))
        if (before, after) == (0, 0):
            site.unify(term, result)
        elif constant and min(before, after) >= 0:
            beside = [site.solver.dim(before), site.solver.dim(after)]
            site.unify(result, site.solver.sum([beside[0], term, beside[1]]))
            site.freeze(beside, "pads it")
        else:
            site.freeze([term, result], "pads it")


def _tile(site: Site) -> None:
    """Repeating an axis puts an outer factor, the number of repetitions, around it."""
    operand, out = site.operand(0), site.outs[0]
    if operand is None or out is None:
        return
    for term, result in zip(operand, out, strict=True):
        size = site.size(term)
        if size == site.size(result):
            site.unify(term, result)
        elif size and site.size(result) % size == 0:
            times = site.solver.dim(site.size(result) // size)
            site.freeze([times], "repeats it")
            site.unify(result, site.solver.product([times, term]))


RULES: dict[tuple[str, str], Rule] = {
    ("", "Slice"): _slice,
    ("", "Pad"): _pad,
    ("", "Tile"): _tile,
}
