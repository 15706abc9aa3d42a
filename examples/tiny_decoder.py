"""Write a small decoder: it says which letter comes next, from the letters before it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto
from readout import Array, Network, fitted, run, words

LETTERS = " abcdefghijklmnopqrstuvwxyz."
LENGTH, WIDTH, HEADS, INNER = 24, 48, 4, 192
WORDS = words("an engineer cuts what the others do not need and keeps the rest of it as it was before")
INPUTS = {"input_ids": (TensorProto.INT64, ["batch", LENGTH])}


def texts(rng: np.random.Generator, count: int) -> Array:
    """Return letters of random sentences: (count, length + 1)."""
    rows = []
    for _ in range(count):
        text = " ".join(rng.choice(WORDS, 24)) + "."
        start = int(rng.integers(len(text) - LENGTH - 1))
        rows.append([LETTERS.index(letter) for letter in text[start : start + LENGTH + 1]])
    return np.array(rows, np.int64)


def attention(net: Network, x: str, block: int) -> str:
    """Add self-attention that sees the letters before."""
    size = WIDTH // HEADS
    apart = net.store(np.array([0, 0, HEADS, size]))

    def projected(name: str, perm: list[int]) -> str:
        wide = net.linear(x, WIDTH, WIDTH, f"block{block}/{name}")
        return net.add("Transpose", net.add("Reshape", wide, apart), perm=perm)

    query, key = projected("query", [0, 2, 1, 3]), projected("key", [0, 2, 3, 1])
    scores = net.add("Mul", net.add("MatMul", query, key), net.store(np.float32(size**-0.5)))
    later = np.triu(np.full((LENGTH, LENGTH), -1e4, np.float32), 1)
    shares = net.add("Softmax", net.add("Add", scores, net.store(later)), axis=-1)
    mixed = net.add("Transpose", net.add("MatMul", shares, projected("value", [0, 2, 1, 3])), perm=[0, 2, 1, 3])
    joined = net.add("Reshape", mixed, net.store(np.array([0, 0, WIDTH])))
    return net.linear(joined, WIDTH, WIDTH, f"block{block}/joined", damped=4)


def decoder(seed: int = 0) -> Network:
    """Return the network up to its hidden states, called `hidden`."""
    net = Network(np.random.default_rng(seed))
    letters = net.add("Gather", net.random(len(LETTERS), WIDTH, fan_in=2), "input_ids", name="letters")
    x = net.add("Add", letters, net.random(LENGTH, WIDTH, fan_in=8))
    for block in range(2):
        x = net.normalized(net.add("Add", x, attention(net, x, block)), WIDTH)
        inner = net.add("Relu", net.linear(x, WIDTH, INNER, f"block{block}/up"))
        x = net.normalized(net.add("Add", x, net.linear(inner, INNER, WIDTH, f"block{block}/down", damped=4)), WIDTH)
    net.add("Identity", x, name="hidden")
    return net


def main(folder: Path) -> None:
    """Write the model and texts."""
    rng = np.random.default_rng(7)
    net = decoder()
    rows = texts(rng, 1500)
    hidden = run(net.model(INPUTS, {"hidden": ["batch", LENGTH, WIDTH]}), {"input_ids": rows[:, :-1]})
    targets = 10 * np.eye(len(LETTERS))[rows[:, 1:].reshape(-1)]
    weights, bias = fitted(hidden.reshape(-1, WIDTH), targets, ridge=1e-5)
    net.add("Add", net.add("MatMul", "hidden", net.store(weights)), net.store(bias), name="logits")
    model = net.model(INPUTS, {"logits": ["batch", LENGTH, len(LETTERS)]})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "decoder.onnx").write_bytes(model.SerializeToString())
    for name, count in (("ids", 256), ("ids-eval", 400)):
        rows = texts(rng, count)
        np.savez(folder / f"{name}.npz", input_ids=rows[:, :-1])
    right = (run(model, {"input_ids": rows[:, :-1]}).argmax(axis=-1) == rows[:, 1:]).mean()
    print(f"{folder / 'decoder.onnx'}: {right:.3f} of the next letters are told right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
