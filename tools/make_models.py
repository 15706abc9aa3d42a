"""Train and export the models in models/, with their data and manifest.

Needs torch, scikit-learn, onnx, onnxruntime and numpy:

    python tools/make_models.py --out models
"""

import argparse
import hashlib
import json
import platform
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

SEED = 20240
EVAL_FRACTION = 0.3
CALIB_SAMPLES = 1024
BATCH = 64
OPSET = 17
CLASSES = 10
SIDE = 8
INPUT, OUTPUT = "image", "logits"
COMMAND = "python tools/make_models.py --out models"
LIBRARIES = ("torch", "onnx", "onnxruntime", "scikit-learn", "numpy")
DATA = {
    "source": "scikit-learn load_digits: test part of UCI Optical Recognition of Handwritten Digits",
    "attribution": "E. Alpaydin, C. Kaynak (1998), https://doi.org/10.24432/C50P49",
    "licence": "CC BY 4.0",
    "changes": "pixels divided by 16 to lie in [0, 1], stored as float32",
    "split": f"stratified by label, {EVAL_FRACTION:.0%} held out, seed {SEED}; calib is drawn from the training part",
}

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def shaped(self, shape: tuple[int, ...]) -> "Samples":
        return Samples(self.images.reshape(-1, *shape), self.labels)


@dataclass(frozen=True)
class Recipe:
    name: str
    shape: tuple[int, ...]
    build: Callable[[], nn.Module]
    epochs: int
    peak_rate: float


def named(**layers: nn.Module) -> nn.Sequential:
    """Chain layers under names of their own, which the exporter gives to the graph's nodes."""
    return nn.Sequential(OrderedDict(layers))


def mlp() -> nn.Module:
    return named(
        hidden1=nn.Linear(SIDE * SIDE, 256),
        relu1=nn.ReLU(),
        hidden2=nn.Linear(256, 256),
        relu2=nn.ReLU(),
        classifier=nn.Linear(256, CLASSES),
    )


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return named(conv=conv, norm=nn.BatchNorm2d(outputs))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, stride)
        self.second = conv_norm(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


def resnet() -> nn.Module:
    return named(
        stem=conv_norm(1, 16, 3),
        relu=nn.ReLU(),
        block1=Block(16, 16),
        block2=Block(16, 32, stride=2),
        block3=Block(32, 48, stride=2),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        classifier=nn.Linear(48, CLASSES),
    )


RECIPES = (
    Recipe("digits-mlp", (SIDE * SIDE,), mlp, epochs=60, peak_rate=5e-3),
    Recipe("digits-resnet", (1, SIDE, SIDE), resnet, epochs=30, peak_rate=1e-2),
)


def load_split() -> tuple[Samples, Samples]:
    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    train_x, eval_x, train_y, eval_y = train_test_split(
        images, labels, test_size=EVAL_FRACTION, stratify=labels, random_state=SEED
    )
    return Samples(train_x, train_y), Samples(eval_x, eval_y)


def shift(images: Tensor) -> Tensor:
    """Move each image by at most one pixel each way, filling with background."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    windows = padded.unfold(1, SIDE, 1).unfold(2, SIDE, 1)
    dy, dx = torch.randint(3, (2, len(images)))
    return windows[torch.arange(len(images)), dy, dx]


def train(recipe: Recipe, samples: Samples) -> nn.Module:
    torch.manual_seed(SEED)
    net = recipe.build()
    images, labels = torch.from_numpy(samples.images), torch.from_numpy(samples.labels)
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.peak_rate, weight_decay=1e-2)
    steps = recipe.epochs * -(-len(samples) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak_rate, total_steps=steps)
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(samples)).split(BATCH):
            logits = net(shift(images[batch]).reshape(-1, *recipe.shape))
            loss = nn.functional.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def export(net: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    # PRESERVE and no constant folding: the exporter would otherwise merge each
    # BatchNormalization into its Conv, and the models are there to show both.
    torch.onnx.export(
        net,
        (torch.zeros(1, *shape),),
        str(path),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        opset_version=OPSET,
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        dynamo=False,
    )


def count_correct(path: Path, samples: Samples) -> int:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run([OUTPUT], {INPUT: samples.images})
    return int((logits.argmax(axis=1) == samples.labels).sum())


def save(path: Path, samples: Samples) -> None:
    arrays: dict[str, Any] = {INPUT: samples.images, "labels": samples.labels}
    np.savez_compressed(path, **arrays)


def make(recipe: Recipe, training: Samples, held_out: Samples, out: Path) -> dict[str, Any]:
    """Write one model and its data, and return its entry in the manifest."""
    net = train(recipe, training)
    # train_test_split has shuffled the samples, so the first ones are a fair draw.
    calib = Samples(training.images[:CALIB_SAMPLES], training.labels[:CALIB_SAMPLES]).shaped(recipe.shape)
    evaluation = held_out.shaped(recipe.shape)
    made = made_by(COMMAND, recipe.epochs, LIBRARIES)
    entry = write_model(out / f"{recipe.name}.onnx", net, recipe.shape, (training, calib, evaluation), made)
    return {**entry, "data_licence": DATA["licence"]}


def made_by(command: str, epochs: int, libraries: tuple[str, ...]) -> dict[str, Any]:
    """Return what the manifest says of how a model was made."""
    return {
        "command": command,
        "seed": SEED,
        "epochs": epochs,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in libraries},
    }


def write_model(
    path: Path,
    net: nn.Module,
    shape: tuple[int, ...],
    samples: tuple[Samples, Samples, Samples],
    made: dict[str, Any],
) -> dict[str, Any]:
    """Write a trained model, its calibration and its evaluation samples, and return its entry in the manifest."""
    training, calib, evaluation = samples
    export(net, shape, path)
    save(path.with_suffix(".calib.npz"), calib)
    save(path.with_suffix(".eval.npz"), evaluation)
    correct = count_correct(path, evaluation)
    return {
        "made_by": made,
        "opset": OPSET,
        "parameters": sum(p.numel() for p in net.parameters()),
        "train_samples": len(training),
        "calib_samples": len(calib),
        "eval_samples": len(evaluation),
        "eval_correct": correct,
        "eval_accuracy": round(correct / len(evaluation), 6),
    }


def describe_file(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def write_manifest(models: dict[str, Any], out: Path) -> None:
    paths = sorted([*out.glob("*.onnx"), *out.glob("*.npz")])
    path = out / "manifest.json"
    known = json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else {}  # those of make_clothes.py
    manifest = {
        "data": DATA,
        "models": {**known, **models},
        "files": {path.name: describe_file(path) for path in paths},
    }
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and export the bundled models.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    # One thread fixes the order of floating-point sums, so that a rerun gives the same bytes.
    torch.set_num_threads(1)
    training, held_out = load_split()
    models = {recipe.name: make(recipe, training, held_out, out) for recipe in RECIPES}
    write_manifest(models, out)
    for name, entry in models.items():
        print(f"{name}: {entry['eval_correct']}/{entry['eval_samples']} correct")


if __name__ == "__main__":
    main()
