"""Operators that reduce axes, or compare along one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from onnxmi.operators.context import Rule, Site, Terms
from onnxmi.operators.rules.apply_signature import broadcast


def _reduced_axes(site: Site, operand: Terms) -> tuple[int, ...]:
    axes = site.axes(1)
    if not axes:
        axes = () if site.attribute("noop_with_empty_axes", 0) else tuple(range(len(operand)))
    return tuple(axis % len(operand) for axis in axes)


def _is_fed(site: Site) -> bool:
    """Whether a caller says which axes; then all are frozen."""
    fed = len(site.node.inputs) > 1 and bool(site.node.inputs[1]) and site.value(1) is None
    if fed:
        site.freeze_all("reduces axes that are not known")
    return fed


def _tie_rest(site: Site, operand: Terms, reduced: tuple[int, ...], out: Terms | None) -> None:
    if out is None:
        return
    keep = len(out) == len(operand)
    rest = [(axis, term) for axis, term in enumerate(operand) if axis not in reduced]
    targets = [out[axis] for axis, _ in rest] if keep else list(out)
    for (_, term), target in zip(rest, targets, strict=True):
        site.unify(term, target)


def _reducing(effect: Callable[[Site, Terms, tuple[int, ...]], None]) -> Rule:
    """Make the rule of a reduction from what it does to the reduced axes: the others pass."""

    @wraps(effect)
    def rule(site: Site) -> None:
        operand = site.operand(0)
        if operand is None or _is_fed(site):
            return
        reduced = _reduced_axes(site, operand)
        effect(site, operand, reduced)
        _tie_rest(site, operand, reduced, site.outs[0])

    return rule


@_reducing
def _reduce(site: Site, operand: Terms, reduced: tuple[int, ...]) -> None:
    """Freeze the axes that are reduced, tie the others."""
    site.freeze([operand[axis] for axis in reduced], "reduces over it")


@_reducing
def _reduce_mean(site: Site, _operand: Terms, reduced: tuple[int, ...]) -> None:
    """A mean of fewer channels is another mean: what is divided by it, or has it taken off, is renormalised."""
    site.renormalise(reduced)


@_reducing
def _reduce_sum(site: Site, _operand: Terms, reduced: tuple[int, ...]) -> None:
    """Summing is a contraction with ones: a channel that is zero adds nothing (nor to a sum of magnitudes)."""
    for axis in reduced:
        site.contract(0, axis)


def _along_axis(site: Site) -> None:
    """Operators that keep the shape but mix along one axis."""
    operand = site.operand(0)
    if operand is None:
        return
    site.freeze(_mixed_axes(site, operand), "runs over it")
    for out in site.outs:
        broadcast(site, operand, out)


def _mixed_axes(site: Site, operand: Terms) -> Terms:
    """Softmax flattened everything from `axis` on before opset 13."""
    if site.node.op in ("Softmax", "LogSoftmax", "Hardmax"):
        if site.graph.opset < 13:
            return operand[site.attribute("axis", 1) % len(operand) :]
        return (operand[site.attribute("axis", -1)],)
    axis = site.value(1)
    return operand if axis is None else (operand[int(axis.reshape(-1)[0])],)


def _arg_reduce(site: Site) -> None:
    operand = site.operand(0)
    if operand is None:
        return
    axis = int(site.attribute("axis", 0)) % len(operand)
    site.freeze([operand[axis]], "compares along it")
    _tie_rest(site, operand, (axis,), site.outs[0])


_REDUCERS = "ReduceLogSumExp ReduceMax ReduceMin ReduceProd"
_SUMS = "ReduceSum ReduceL1 ReduceL2 ReduceLogSum ReduceSumSquare"

RULES: dict[tuple[str, str], Rule] = {
    **{("", op): _reduce for op in _REDUCERS.split()},
    ("", "ReduceMean"): _reduce_mean,
    **{("", op): _reduce_sum for op in _SUMS.split()},
    **{("", op): _along_axis for op in ("Softmax", "LogSoftmax", "Hardmax", "CumSum")},
    **{("", op): _arg_reduce for op in ("ArgMax", "ArgMin")},
}
