"""Measure memory and time against model size: prunes decoders of made-up weights and prints a table.

python tools/bench_scale.py [--sizes 60M,160M,400M,1.1B] [--dtype float32] [--blocks N] [-- OPTIONS OF PRUNE]

With --blocks N a decoder has that many blocks: two runs tell what a block takes, and so about what all of them do.

A decoder is a LLaMA as exporters write it: rotary positions, grouped queries, gated feed-forward, external data. Each
is pruned by the command line in a process of its own; memory is what the system counted for that process (`ru_maxrss`,
with the pages of mapped files, which it may drop at any time) and, on Linux, the most that was not file pages. What was
written is opened and run once.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

GIB = 2**30
ALIGNMENT = 4096
VOCABULARY = 32_000


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder."""

    width: int
    blocks: int
    heads: int
    groups: int
    units: int

    @property
    def head(self) -> int:
        return self.width // self.heads


SIZES = {
    "60M": Shape(width=512, blocks=8, heads=8, groups=4, units=1408),
    "160M": Shape(width=768, blocks=14, heads=12, groups=4, units=2048),
    "400M": Shape(width=1024, blocks=26, heads=16, groups=4, units=2816),
    "1.1B": Shape(width=2048, blocks=22, heads=32, groups=4, units=5632),
}


class Decoder:
    """Writes a decoder: the nodes, and its weights straight into the data file."""

    def __init__(self, shape: Shape, dtype: str, data: Path) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        self.data, self.end = data, 0
        self.stream = data.open("wb")
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def op(self, op: str, *inputs: str, name: str = "", **attributes: object) -> str:
        name = name or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}_output_0"], name=name, **attributes))
        return f"{name}_output_0"

    def constant(self, value: object, dtype: object = np.int64) -> str:
        name = f"Constant_{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def weight(self, name: str, *dims: int) -> str:
        """Store random weights, by rows so that memory stays small."""
        tensor = TensorProto(name=name, data_type=self.kind, dims=dims, data_location=TensorProto.EXTERNAL)
        offset = -(-self.end // ALIGNMENT) * ALIGNMENT
        self.stream.seek(offset)
        scale = np.float32(dims[0] ** -0.5 if dims[0] != VOCABULARY else 1.0)
        for start in range(0, dims[0], 1024):
            rows = self.rng.standard_normal((min(1024, dims[0] - start), *dims[1:]), np.float32) * scale
            self.stream.write(rows.astype(self.dtype).tobytes())
        self.end = self.stream.tell()
        for key, value in (("location", self.data.name), ("offset", offset), ("length", self.end - offset)):
            tensor.external_data.add(key=key, value=str(value))
        self.stored.append(tensor)
        return name

    def norm(self, x: str, name: str) -> str:
        """Write a root-mean-square normalisation, in float32 as exporters do."""
        wide = self.op("Cast", x, to=TensorProto.FLOAT)
        power = self.op("ReduceMean", self.op("Pow", wide, self.constant(2, np.float32)), axes=[-1], keepdims=1)
        root = self.op("Sqrt", self.op("Add", power, self.constant(1e-5, np.float32)))
        scaled = self.op("Mul", wide, self.op("Div", self.constant(1, np.float32), root))
        gamma = numpy_helper.from_array(np.ones(self.shape.width, self.dtype), name)
        self.stored.append(gamma)
        return self.op("Mul", name, self.op("Cast", scaled, to=self.kind))

    def linear(self, x: str, name: str, inputs: int, outputs: int) -> str:
        return self.op("MatMul", x, self.weight(f"{name}.weight", inputs, outputs), name=f"/{name}/MatMul")

    def heads(self, x: str, count: int) -> str:
        shaped = self.op("Reshape", x, self.constant([0, 0, count, self.shape.head]))
        return self.op("Transpose", shaped, perm=[0, 2, 1, 3])

    def rotated(self, x: str, cos: str, sin: str) -> str:
        half, last = self.constant([self.shape.head // 2]), self.constant([3])
        low = self.op("Slice", x, self.constant([0]), half, last)
        high = self.op("Slice", x, half, self.constant([2**62]), last)
        turned = self.op("Concat", self.op("Neg", high), low, axis=-1)
        return self.op("Add", self.op("Mul", x, cos), self.op("Mul", turned, sin))

    def repeated(self, x: str, tokens: str) -> str:
        """Give every query head its group's keys or values."""
        s = self.shape
        many = [self.constant([n]) for n in (s.groups, s.heads // s.groups, s.head, s.heads)]
        batch, length = (self.op("Unsqueeze", n, self.constant([0])) for n in (self.size("input_ids", 0), tokens))
        wide = self.op("Concat", batch, many[0], many[1], length, many[2], axis=0)
        expanded = self.op("Expand", self.op("Unsqueeze", x, self.constant([2])), wide)
        return self.op("Reshape", expanded, self.op("Concat", batch, many[3], length, many[2], axis=0))

    def size(self, tensor: str, axis: int) -> str:
        return self.op("Gather", self.op("Shape", tensor), self.constant(axis), axis=0)

    def positions(self, tokens: str) -> tuple[str, str]:
        """Write cosine and sine of the rotary positions, (tokens, head)."""
        frequencies = 1e4 ** (-np.arange(0, self.shape.head, 2, np.float32) / self.shape.head)
        steps = self.op("Cast", self.op("Range", self.constant(0), tokens, self.constant(1)), to=TensorProto.FLOAT)
        angles = self.op(
            "Mul", self.op("Unsqueeze", steps, self.constant([1])), self.constant(frequencies[None], np.float32)
        )
        both = self.op("Concat", angles, angles, axis=-1)
        cos, sin = (self.op("Cast", self.op(op, both), to=self.kind) for op in ("Cos", "Sin"))
        return cos, sin

    def attention(self, x: str, name: str, cos: str, sin: str, mask: str, tokens: str) -> str:
        s = self.shape
        query = self.heads(self.linear(x, f"{name}.q_proj", s.width, s.width), s.heads)
        key, value = (
            self.heads(self.linear(x, f"{name}.{p}_proj", s.width, s.groups * s.head), s.groups) for p in "kv"
        )
        query, key = self.rotated(query, cos, sin), self.rotated(key, cos, sin)
        key, value = self.repeated(key, tokens), self.repeated(value, tokens)
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self.op("Add", self.op("Div", scores, self.constant(s.head**0.5, self.dtype)), mask)
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), value)
        joined = self.op("Reshape", self.op("Transpose", mixed, perm=[0, 2, 1, 3]), self.constant([0, 0, s.width]))
        return self.linear(joined, f"{name}.o_proj", s.width, s.width)

    def feed_forward(self, x: str, name: str) -> str:
        s = self.shape
        gate, up = (self.linear(x, f"{name}.{part}_proj", s.width, s.units) for part in ("gate", "up"))
        hidden = self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), up)
        return self.linear(hidden, f"{name}.down_proj", s.units, s.width)

    def write(self, path: Path) -> int:
        """Write the model beside its data; return its parameters."""
        s = self.shape
        tokens = self.size("input_ids", 1)
        square = self.op("Concat", *[self.op("Unsqueeze", tokens, self.constant([0]))] * 2, axis=0)
        low = numpy_helper.from_array(np.array([-1e4], self.dtype))
        mask = self.op("Trilu", self.op("ConstantOfShape", square, value=low), self.constant(1), upper=1)
        cos, sin = self.positions(tokens)
        x = self.op("Gather", self.weight("model.embed_tokens.weight", VOCABULARY, s.width), "input_ids")
        for block in range(s.blocks):
            name = f"model.layers.{block}"
            normed = self.norm(x, f"{name}.input_layernorm.weight")
            x = self.op("Add", x, self.attention(normed, f"{name}.self_attn", cos, sin, mask, tokens))
            normed = self.norm(x, f"{name}.post_attention_layernorm.weight")
            x = self.op("Add", x, self.feed_forward(normed, f"{name}.mlp"))
        logits = self.linear(self.norm(x, "model.norm.weight"), "lm_head", s.width, VOCABULARY)
        self.nodes[-1].output[0] = "logits"
        assert logits != "logits"
        self.stream.close()
        wires = [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"]),
            helper.make_tensor_value_info("logits", self.kind, ["batch", "sequence", VOCABULARY]),
        ]
        graph = helper.make_graph(self.nodes, "main_graph", wires[:1], wires[1:], self.stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.write_bytes(model.SerializeToString())
        return int(sum(np.prod(t.dims) for t in self.stored))


@dataclass
class Used:
    """What a process took: seconds, and GiB at its peak with and without the pages of files."""

    code: int
    wall: float
    cpu: float
    resident: float
    anonymous: float


def measure(command: list[str]) -> Used:
    """Run a command to its end."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peaks = [0.0]
    watcher = threading.Thread(target=lambda: peaks.extend(_anonymous(process.pid)), daemon=True)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    watcher.join()
    seconds = usage.ru_utime + usage.ru_stime
    return Used(process.returncode, wall, seconds, usage.ru_maxrss * 1024 / GIB, max(peaks))


def _anonymous(pid: int) -> Iterator[float]:
    """GiB that are not file pages, every fifth of a second until the process ends."""
    with suppress(OSError, StopIteration):
        while True:
            with open(f"/proc/{pid}/status", encoding="ascii") as stream:
                yield next(int(line.split()[1]) for line in stream if line.startswith("RssAnon")) * 1024 / GIB
            time.sleep(0.2)


def bench(name: str, args: argparse.Namespace, folder: Path) -> str:
    """Make one decoder, prune it, and return a row of the table."""
    model, samples, out = folder / "model.onnx", folder / "calib.npz", folder / "model.pruned.onnx"
    shape = SIZES[name] if args.blocks is None else replace(SIZES[name], blocks=args.blocks)
    parameters = Decoder(shape, args.dtype, folder / "model.onnx.data").write(model)
    size = sum(file.stat().st_size for file in folder.iterdir()) / GIB
    ids = np.random.default_rng(1).integers(1, VOCABULARY, (args.samples, args.tokens))
    np.savez(samples, input_ids=ids)
    used = measure(
        [
            sys.executable,
            "-m",
            "onnxmi",
            "prune",
            str(model),
            str(samples),
            "--overwrite",
            "-o",
            str(out),
            *args.options,
        ]
    )
    if args.blocks is not None:
        name = f"{name}, {shape.blocks} of {SIZES[name].blocks} blocks"
    if used.code:
        return f"| {name} | {parameters / 1e6:,.0f} M | {size:.2f} | failed with {used.code} | | | | |"
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert np.isfinite(session.run(None, {"input_ids": ids[:1]})[0].astype(np.float32)).all()
    made = sum(file.stat().st_size for file in (out, out.with_name(f"{out.name}.data")) if file.exists()) / GIB
    ratio = used.resident / size
    times = f"{used.wall:,.0f} | {used.cpu:,.0f}"
    return (
        f"| {name} | {parameters / 1e6:,.0f} M | {size:.2f} | {made:.2f} | {used.resident:.2f} | {used.anonymous:.2f}"
        f" | {ratio:.1f} | {times} |"
    )


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--blocks", type=int, help="blocks of each decoder, instead of its own number")
    parser.add_argument("options", nargs="*", help="options of onnxmi prune, after --")
    args = parser.parse_args()
    print("| decoder | parameters | GiB | GiB after | peak GiB | of it not files | peak / model | s | CPU s |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --: |", flush=True)
    for name in args.sizes.split(","):
        with tempfile.TemporaryDirectory(prefix="onnxmi.scale.") as folder:
            print(bench(name, args, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
