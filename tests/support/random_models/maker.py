"""What random models are made with: choices, and constants in the many ways exporters store them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from tests.support.build import Build

CHANNELS = (5, 7, 9, 11, 15, 21)
GROUPED = (9, 15, 21)


@dataclass(frozen=True)
class Flow:
    """A tensor on its way: `kind` is "image" (n, c, *space), "flat" (n, c) or "tokens" (n, t, c)."""

    name: str
    kind: str
    channels: int
    space: tuple[int, ...] = ()


@dataclass(frozen=True)
class Fed:
    """An input: its sizes after the batch, and what its samples look like ("normal", "ids" below `most`, "mask")."""

    name: str
    dims: tuple[int, ...]
    how: str = "normal"
    most: int = 0


@dataclass(frozen=True)
class Made:
    """An output: the axis of its columns, if it is a float tensor whose size no value decides.

    `type` is told where no shape inference finds it; `called` is its name, where it is not that of the tensor.
    """

    name: str
    columns: int | None = None
    type: onnx.ValueInfoProto | None = None
    called: str = ""


Step = Callable[["Maker", Flow], Flow]


@dataclass(frozen=True)
class Steps:
    """By kind of tensor: all steps, those that keep the shape, and those that change the number of channels alone."""

    all: dict[str, list[Step]]
    same: dict[str, list[Step]]
    widening: dict[str, list[Step]]


class Maker:
    """One model being made at random. `smooth` leaves out what can hide a change (Relu, Clip, MaxPool).

    `wide` takes in what needs inputs and outputs beside those of the network.
    """

    def __init__(self, rng: random.Random, steps: Steps, smooth: bool = False, wide: bool = False) -> None:
        self.rng, self.steps, self.smooth, self.wide = rng, steps, smooth, wide
        self.b = Build(seed=rng.randint(0, 2**31 - 1))
        self.batch: int | str = rng.choice(["N", 3, 1, *["N"] * (5 * wide)])
        self.feeds: list[Fed] = []
        self.outputs: list[Made] = []
        self.used: list[str] = []

    # -- choices ------------------------------------------------------------------------------------------------------

    def flag(self, chance: float = 0.5) -> bool:
        return self.rng.random() < chance

    def pick(self, options: Any) -> Any:
        return self.rng.choice(list(options))

    def op(self, *args: Any, **attrs: Any) -> Any:
        return self.b.op(*args, **attrs)

    def step(self, flow: Flow) -> Flow:
        return self._taken(self.steps.all[flow.kind], flow)

    def widen(self, flow: Flow) -> Flow:
        """A step that may change the number of channels, and nothing else."""
        return self._taken(self.steps.widening[flow.kind], flow)

    def same_shape(self, flow: Flow) -> Flow:
        """A few steps that keep the shape."""
        for _ in range(self.rng.randint(1, 2)):
            flow = self._taken(self.steps.same[flow.kind], flow)
        return flow

    def _taken(self, steps: list[Step], flow: Flow) -> Flow:
        step = self.pick(steps)
        self.used.append(step.__name__)
        return step(self, flow)

    def noted(self, end: Callable[[Maker, Flow], Any], flow: Flow) -> Any:
        """Take what adds outputs."""
        self.used.append(end.__name__)
        return end(self, flow)

    def shuffled(self, names: list[str]) -> list[str]:
        self.rng.shuffle(names)
        return names

    # -- inputs and outputs beside the flow ---------------------------------------------------------------------------

    def feed(self, name: str, dims: tuple[int, ...], how: str = "normal", most: int = 0) -> str:
        """An input; one of these sizes under this name is read again."""
        names = [f"{name}.{number}" for number in range(len(self.feeds))]
        for known in (name, *names):
            fed = Fed(known, dims, how, most)
            if fed in self.feeds:
                return known
            if all(other.name != known for other in self.feeds):
                self.feeds.append(fed)
                return self.b.input(self.batch, *dims, name=known, dtype=np.float32 if how == "normal" else np.int64)
        raise AssertionError("there are more names than inputs")

    def cached(self, key: str, value: str, dims: tuple[int, ...]) -> tuple[str, str]:
        """Put what was kept of earlier tokens before these, and hand all of it out."""
        number = self._present()
        made = []
        for part, name in ((key, "key"), (value, "value")):
            past = self.feed(f"past_key_values.{number}.{name}", dims)
            made.append(self.op("Concat", past, part, axis=2))
            self.outputs.append(Made(made[-1], 3, called=f"present.{number}.{name}"))
        return made[0], made[1]

    def _present(self) -> int:
        """The number of the next cache."""
        return sum(made.called.endswith(".key") for made in self.outputs)

    def state(self, key: str, value: str, dims: tuple[int, ...]) -> None:
        """Hand out what a fused node keeps."""
        number = self._present()
        for part, name in ((key, "key"), (value, "value")):
            info = onnx.helper.make_tensor_value_info(part, onnx.TensorProto.FLOAT, [self.batch, *dims])
            self.outputs.append(Made(part, 3, info, f"present.{number}.{name}"))

    # -- constants, in the many ways exporters store them -------------------------------------------------------------

    def vector(self, size: int) -> str:
        """A bias; sometimes one that others of its size read too, sometimes through an Identity."""
        known = [
            n for n, a in self.b.initializers.items() if a.shape == (size,) and a.dtype == np.float32 and n[0] == "s"
        ]
        name = self.pick(known) if known and self.flag() else self.b.vector(size, name=self.b.name("s"))
        return self.op("Identity", name) if self.flag(0.2) else name

    def matrix(self, k: int, m: int) -> str:
        """A (k, m) weight: stored, as a Constant node, or the transpose of a stored one."""
        form = self.pick(["stored", "stored", "transposed", "identity", "node"])
        if form == "transposed":
            return self.op("Transpose", self.b.weight(m, k), perm=[1, 0])
        name = self.b.weight(k, m, fan_in=k)
        if form == "identity":
            return self.op("Identity", name)
        if form == "node":
            value = onnx.numpy_helper.from_array(self.b.initializers.pop(name))
            return self.op("Constant", value=value)
        return name

    def shape_of(self, x: str, entries: list[int | str]) -> str:
        """A shape operand: integers are literal, "@i" is the size of axis i of x, read at run time."""
        if not any(isinstance(entry, str) for entry in entries):
            return self.literal([int(entry) for entry in entries])
        shape = self.op("Shape", x)
        parts = []
        for entry in entries:
            if isinstance(entry, str):
                one = self.op("Gather", shape, self.b.const(np.int64(int(entry[1:]))), axis=0)
                parts.append(self.op("Unsqueeze", one, self.literal([0])))
            else:
                parts.append(self.literal([entry]))
        return self.op("Concat", *parts, axis=0)

    def literal(self, values: list[int]) -> str:
        """An integer constant, shared with other users of the same value, as exporters do."""
        wanted = np.array(values, dtype=np.int64)
        for name, array in self.b.initializers.items():
            if array.dtype == np.int64 and np.array_equal(array, wanted) and array.shape == wanted.shape:
                return name
        return self.b.const(wanted)

    def one(self) -> str:
        return self.b.const(np.float32(1))

    def batch_entry(self) -> int | str:
        return self.pick(["@0", 0, -1])


def per_channel(m: Maker, x: Flow) -> str:
    shape = (x.channels, *(1 for _ in x.space)) if x.kind == "image" else (x.channels,)
    return m.b.const(m.b.rng.uniform(0.3, 1.5, size=m.pick([shape, (1,) * (x.kind == "image") + shape])))


def channel_axis(x: Flow) -> int:
    return 2 if x.kind == "tokens" else 1
