"""What kind an output is of: rules over what is known of a compared tensor, the first that fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnxmi.model import Graph, Node
from onnxmi.operators.registry import operator_of
from onnxmi.outputs.trace import Axes, Leaf
from onnxmi.outputs.view import Kind

DETECTS = ("boxes", "scores", "part of a detector")
BOX = 4  # columns of a box: two corners, or a center with a size
LONG = 1024  # positions from which on a single column is a signal, whatever made it
WIDE = 32  # columns from which on what is pooled last is taken for an embedding; networks may also pool their logits
VOCABULARY = 1000  # columns from which on numbers at positions are taken for logits of tokens
_IMAGE = 4  # axes of an image
_SERIES = 3  # axes of a series, and of a kernel that slides along it

_EMBEDS = re.compile(r"emb|feat|pool|hidden|latent|repr|vector|code(?!r)|sentence", re.IGNORECASE)
_SCORES = re.compile(r"logit|score|prob|cls|class|ctc|token|label", re.IGNORECASE)
_NORMS = frozenset(
    f"{kind}Normalization"
    for kind in ("Layer", "Lp", "RMS", "SimplifiedLayer", "SkipLayer", "SkipSimplifiedLayer", "EmbedLayer")
)
_POOLS = frozenset({"GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "AveragePool", "MaxPool", "Tanh"})
_LENGTHS = frozenset({"ReduceL2", "Clip", "Max", "Sqrt", "Expand", "Add", "ReduceSum", "Pow", "Mul"})
_THROUGH = 24  # operators that are looked through for what made a tensor


@dataclass(frozen=True)
class Facts:
    """What is known of a compared tensor.

    Attributes
    ----------
    output : str
        The graph output that it stands for.
    leaf : Leaf
        How it was found.
    shape : tuple of int
        Of one run.
    columns : tuple of int
        Axes of the columns.
    positions : tuple of int
        Axes of neither samples nor columns that have, or may have, several entries.
    free : frozenset of int
        Axes without a fixed size.
    mirrors : bool
        Whether the output has the very shape of an input of floats.
    labels_series : bool
        Whether its positions are those of an input that is a series, such as tokens.
    """

    output: str
    leaf: Leaf
    shape: tuple[int, ...]
    columns: Axes
    positions: Axes
    free: frozenset[int]
    mirrors: bool
    labels_series: bool

    @property
    def width(self) -> int:
        """Number of columns."""
        width = 1
        for axis in self.columns:
            width *= self.shape[axis]
        return width


@dataclass(frozen=True)
class InferredKind:
    """A kind, why, and whether that is a guess."""

    kind: Kind
    why: str = ""
    tentative: bool = False


Rule = Callable[[Graph, Facts], InferredKind | None]


def infer_kind(graph: Graph, facts: Facts) -> InferredKind:
    """Return the verdict of the first rule that has one."""
    return next(verdict for rule in _RULES if (verdict := rule(graph, facts)) is not None)


def _by_role(_graph: Graph, facts: Facts) -> InferredKind | None:
    role = facts.leaf.role
    if role == "state":
        return InferredKind("state")
    return InferredKind("detections", role) if role in DETECTS else None


def _by_link(_graph: Graph, facts: Facts) -> InferredKind | None:
    """Probabilities: of a sample, of the positions of a sequence, or of those of an image."""
    if facts.leaf.link == "identity" and facts.leaf.role != "classes":
        return None
    if facts.leaf.link == "softmax" and facts.free.intersection(facts.columns):
        return InferredKind("values", "probabilities over a variable number of positions")
    kinds: tuple[Kind, ...] = ("classes", "sequence", "map")
    return InferredKind(kinds[min(len(facts.positions), 2)])


def _vector(graph: Graph, facts: Facts) -> InferredKind | None:
    """Numbers of a sample as a whole."""
    if facts.positions:
        return None
    if facts.width < 2:
        return InferredKind("values")
    if facts.mirrors:
        return InferredKind("values", "as many as an input has")
    if why := _unit_length(graph, facts.leaf.tensor):
        return InferredKind("embedding", why)
    if _EMBEDS.search(facts.output) and not _SCORES.search(facts.output):
        return InferredKind("embedding", "by its name", tentative=True)
    if facts.width > WIDE and (why := _pooled(graph, facts.leaf.tensor)):
        return InferredKind("embedding", why, tentative=True)
    return InferredKind("classes", "no softmax: taken for classes if its numbers look like logits", tentative=True)


def _series(graph: Graph, facts: Facts) -> InferredKind | None:
    """Numbers at the positions of one axis."""
    if len(facts.positions) != 1:
        return None
    if facts.width < 2:
        return _single(graph, facts)
    if _made_by(graph, facts.leaf.tensor, _one_of(_NORMS)) is not None:
        return InferredKind("embedding", "after a normalization")
    named = _SCORES.search(facts.output)
    if named or facts.width >= VOCABULARY:
        why = "by its name" if named else f"{facts.width:,} columns"
        return InferredKind("sequence", f"no softmax: taken for logits ({why})", tentative=True)
    if _EMBEDS.search(facts.output):
        return InferredKind("embedding", "by its name")
    return None


def _single(graph: Graph, facts: Facts) -> InferredKind:
    """One column along one axis: a signal if it is long or comes from a convolution along it."""
    made = _made_by(graph, facts.leaf.tensor, _multiplies)
    windows = made is not None and operator_of(made).convolves and _slides_along_one_axis(graph, made)
    if facts.shape[facts.positions[0]] >= LONG or windows:
        return InferredKind("signal", "one column along one axis")
    return InferredKind("values")


def _slides_along_one_axis(graph: Graph, node: Node) -> bool:
    kernels = [node.operand(layout.weight) for layout in operator_of(node).layouts]
    return any(graph.is_constant(name) and len(graph.constant_shape(name)) == _SERIES for name in kernels)


def _dense(_graph: Graph, facts: Facts) -> InferredKind | None:
    """Numbers at the places of an image."""
    if len(facts.positions) > 1 and len(facts.shape) >= _IMAGE:
        return InferredKind("map", f"{len(facts.positions)} axes of places")
    return None


def _rest(_graph: Graph, _facts: Facts) -> InferredKind:
    return InferredKind("values")


_RULES: tuple[Rule, ...] = (_by_role, _by_link, _vector, _series, _dense, _rest)


def pair_detector_tensors(facts: Sequence[Facts]) -> dict[int, str]:
    """Find boxes and scores of one detector among compared tensors: four columns beside others at the same places.

    Returns
    -------
    dict of int to str
        Index -> "boxes" or "scores".
    """
    found: dict[int, str] = {}
    for place, boxes in enumerate(facts):
        if not _may_be_boxes(boxes):
            continue
        others = [
            other
            for other, scores in enumerate(facts)
            if other != place and not _may_be_boxes(scores) and _places(scores) == _places(boxes)
        ]
        if others:
            found[place] = "boxes"
            found.update(dict.fromkeys(others, "scores"))
    return found


def detector_roles(facts: Sequence[Facts]) -> list[str]:
    """Return the role of each compared tensor, where those of one detector are known together."""
    pairs = pair_detector_tensors(facts)
    roles = [pairs.get(place, one.leaf.role) for place, one in enumerate(facts)]
    detectors = {one.output for one, role in zip(facts, roles, strict=True) if role in DETECTS}
    return [role or (DETECTS[-1] if one.output in detectors else "") for one, role in zip(facts, roles, strict=True)]


def _may_be_boxes(facts: Facts) -> bool:
    plain = facts.leaf.link != "softmax" and facts.leaf.role in ("", "boxes")
    # Four numbers for each token that goes in are a choice of four: boxes have places of their own.
    return plain and len(facts.positions) == 1 and facts.width == BOX and not facts.labels_series


def _places(facts: Facts) -> tuple[int, ...]:
    return tuple(facts.shape[axis] for axis in facts.positions) if facts.leaf.role != "state" else ()


def _multiplies(node: Node) -> bool:
    return operator_of(node).multiplies


def _one_of(operators: frozenset[str]) -> Callable[[Node], bool]:
    return lambda node: node.op in operators


def _made_by(
    graph: Graph, tensor: str, is_wanted: Callable[[Node], bool], through: frozenset[str] = frozenset()
) -> Node | None:
    """The nearest operator of some kinds behind those that change shapes, add or pick."""
    node = graph.producers.get(tensor)
    for _ in range(_THROUGH):
        if node is None or is_wanted(node):
            return node
        if node.op not in _PASSED and node.op not in through:
            return None
        reads = [name for name in node.inputs if name in graph.producers and name not in graph.sized]
        node = graph.producers[reads[0]] if reads else None
    return None


_RESHAPING = frozenset({"Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"})
_PICKING = frozenset({"Gather", "Slice", "Split", "Concat", "QuantizeLinear", "DequantizeLinear"})
_PASSED = _RESHAPING | _PICKING | {"Add", "Sub", "Mul", "Div", "Tanh", "Clip"}


def _unit_length(graph: Graph, tensor: str) -> str:
    """Say so if rows are divided by their length."""
    node = _made_by(graph, tensor, _one_of(frozenset({"Div", "LpNormalization"})))
    if node is None:
        return ""
    if node.op == "LpNormalization":
        return "divided by its length"
    length = _made_by(graph, node.operand(1), _one_of(frozenset({"ReduceL2"})), _LENGTHS)
    return "divided by its length" if length is not None and length.op == "ReduceL2" else ""


def _pooled(graph: Graph, tensor: str) -> str:
    """Say so if no linear operator comes after the last pooling or normalization."""
    ends = _NORMS | _POOLS | {"BatchNormalization"}
    made = _made_by(graph, tensor, lambda node: node.op in ends or _multiplies(node), frozenset({"Relu"}))
    if made is None or _multiplies(made):
        return ""
    return f"no linear operator after the last {made.op}"
