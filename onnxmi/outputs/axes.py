"""Which axes of a compared tensor are samples, columns and positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxmi.axes.terms import atoms
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.model import Graph
from onnxmi.outputs.columns import Axes, ColumnFinder, axes_by_shape
from onnxmi.outputs.kinds import Facts
from onnxmi.outputs.sample_axis import sample_axis
from onnxmi.outputs.trace import Leaf
from onnxmi.runtime.probe import Probe
from onnxmi.typing import Shape

_MATRIX = 2
_SERIES = 3  # axes of samples, positions and features


@dataclass(frozen=True, eq=False)
class AxisFinder:
    """What tells the axes of compared tensors apart.

    Attributes
    ----------
    probe : Probe
        Shapes on synthetic inputs.
    channels : ChannelGraph
        What axes are made of.
    columns : ColumnFinder
        Which of them are channels of weights.
    runs : sequence of mappings of str to shape
        Shapes in runs with different numbers of samples.
    counts : sequence of int
        How many samples each has.
    fed_atoms, free_atoms : frozenset of int
        Atoms of the inputs' axes; of those whose size is not fixed.
    declared : mapping of str to dims
        What the file says of the outputs' axes.
    """

    probe: Probe
    channels: ChannelGraph
    columns: ColumnFinder
    runs: Sequence[Mapping[str, Shape]]
    counts: Sequence[int]
    fed_atoms: frozenset[int]
    free_atoms: frozenset[int]
    declared: Mapping[str, tuple[int | str | None, ...]]

    @staticmethod
    def of(
        graph: Graph, seen: Probe, channels: ChannelGraph, runs: Sequence[Mapping[str, Shape]], counts: Sequence[int]
    ) -> AxisFinder:
        """Prepare for the tensors of a model."""
        dims = [
            (dim, term)
            for info in graph.inputs
            for dim, term in zip(info.dims or (), channels.axes.get(info.name, ()), strict=False)
        ]
        fed = frozenset(atom.id for _, term in dims for atom in atoms(term))
        free = frozenset(atom.id for dim, term in dims if not isinstance(dim, int) or dim <= 0 for atom in atoms(term))
        declared = {info.name: info.dims or () for info in graph.outputs}
        return AxisFinder(seen, channels, ColumnFinder.of(graph, channels), runs, counts, fed, free, declared)

    def find(self, output: str, leaf: Leaf) -> tuple[Facts, int | None]:
        """Return what is known of a tensor, and its axis of samples."""
        shapes, counts = self._seen(leaf.tensor)
        samples = sample_axis(shapes, counts) if counts else None
        shape = shapes[0] if shapes else self.probe.shapes[leaf.tensor]
        free = self._free(leaf.tensor, [*shapes, self.probe.shapes[leaf.tensor]])
        if samples is not None:
            free.discard(samples)
        declared = {axis for axis in range(len(shape)) if self._is_declared_free(output, leaf.tensor, axis)}
        columns = self._columns(leaf, free, declared, samples)
        others = [axis for axis in range(len(shape)) if axis not in columns and axis != samples]
        free |= declared & set(others)
        positions = tuple(axis for axis in others if shape[axis] > 1 or axis in free)
        series = self._labels_series(leaf.tensor, positions)
        return Facts(output, leaf, shape, columns, positions, frozenset(free), self._mirrors(output), series), samples

    def _seen(self, tensor: str) -> tuple[list[Shape], list[int]]:
        """Shapes in the runs, and how many samples these have; no numbers where some run does not have the tensor."""
        seen = [(run[tensor], count) for run, count in zip(self.runs, self.counts, strict=False) if tensor in run]
        # A Squeeze that names no axes drops that of the samples, too, where there is one sample.
        rank = max((len(shape) for shape, _ in seen), default=0)
        shapes = [shape for shape, _ in seen if len(shape) == rank]
        counts = [count for shape, count in seen if len(shape) == rank]
        return shapes, counts if len(seen) == len(self.counts) else []

    def _mirrors(self, output: str) -> bool:
        """Whether an output has the very shape of an input of floats, as a reconstruction has."""
        shapes = {tuple(feed.shape) for feed in self.probe.feeds.values() if feed.dtype.kind == "f"}
        return self.probe.shapes.get(output) in shapes

    def _labels_series(self, tensor: str, positions: Sequence[int]) -> bool:
        """Whether a tensor's positions are as many as those of an input of no more axes than a series has."""
        lengths = {feed.shape[1] for feed in self.probe.feeds.values() if _MATRIX <= feed.ndim <= _SERIES}
        return len(positions) == 1 and self.probe.shapes[tensor][positions[0]] in lengths

    def _free(self, tensor: str, shapes: Sequence[Shape]) -> set[int]:
        """Axes without a fixed size: of different sizes in different runs, or of an input's axis without one."""
        return self._tied(tensor, self.free_atoms) | {
            axis for axis, sizes in enumerate(zip(*shapes, strict=False)) if len(set(sizes)) > 1
        }

    def _tied(self, tensor: str, to: frozenset[int]) -> set[int]:
        """Axes that hold some of these atoms."""
        terms = self.channels.axes.get(tensor, ())
        return {axis for axis, term in enumerate(terms) if any(atom.id in to for atom in atoms(term))}

    def _is_declared_free(self, output: str, tensor: str, axis: int) -> bool:
        """Whether the file gives the axis no size, where the tensor has the very shape of the output."""
        dims = self.declared[output]
        same = self.probe.shapes.get(output) == self.probe.shapes[tensor]
        return same and axis < len(dims) and not isinstance(dims[axis], int)

    def _columns(self, leaf: Leaf, free: set[int], declared: set[int], samples: int | None) -> Axes:
        """Axes of the columns: structure first, then the weights, then the shape; never one without a fixed size."""
        if leaf.axes is not None and (leaf.link == "softmax" or not free.intersection(leaf.axes)):
            return leaf.axes
        taken = free if samples is None else {*free, samples}
        made = tuple(axis for axis in self.columns(leaf.tensor) if axis not in taken)
        rank = len(self.probe.shapes[leaf.tensor])
        # Exporters often name the axis of classes: of two axes the second has columns unless it is seen to vary.
        # An axis that an input has, too, holds places: nothing was summed over it, and no weights made it.
        taken = taken | set(self.columns.mixed(leaf.tensor)) | self._tied(leaf.tensor, self.fed_atoms)
        return made or axes_by_shape(rank, taken | declared if rank > _MATRIX else taken)
