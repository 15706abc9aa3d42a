"""Branches that no run takes to its end, as what reads their results does not take what they give.

`squeeze` of an axis that may be one is written as an If on the size. One of its branches gives a tensor of another
rank, and often what follows takes one rank alone: onnxruntime ends a run that takes the other branch with an error.
Leaving such a branch out changes no run that succeeds, and the ranks behind it are known then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx

from onnxmi.model.bodies import bodies_of, nested_nodes
from onnxmi.model.conditions import Conditions, without_claims
from onnxmi.model.inline_branches import inline_branches, remove_unused


def forced_conditions(proto: onnx.ModelProto) -> dict[str, bool]:
    """Return the conditions that hold, or do not, in every run that gets to them and succeeds.

    Each If is named by its first result. Branches inside loops are not looked into.
    """
    lean = without_claims(proto)
    return _forced(lean, list(_branching(lean.graph))) if _is_consistent(lean) else {}


def _forced(proto: onnx.ModelProto, candidates: Sequence[str]) -> dict[str, bool]:
    """Try both branches of each candidate, and then of those inside the branches that are possible."""
    forced: dict[str, bool] = {}
    for name in candidates:
        proto, decided = _assuming(proto, forced)
        forced |= {one: holds for one, holds in decided.items() if one in candidates}
        node = next((node for node in proto.graph.node if node.output and node.output[0] == name), None)
        if node is None or node.op_type != "If":
            continue  # decided by what is forced, or left out with it
        possible: list[bool] = []
        for attribute, body in bodies_of(node):
            value = attribute == "then_branch"
            assumed, decided = _assuming(proto, {name: value})
            if not _is_consistent(assumed):
                continue
            possible.append(value)
            inside = {one.output[0] for one in nested_nodes(body) if one.op_type == "If"}
            forced |= {one: holds for one, holds in decided.items() if one in inside}
            forced |= _forced(assumed, [one for one in _branching(assumed.graph) if one in inside])
        if len(possible) == 1:
            forced[name] = possible[0]
    return forced


def _branching(graph: onnx.GraphProto) -> Iterator[str]:
    return (node.output[0] for node in graph.node if node.op_type == "If")


def _assuming(proto: onnx.ModelProto, assumed: Mapping[str, bool]) -> tuple[onnx.ModelProto, dict[str, bool]]:
    """Return the model as it is in runs where some conditions have these values, and all conditions that are known."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    decided: dict[str, bool] = {}
    while replaced := inline_branches(made.graph, Conditions(made, assumed)):
        decided |= replaced
    remove_unused(made.graph)
    return made, decided


def _is_consistent(proto: onnx.ModelProto) -> bool:
    """Whether shape inference finds nothing that onnxruntime would refuse."""
    try:
        onnx.shape_inference.infer_shapes(without_claims(proto), strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return False
    except ValueError:
        pass  # it gave up, which says nothing of the model
    return True
