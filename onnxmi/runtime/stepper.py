"""Running a model forward step by step over all batches, so that what comes later can still be changed.

Between steps only the tensors that later nodes read are held, beyond a limit in temporary files: going through a whole
model in steps costs one forward pass, and memory that does not grow with the number of batches.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence

import onnx

from onnxmi.model.narrow_states import narrowed_feeds
from onnxmi.model.subgraph import PartialModel
from onnxmi.runtime.live_tensors import MEMORY, LiveTensors
from onnxmi.runtime.session import Feeds, open_session
from onnxmi.typing import Array


class Stepper:
    """A model with its live tensors for every batch."""

    def __init__(
        self, proto: onnx.ModelProto, batches: Sequence[Feeds], threads: int = 0, memory: int = MEMORY
    ) -> None:
        self._pieces = PartialModel(proto)
        self._states = LiveTensors([narrowed_feeds(proto, feeds) for feeds in batches], memory)
        self._threads = threads

    @property
    def pieces(self) -> PartialModel:
        """The model's nodes and weights; change a weight before the step that reads it."""
        return self._pieces

    @property
    def made(self) -> frozenset[str]:
        """The tensors that nodes have made so far, held or not."""
        return self._pieces.made

    @property
    def states(self) -> Sequence[Mapping[str, Array]]:
        """The live tensors of every batch, where the model stands."""
        return self._states

    def amend(self, tensor: str, scale: Array, shift: Array) -> None:
        """Scale and shift a live tensor along its last axis, in every batch."""
        for number, state in enumerate(self._states):
            if tensor in state:
                value = state[tensor]
                self._states.set(number, tensor, (value * scale + shift).astype(value.dtype))

    def to(self, tensors: Sequence[str]) -> Iterator[Mapping[str, Array]]:
        """Run everything that the tensors need, and yield for every batch a mapping that holds them.

        A tensor that no later node reads is dropped once its batch has been yielded.
        """
        nodes = self._pieces.nodes_to_run(tensors)
        self._pieces.mark_as_run(nodes)
        live = self._pieces.live_after()
        if not nodes:
            yield from self._states
            return
        proto = self._pieces.model(nodes, self._states[0], live | set(tensors))
        session = open_session(proto, threads=self._threads)
        inputs = [value.name for value in proto.graph.input]
        for number, state in enumerate(self._states):
            made = session.run({name: state[name] for name in inputs})
            yield ChainMap(made, state)  # type: ignore[arg-type]  # it is read only
            self._states.keep(number, made, live)

    def inside(self, tensors: Sequence[str]) -> Iterator[Mapping[str, Array]]:
        """Run everything before the loops that make the tensors, and show what these make; they will be run again.

        Iterations are rows beside those of their sample. Where a batch has none, or none that makes a tensor, that is
        absent.
        """
        loops = self._pieces.loops_around(tensors)
        for _ in self.to(self._pieces.read_by(loops)):
            pass
        if not loops:
            yield from ({} for _ in self._states)
            return
        piece = self._pieces.model(loops, self._states[0], set())
        session = open_session(piece, taps=tensors, threads=self._threads)
        inputs = [value.name for value in piece.graph.input]
        for state in self._states:
            yield session.run({name: state[name] for name in inputs})
