"""What is compared of a model's answers: the nouns that the other modules here share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from onnxmi.typing import Array

Kind = Literal["classes", "values", "map", "sequence", "detections", "embedding", "signal", "state"]
Link = Literal["identity", "sigmoid", "softmax"]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""All kinds of outputs, as a user spells them."""

DISMISSED = "as given"
"""Why an output is ignored that the user leaves out."""


@dataclass(frozen=True)
class View:
    """A float tensor that is compared between two models, standing for (part of) a graph output.

    Attributes
    ----------
    name : str
        The graph output; followed by `/` and a part where it has several, such as the operands of a last Concat.
    output : str
        The graph output that it stands for.
    tensor : str
        What is compared: the output itself, the argument of its last Sigmoid, Softmax or LogSoftmax, an operand of its
        last Concat, or a float tensor that an output which is none is computed from.
    kind : str
        One of `KINDS`.
    link : str
        The function that turns the tensor into the answer: sigmoid or softmax where `tensor` is its argument.
    axes : tuple of int
        The axes of `tensor` that hold the columns (classes, values); none where it is one column. Not negative.
    sample_axis : int or None
        The axis of `tensor` that holds the samples; None where a run of one sample has none.
    weight : float
        In the damage of the whole model.
    why : str
        How that was found out, for people.
    columns : int
        Number of columns in the run that was looked at.
    tentative : bool
        Whether the kind is a guess that the graph does not settle, such as classes without a Softmax.
    """

    name: str
    output: str
    tensor: str
    kind: Kind
    link: Link
    axes: tuple[int, ...]
    sample_axis: int | None
    weight: float = 1.0
    why: str = ""
    columns: int = 1
    tentative: bool = False


@dataclass(frozen=True)
class Meaning:
    """What the outputs of a model mean.

    Attributes
    ----------
    views : tuple of View
        What is compared, in the order of the graph outputs; a tensor is compared once.
    ignored : mapping of str to str
        Graph outputs that nothing stands for, and why.
    """

    views: tuple[View, ...]
    ignored: Mapping[str, str]

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors to compare."""
        return tuple(view.tensor for view in self.views)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answers to some samples.

    Attributes
    ----------
    count : int
        Number of samples.
    values : mapping of str to tuple of arrays
        Tensor name -> one array a sample, in the samples' order, without the sample axis. Sizes may differ between
        samples. It holds the compared tensors and all graph outputs that are plain arrays.
    """

    count: int
    values: Mapping[str, tuple[Array, ...]]


def column_rows(array: Array, axes: tuple[int, ...]) -> Array:
    """Arrange an array as (rows, columns): the columns are the given axes, flattened in their order."""
    moved = np.moveaxis(array, axes, range(array.ndim - len(axes), array.ndim))
    columns = int(np.prod([array.shape[axis] for axis in axes], dtype=np.int64))
    return moved.reshape(-1, columns)
