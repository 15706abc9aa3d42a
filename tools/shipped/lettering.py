"""Lines and pages of text, rendered in the fonts of Debian's packages: Latin and Chinese, blurred, tilted and noisy."""

from __future__ import annotations

import gettext
import pydoc_data.topics
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from shipped.family import Request
from shipped.photos import photographs

Pixels = NDArray[np.uint8]

FONTS = Path("/usr/share/fonts")
LATIN = ("truetype/dejavu/*.ttf", "truetype/freefont/*.ttf", "truetype/liberation/*.ttf")
CHINESE = ("opentype/noto/NotoSansCJK-*.ttc", "opentype/noto/NotoSerifCJK-*.ttc")
SIMPLIFIED = 2  # of the faces in Noto's collections
CATALOGS = Path("/usr/share/locale/zh_CN/LC_MESSAGES")
HAN = "\u4e00-\u9fff"
MARKS = "\uff0c\u3002\uff1a"  # comma, full stop and colon
CHINESE_SHARE = 0.4
MOST_PIECES = 40


class MissingSourceError(Exception):
    """Something that the inputs are made from is not installed."""


@dataclass(frozen=True)
class Writing:
    """Texts of one script, as pieces to be put together, and the fonts that have its letters."""

    pieces: list[str]
    space: str
    fonts: list[Path]
    face: int


@cache
def fonts(patterns: tuple[str, ...], packages: str) -> list[Path]:
    found = sorted(path for pattern in patterns for path in FONTS.glob(pattern))
    if not found:
        raise MissingSourceError(f"no fonts {' '.join(patterns)} in {FONTS}; install {packages}")
    return found


@cache
def latin() -> list[str]:
    """Words of Python's own documentation, with their commas and full stops, in its order."""
    text = " ".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    return re.findall(r"(?<!\S)[A-Za-z0-9][A-Za-z0-9,.:;()'-]*", text)


@cache
def chinese() -> list[str]:
    """Phrases of the Chinese messages of the programs that are installed (bash, coreutils, git and others)."""
    phrases: set[str] = set()
    for path in CATALOGS.glob("*.mo"):
        with path.open("rb") as file:
            catalog = gettext.GNUTranslations(file)
        texts = vars(catalog)["_catalog"].values()
        phrases.update(p for text in texts for p in re.findall(f"[{HAN}{MARKS}0-9A-Za-z]{{2,12}}", text))
    found = sorted(phrase for phrase in phrases if len(re.findall(f"[{HAN}]", phrase)) >= 2)
    if not found:
        raise MissingSourceError(f"no Chinese messages in {CATALOGS}; install coreutils and git with their locales")
    return found


class Printer:
    """Draws lines of a request's own texts."""

    def __init__(self, request: Request) -> None:
        self.rng = request.rng()
        debian = "fonts-dejavu fonts-freefont-ttf fonts-liberation fonts-noto-cjk"
        self.latin = Writing(_deal_runs(request, latin()), " ", fonts(LATIN, debian), 0)
        self.chinese = Writing(_shuffled(request.deal(chinese()), self.rng), "", fonts(CHINESE, debian), SIMPLIFIED)

    def line(self, size: int, width: int) -> tuple[Image.Image, str]:
        """A mask of letters `size` high and about as wide as asked for, tightly cut, with its text."""
        writing = self.chinese if self.rng.random() < CHINESE_SHARE else self.latin
        path = writing.fonts[self.rng.integers(len(writing.fonts))]
        font = ImageFont.truetype(path, size, index=writing.face)
        text = self._text(writing, font, width)
        left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
        mask = Image.new("L", (max(right - left, 1), max(bottom - top, 1)), 0)
        ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=font)
        return mask, text

    def _text(self, writing: Writing, font: ImageFont.FreeTypeFont, width: int) -> str:
        start = int(self.rng.integers(len(writing.pieces)))
        text = writing.pieces[start]
        for piece in writing.pieces[start + 1 : start + MOST_PIECES]:
            longer = text + writing.space + piece
            if font.getlength(longer) > width:
                break
            text = longer
        while len(text) > 1 and font.getlength(text) > width:
            text = text[:-1].rstrip()
        return text

    def colors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of the ground and of the letters, far enough apart to be read."""
        dark = self.rng.uniform(0, 90) + self.rng.uniform(-20, 20, size=3)
        light = self.rng.uniform(160, 255) + self.rng.uniform(-25, 25, size=3)
        ground, ink = (light, dark) if self.rng.random() < 0.75 else (dark, light)
        return np.clip(ground, 0, 255), np.clip(ink, 0, 255)

    def worn(self, picture: NDArray[np.float64]) -> Pixels:
        """Blurred and noisy."""
        image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
        blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(self.rng.uniform(0.0, 1.3))), dtype=np.float64)
        noise = self.rng.normal(0.0, self.rng.uniform(0.0, 12.0), size=blurred.shape)
        return np.clip(np.rint(blurred + noise), 0, 255).astype(np.uint8)

    def strip(self, aspect: float) -> tuple[Pixels, str]:
        """A line on its own ground, at most about `aspect` times as wide as high."""
        mask, text = self.line(40, int(46 * aspect * self.rng.uniform(0.5, 1.0)))
        margin = int(self.rng.integers(2, 9))
        framed = Image.new("L", (mask.width + 2 * margin, mask.height + 2 * margin), 0)
        framed.paste(mask, (margin, margin))
        framed = framed.rotate(self.rng.uniform(-2.0, 2.0), Image.Resampling.BICUBIC, expand=framed.width < 250)
        cover = np.asarray(framed, dtype=np.float64)[..., None] / 255
        ground, ink = self.colors()
        return self.worn(ground + cover * (ink - ground)), text

    def page(self, height: int, width: int) -> Pixels:
        """Lines of several sizes in one or two columns on paper or on a photograph."""
        picture, ink = self._ground(height, width)
        columns = int(self.rng.integers(1, 3)) if width >= 256 else 1
        room = width // columns
        for column in range(columns):
            top = int(self.rng.integers(4, 30))
            while top < height - 12:
                size = int(self.rng.integers(11, 27))
                left = column * room + int(self.rng.integers(4, 24))
                mask, _ = self.line(size, int((column + 1) * room - left - 6))
                mask = mask.rotate(self.rng.uniform(-2.5, 2.5), Image.Resampling.BICUBIC, expand=True)
                _lay(picture, mask, left, top, ink)
                top += int(mask.height + size * self.rng.uniform(0.35, 1.6))
        return self.worn(picture)

    def _ground(self, height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ground, ink = self.colors()
        picture = np.broadcast_to(ground, (height, width, 3)).copy()
        picture += np.linspace(0, self.rng.uniform(-30, 30), height)[:, None, None]
        if self.rng.random() < 0.25:
            photos = photographs()
            photo = photos[self.rng.integers(len(photos))][0].resize((width, height))
            picture = 0.75 * picture + 0.25 * np.asarray(photo, dtype=np.float64)
        return picture, ink


def _deal_runs(request: Request, words: list[str]) -> list[str]:
    """Every second run of fifty words, so that sentences stay whole."""
    runs = request.deal([words[start : start + 50] for start in range(0, len(words), 50)])
    return [word for run in runs for word in run]


def _shuffled(pieces: list[str], rng: np.random.Generator) -> list[str]:
    return [pieces[i] for i in rng.permutation(len(pieces))]


def _lay(picture: NDArray[np.float64], mask: Image.Image, left: int, top: int, ink: NDArray[np.float64]) -> None:
    place = picture[top : top + mask.height, left : left + mask.width]
    cover = np.asarray(mask, dtype=np.float64)[: place.shape[0], : place.shape[1], None] / 255
    place += cover * (ink - place)


def resized(picture: Pixels, height: int, most: int) -> Pixels:
    """To the height, and as wide as that makes it but no wider than `most`, as the readers' own package does."""
    width = min(int(np.ceil(height * picture.shape[1] / picture.shape[0])), most)
    return np.asarray(Image.fromarray(picture).resize((max(width, 1), height), Image.Resampling.BILINEAR))


def as_input(picture: Pixels, width: int) -> NDArray[np.float32]:
    """(3, height, width) blue first, from -1 to 1, and zeros to the right of the picture."""
    canvas = np.zeros((3, picture.shape[0], width), dtype=np.float32)
    canvas[:, :, : picture.shape[1]] = picture[..., ::-1].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1.0
    return canvas
