"""Whether one model can stand in for another: the same inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from onnxmi.model import Model, TensorInfo
from onnxmi.model.narrow_states import with_whole_states


def interface_changes(old: Model, new: Model) -> list[str]:
    """Say how the inputs and outputs of a model differ from another's; nothing where a caller sees no difference.

    Inputs are matched by name, outputs also by place. Sizes that are not fixed are the same whatever they are called.
    States of which the model says that some units were cut are the same, too.
    """
    proto = with_whole_states(old.proto, new.proto)
    new = new if proto is new.proto else replace(new, proto=proto)
    return [*_inputs(old, new), *_outputs(old, new)]


def _inputs(old: Model, new: Model) -> Iterator[str]:
    before, after = ({info.name: info for info in model.graph.inputs} for model in (old, new))
    yield from (f"input {name!r} is gone" for name in before if name not in after)
    yield from (f"input {name!r} is new" for name in after if name not in before)
    yield from (_change("input", before[name], after[name]) for name in before if _differ(before, after, name))


def _outputs(old: Model, new: Model) -> Iterator[str]:
    before, after = ({info.name: info for info in model.graph.outputs} for model in (old, new))
    if list(before) != list(after):
        yield f"outputs {', '.join(before)} became {', '.join(after)}"
    yield from (_change("output", before[name], after[name]) for name in before if _differ(before, after, name))


def _differ(before: dict[str, TensorInfo], after: dict[str, TensorInfo], name: str) -> bool:
    return name in after and _seen(before[name]) != _seen(after[name])


def _seen(info: TensorInfo) -> tuple[str, tuple[int | None, ...] | None]:
    dims = None if info.dims is None else tuple(dim if isinstance(dim, int) and dim > 0 else None for dim in info.dims)
    return str(info.dtype), dims


def _change(what: str, old: TensorInfo, new: TensorInfo) -> str:
    return f"{what} {old.name!r}: {_text(old)} became {_text(new)}"


def _text(info: TensorInfo) -> str:
    dims = "of unknown shape" if info.dims is None else f"({', '.join(str(dim or '?') for dim in info.dims)})"
    return f"{info.dtype or 'no tensor'} {dims}"
