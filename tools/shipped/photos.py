"""Crops of the photographs that scikit-image, scikit-learn and matplotlib ship, as detectors of people get them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

# Where people are comes up more often; the last four have none.
PHOTOS = (
    ("skimage", "data/astronaut.png", 5),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", 5),
    ("skimage", "data/camera.png", 3),
    ("skimage", "data/chelsea.png", 1),
    ("skimage", "data/coffee.png", 1),
    ("sklearn", "datasets/images/china.jpg", 1),
    ("sklearn", "datasets/images/flower.jpg", 1),
)


def photographs() -> list[tuple[Image.Image, int]]:
    """The photographs with how often each is drawn."""
    return [(Image.open(_folder(package) / name).convert("RGB"), weight) for package, name, weight in PHOTOS]


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed; its photographs are needed")
    return Path(spec.submodule_search_locations[0])


def crops(rng: np.random.Generator, count: int, side: int) -> NDArray[np.uint8]:
    """(count, side, side, 3) random crops: mirrored, darkened, tinted and turned a little."""
    photos = photographs()
    weights = np.array([weight for _, weight in photos], dtype=np.float64)
    drawn = rng.choice(len(photos), size=count, p=weights / weights.sum())
    return np.stack([_crop(rng, photos[number][0], side) for number in drawn])


def _crop(rng: np.random.Generator, photo: Image.Image, side: int) -> NDArray[np.uint8]:
    size = int(min(photo.size) * rng.uniform(0.35, 1.0))
    left, top = (int(rng.integers(0, room - size + 1)) for room in photo.size)
    crop = photo.rotate(rng.uniform(-8, 8), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        crop = change(crop).enhance(rng.uniform(0.7, 1.3))
    return _padded(np.asarray(crop), side, rng)


def _padded(crop: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cut off some of the right or the bottom and leave it black, as a picture that is not square is padded."""
    canvas = crop.copy()
    if rng.random() < 0.5:
        stop = int(len(crop) * rng.uniform(0.6, 0.95))
        canvas[(slice(stop, None),) if rng.random() < 0.5 else (slice(None), slice(stop, None))] = 0
    return np.asarray(Image.fromarray(canvas).resize((side, side), Image.Resampling.BILINEAR))
