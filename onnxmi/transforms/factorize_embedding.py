"""embedding tables, split into their principal axes and a product that turns these back: E = (E Q) Q^T.

Q is orthogonal, so the outputs stay what they were. But the axes between the table and the product are a layer like any
other now, of kind "embedding", which can be cut without the residual stream it feeds: the width of the table alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnxmi.data.calibration import Calibration
from onnxmi.model import Graph, Model, Node
from onnxmi.model.editor import Editor
from onnxmi.operators.registry import operator_of
from onnxmi.typing import Floats, Ints, Samples

TALL = 4  # times as many rows as columns: below, a table has positions or kinds of token, and little to save
UNSEEN = 0.5  # added to every count: the estimate of Krichevsky and Trofimov (1981) for words that were not seen
BLOCK = 8192  # rows of a table that are read at a time


@dataclass(frozen=True)
class EmbeddingTable:
    """A stored table that nothing but one Gather reads: `ids` is the graph input that says which rows."""

    node: Node
    name: str
    ids: str


def factorize_embeddings(model: Model, data: Calibration, samples: Samples) -> Model:
    """Return the model with every embedding table looked up along its principal axes; itself where there is none.

    The axes are the eigenvectors of E^T diag(n + 1/2) E, where n is in how many of the samples a word occurs: that
    does not count padding more often than any other word.

    Parameters
    ----------
    samples : (n,) int64
        Samples to count words in.
    """
    tables = list(find_embedding_tables(model.graph))
    if not tables:
        return model
    editor = Editor(model.proto, model.spill_file)
    for table in tables:
        counts = document_counts(data.samples_of(table.ids, samples), model.graph.constant_shape(table.name)[0])
        _factorize(model.graph, table, counts, editor)
    return replace(model, proto=editor.finish())


def find_embedding_tables(graph: Graph) -> Iterator[EmbeddingTable]:
    """Find the tables that can be split: read by one Gather, and by ids that are fed."""
    fed = {info.name for info in graph.inputs}
    for node in graph.nodes:
        if not operator_of(node).gathers or node.attributes.get("axis", 0) != 0:
            continue
        name, ids = node.inputs[0], _source(graph, node.inputs[1])
        alone = graph.is_constant(name) and len(graph.consumers[name]) == 1 and ids in fed
        if alone and _is_tall(graph, name) and not _is_factorizable(graph, node):
            yield EmbeddingTable(node, name, ids)


def document_counts(ids: NDArray[np.integer], words: int) -> Ints:
    """In how many samples each word occurs, (words,); a negative id counts from the end."""
    found = [np.unique(sample[(sample >= -words) & (sample < words)] % words) for sample in ids]
    return np.bincount(np.concatenate([np.zeros(0, dtype=np.int64), *found]), minlength=words)


def _source(graph: Graph, name: str) -> str:
    """Go up through casts and copies."""
    while (node := graph.producers.get(name)) is not None and operator_of(node).copies:
        name = node.inputs[0]
    return name


def _is_tall(graph: Graph, name: str) -> bool:
    shape = graph.constant_shape(name)
    return len(shape) == 2 and shape[0] >= TALL * shape[1] > TALL and graph.constant_dtype(name).kind == "f"


def _is_factorizable(graph: Graph, node: Node) -> bool:
    """Whether all that is done with the rows is to multiply them with stored weights."""
    uses = graph.consumers.get(node.outputs[0], ())
    return all(operand == 0 and _multiplies_with_stored(graph, user) for user, operand in uses)


def _multiplies_with_stored(graph: Graph, node: Node) -> bool:
    operator = operator_of(node)
    return operator.per_position and any(node.operand(layout.weight) in graph.folded for layout in operator.layouts)


def _factorize(graph: Graph, table: EmbeddingTable, counts: Ints, editor: Editor) -> None:
    rows = graph.constant(table.name)
    axes = principal_axes(rows, counts + UNSEEN).astype(rows.dtype)
    editor.set_constant(table.name, np.asarray(rows @ axes))
    told = hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest()[:8]  # other samples, other axes: another layer
    editor.add_after(table.node.index, "MatMul", axes.T.copy(), f"{table.node.label}/axes-{told}")


def principal_axes(rows: NDArray[np.floating], weights: NDArray[np.floating]) -> Floats:
    """Eigenvectors (D, D) of the weighted second moments of rows (V, D), the largest first; each sign is settled."""
    moments = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK].astype(np.float64)
        moments += (part * weights[start : start + BLOCK, None]).T @ part
    axes = np.linalg.eigh(moments)[1][:, ::-1]
    largest = np.abs(axes).argmax(axis=0)
    return np.asarray(axes * np.sign(axes[largest, np.arange(axes.shape[1])]))
