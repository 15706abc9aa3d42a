"""Train and export the Fashion-MNIST network in models/, with its data, and add it to the manifest.

Needs torch and a file with `x_train`, `y_train`, `x_test` and `y_test` of Fashion-MNIST (uint8), made by `np.savez`:

    python tools/make_clothes.py --data fashion.npz --out models
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import make_models
import numpy as np
import torch
from make_models import SEED, Samples, conv_norm, describe_file, made_by, named, write_model
from torch import Tensor, nn

NAME = "clothes-cnn"
BATCH, EPOCHS, PEAK_RATE = 128, 8, 4e-3
CALIB_SAMPLES, EVAL_SAMPLES = 1024, 4000
SHAPE = (1, 28, 28)
COMMAND = "python tools/make_clothes.py --data fashion.npz --out models"
DATA = {
    "source": "Fashion-MNIST: the first 20,000 training images, and the first 4,000 test images",
    "attribution": "H. Xiao, K. Rasul, R. Vollgraf (2017), https://arxiv.org/abs/1708.07747",
    "licence": "MIT, Copyright (c) 2017 Zalando SE",
    "changes": "pixels divided by 255 to lie in [0, 1], stored as float32",
    "split": "the data's own; calib is the first 1,024 training images",
}


class Pixels(nn.Module):
    """Pixels from [0, 1] to zero mean and unit variance, so that the samples need no preprocessing."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.2860) / 0.3530


def network() -> nn.Module:
    return named(
        pixels=Pixels(),
        block1=named(conv=conv_norm(1, 48, 3, 2), relu=nn.ReLU()),
        block2=named(conv=conv_norm(48, 128, 3, 2), relu=nn.ReLU()),
        block3=named(conv=conv_norm(128, 192, 3), relu=nn.ReLU()),
        block4=named(conv=conv_norm(192, 192, 3, 2), relu=nn.ReLU()),
        flatten=nn.Flatten(),
        hidden=nn.Linear(192 * 16, 96),
        relu=nn.ReLU(),
        classifier=nn.Linear(96, make_models.CLASSES),
    )


def train(images: Tensor, labels: Tensor) -> nn.Module:
    torch.manual_seed(SEED)
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=1e-2)
    steps = EPOCHS * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(BATCH):
            flipped = torch.where(torch.rand(len(batch), 1, 1, 1) < 0.5, images[batch].flip(-1), images[batch])
            loss = nn.functional.cross_entropy(net(flipped), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: {loss.item():.3f}", flush=True)
    return net.eval()


def read(path: Path) -> tuple[Samples, Samples]:
    stored = np.load(path)
    parts = []
    for part in ("train", "test"):
        images = stored[f"x_{part}"].reshape(-1, *SHAPE).astype(np.float32) / np.float32(255)
        parts.append(Samples(images, stored[f"y_{part}"].astype(np.int64)))
    return parts[0], parts[1]


def first(samples: Samples, count: int) -> Samples:
    return Samples(samples.images[:count], samples.labels[:count])


def make(data: Path, out: Path) -> dict[str, Any]:
    """Write the model and its samples, and return its entry in the manifest."""
    training, test = read(data)
    net = train(torch.from_numpy(training.images), torch.from_numpy(training.labels))
    calib, evaluation = first(training, CALIB_SAMPLES), first(test, EVAL_SAMPLES)
    libraries = tuple(name for name in make_models.LIBRARIES if name != "scikit-learn")
    made = made_by(COMMAND, EPOCHS, libraries)
    entry = write_model(out / f"{NAME}.onnx", net, SHAPE, (training, calib, evaluation), made)
    return {**entry, "data": DATA, "data_licence": "MIT"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Fashion-MNIST as one .npz file")
    parser.add_argument("--out", type=Path, required=True, help="folder with the manifest")
    args = parser.parse_args()
    torch.set_num_threads(1)  # fixes the order of sums
    path = args.out / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["models"][NAME] = make(args.data, args.out)
    for file in sorted(args.out.glob(f"{NAME}.*")):
        manifest["files"][file.name] = describe_file(file)
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    print(manifest["models"][NAME])


if __name__ == "__main__":
    main()
