"""Write a small detector: squares and discs in noisy pictures, as boxes and scores in YOLO's layout."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto
from readout import Array, Network, fitted, run

SIDE, CELL = 48, 8
CELLS = SIDE // CELL
CHANNELS = (24, 48, 96)
INPUTS = {"images": (TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])}


def scene(rng: np.random.Generator) -> tuple[Array, Array]:
    """Return a picture (1, side, side), and what each cell should say (6, cells, cells).

    A cell says the center, width and height of the shape whose center it has, in pixels, and the logits of both kinds.
    """
    image = rng.normal(0, 0.05, (SIDE, SIDE))
    answer = np.zeros((6, CELLS, CELLS))
    answer[:2] = (np.indices((CELLS, CELLS))[::-1] + 0.5) * CELL
    answer[2:4], answer[4:] = 12, -4
    rows, columns = np.indices((SIDE, SIDE))
    for quarter in rng.permutation(4)[: rng.integers(1, 4)]:
        radius = rng.integers(5, 9)
        low = radius + 1 + (SIDE // 2) * np.array([quarter // 2, quarter % 2])
        y, x = low + rng.integers(0, SIDE // 2 - 2 * radius - 1, 2)
        kind = int(rng.integers(2))
        away = np.hypot(rows - y, columns - x) if kind else np.maximum(abs(rows - y), abs(columns - x))
        image[away <= radius] = rng.uniform(0.6, 1)
        answer[:4, y // CELL, x // CELL] = x, y, 2 * radius, 2 * radius
        answer[4 + kind, y // CELL, x // CELL] = 4
    return image[None].astype(np.float32), answer


def scenes(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Return pictures (count, 1, side, side) and answers (count, 6, cells, cells)."""
    images, answers = zip(*(scene(rng) for _ in range(count)), strict=True)
    return np.stack(images), np.stack(answers)


def backbone(seed: int = 0) -> Network:
    """Return random convolutions down to one place a cell, called `features`."""
    net = Network(np.random.default_rng(seed))
    x, inputs = "images", 1
    for level, outputs in enumerate(CHANNELS):
        weight = net.random(outputs, inputs, 5, 5, fan_in=25 * inputs)
        bias = net.random(outputs, fan_in=50)
        strides, name = [2, 2], "features" if level == 2 else f"stage{level}/relu"
        x = net.add("Conv", x, weight, bias, name=f"stage{level}/conv", pads=[2, 2, 2, 2], strides=strides)
        x, inputs = net.add("Relu", x, name=name), outputs
    return net


def head(net: Network, weights: Array, bias: Array) -> None:
    """Add what reads the boxes and scores off the features: `output`, (batch, 6, cells)."""
    kernel = weights.reshape(3, 3, CHANNELS[-1], 6).transpose(3, 2, 0, 1)
    raw = net.add("Conv", "features", net.store(kernel), net.store(bias), name="head", pads=[1, 1, 1, 1])
    rows = net.add("Reshape", raw, net.store(np.array([0, 6, CELLS * CELLS])))
    boxes = net.add("Slice", rows, *(net.store(np.array([value])) for value in (0, 4, 1)), name="boxes")
    logits = net.add("Slice", rows, *(net.store(np.array([value])) for value in (4, 6, 1)), name="logits")
    net.add("Concat", boxes, net.add("Sigmoid", logits, name="scores"), axis=1, name="output")


def around(features: Array) -> Array:
    """Return the features of each place and its neighbors: (places, 9 * channels)."""
    padded = np.pad(features, ((0, 0), (0, 0), (1, 1), (1, 1)))
    shifted = [padded[:, :, y : y + CELLS, x : x + CELLS] for y in range(3) for x in range(3)]
    return np.concatenate(shifted, axis=1).transpose(0, 2, 3, 1).reshape(-1, 9 * features.shape[1])


def main(folder: Path) -> None:
    """Write the model and pictures."""
    rng = np.random.default_rng(7)
    net = backbone()
    images, answers = scenes(rng, 1500)
    features = run(net.model(INPUTS, {"features": ["batch", CHANNELS[-1], CELLS, CELLS]}), {"images": images})
    rows = answers.transpose(0, 2, 3, 1).reshape(-1, 6)
    weights, bias = fitted(around(features), rows, 1e-4, often=np.where(rows[:, 4:].max(axis=1) > 0, 6.0, 1.0))
    head(net, weights, bias)
    model = net.model(INPUTS, {"output": ["batch", 6, CELLS * CELLS]})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "detector.onnx").write_bytes(model.SerializeToString())
    for name, count in (("scenes", 256), ("scenes-eval", 400)):
        images, answers = scenes(rng, count)
        np.savez(folder / f"{name}.npz", images=images)
    scores = run(model, {"images": images})[:, 4:].reshape(len(images), 2, CELLS, CELLS)
    marked = answers[:, 4:] > 0
    print(f"{folder / 'detector.onnx'}: {(scores[marked] > 0.5).mean():.3f} of {marked.sum()} shapes are found, and")
    print(f"{(scores[~marked] > 0.5).mean():.3f} of the cells without one are marked")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
