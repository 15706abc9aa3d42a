"""Samples that were read, before they are checked against a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from onnxmi.data.calibration import RESERVED, Calibration, check_calibration
from onnxmi.data.shards import Shard
from onnxmi.data.stored import SampleArray
from onnxmi.model import Graph


@dataclass(frozen=True)
class ReadSamples:
    """Samples that were read for one model, and can be checked against others.

    Attributes
    ----------
    arrays : mapping of str to array
        By the names of inputs, and `labels`.
    where : str
        Where they come from, for messages.
    notes : tuple of str
        What the user should know of how they were read.
    sample_axis : mapping of str to int
        What the user says of axes.
    shard : Shard or None
        Which part of their source they are, or are to be.
    divided : bool
        Whether only that part was read.
    held : object
        What has to be kept as long as arrays are read.
    captions : tuple of str
        What people know each sample by; see `onnxmi.data.sources.request.SampleData`.
    """

    arrays: Mapping[str, SampleArray]
    where: str
    notes: tuple[str, ...] = ()
    sample_axis: Mapping[str, int] = field(default_factory=dict)
    shard: Shard | None = None
    divided: bool = False
    held: object = None
    captions: tuple[str, ...] = ()

    def paired(self, graph: Graph) -> ReadSamples:
        """Give the only array the name of the only input, where they have different ones, and say so."""
        names = [name for name in self.arrays if name not in RESERVED]
        inputs = [info.name for info in graph.inputs]
        if len(inputs) != 1 or len(names) != 1 or names == inputs:
            return self
        arrays = {inputs[0] if name == names[0] else name: array for name, array in self.arrays.items()}
        return replace(self, arrays=arrays, notes=(*self.notes, f"{names[0]!r} is the input {inputs[0]!r}"))

    def check(self, graph: Graph) -> Calibration:
        """Check them against a model's inputs; see `check_calibration`."""
        to_take = None if self.divided else self.shard
        checked = check_calibration(self.arrays, graph, self.where, self.sample_axis, to_take)
        captions = self.captions if len(self.captions) == checked.count else ()
        notes = (*self.notes, *checked.notes)
        return replace(checked, notes=notes, origin=self.notes, shard=self.shard, held=self.held, captions=captions)
