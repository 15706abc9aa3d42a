"""What a run leaves uncut although an option would cut it, with the bytes that it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from onnxmi.budget.units import size_text
from onnxmi.graph.layer_filter import DEFAULT_KINDS
from onnxmi.pruning.session import PruningSession
from onnxmi.transforms.factorize_embedding import find_embedding_tables

WORTH = 0.1  # share of the file that uncut weights have to hold to be named


@dataclass(frozen=True)
class Hint:
    """Weights that an option would cut.

    Attributes
    ----------
    option : str
        What to add to the command line.
    holds : str
        What holds how much of the file.
    """

    option: str
    holds: str

    @property
    def text(self) -> str:
        """Return both in one line."""
        return f"{self.holds}: {self.option} cuts it"


def uncut_weights(session: PruningSession, size: int, written: int | None = None) -> tuple[Hint, ...]:
    """Return hints at weights that hold a tenth of the file or more and were not to be cut.

    Parameters
    ----------
    session : PruningSession
        Of the run.
    size : int
        Bytes of the float model that they are compared with.
    written : int, optional
        Bytes of the file, if it is another: of its 8-bit version, which takes about the same share of all weights.
    """
    return tuple(hint for hint in _embedding_tables(session, size, size if written is None else written))


def _embedding_tables(session: PruningSession, size: int, written: int) -> Iterator[Hint]:
    """Name the embedding tables that are read row by row: only `--cut embedding` makes them narrower."""
    graph, options = session.model.graph, session.options
    if "embedding" in options.cut or options.only:
        return
    names = [table.name for table in find_embedding_tables(graph)]
    held = sum(prod(graph.constant_shape(name)) * graph.constant_dtype(name).itemsize for name in names)
    if held >= WORTH * size:
        tables = "the embedding table holds" if len(names) == 1 else f"{len(names)} embedding tables hold"
        bytes_held = size_text(held) if written == size else f"about {size_text(held * written / size)}"
        yield Hint(f"--cut {_with_kind(session, 'embedding')}", f"{tables} {bytes_held} of {size_text(written)}")


def _with_kind(session: PruningSession, kind: str) -> str:
    """Return the kinds that are cut now, and another."""
    chosen = session.options.cut or [name for name in DEFAULT_KINDS if name in {own.kind for own in session.layers}]
    return ",".join(dict.fromkeys([kind, *chosen]))
