"""Matplotlib figures as SVG elements of a page: in its fonts and colors, with a name for who cannot see them."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 380.0  # of every figure, in px of the page: what fits on a phone

# Colors that stand for the page's own, which depend on whether it is dark or printed: the style sheet says which.
INK, FAINT, GRID, KEPT, CUT, ACCENT, PAGE = (f"#0000{number:02x}" for number in range(1, 8))
_PROPERTIES: Mapping[str, str] = {
    INK: "--ink",
    FAINT: "--faint",
    GRID: "--rule",
    KEPT: "--kept",
    CUT: "--cut",
    ACCENT: "--accent",
    PAGE: "--card",
}
_RC: Mapping[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, found and copied
    "svg.hashsalt": "onnxmi",
    "text.parse_math": False,  # a $ in a name is a $
    "font.size": 12.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "lines.linewidth": 2.0,
    "path.simplify": False,
}
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


@contextmanager
def settings() -> Iterator[None]:
    """Draw by our settings alone, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has its own fonts
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def figure(height: float, width: float = WIDTH) -> Figure:
    """Make an empty figure, in px."""
    return Figure(figsize=(width / 72, height / 72), dpi=72)


def axes(fig: Figure, left: float, top: float, right: float, bottom: float) -> Axes:
    """Add axes with margins in px."""
    width, height = fig.get_figwidth() * 72, fig.get_figheight() * 72
    return fig.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )


def inline(fig: Figure, name: str, title: str, description: str, tips: Mapping[str, str] | None = None) -> str:
    """Return a figure as an `svg` element.

    Parameters
    ----------
    fig : Figure
        Drawn in the colors of this module.
    name : str
        Unique on the page; identifiers start with it.
    title, description : str
        What the figure is, and what is to be seen on it: read aloud in its place.
    tips : mapping of str to str, optional
        Identifier of a part of the figure -> what is shown where a pointer rests on it.
    """
    buffer = io.StringIO()
    fig.savefig(buffer, format="svg", transparent=True)
    drawn = ElementTree.fromstring(buffer.getvalue())
    for part in (f"{_SVG}metadata", f"{_SVG}defs"):  # a style for the whole page, and a link to matplotlib
        for found in drawn.findall(part):
            if found.find(f"{_SVG}style") is not None or part.endswith("metadata"):
                drawn.remove(found)
    used = {reference for element in drawn.iter() for reference in _references(element)}
    for element in list(drawn.iter()):
        tip = (tips or {}).get(element.get("id", ""))
        _adopt(element, name, used)
        if tip is not None:
            element.set("class", "tip")
            shown_tip = ElementTree.Element("title")
            shown_tip.text = tip
            element.insert(0, shown_tip)
    drawn.attrib = {
        "viewBox": drawn.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-desc",
    }
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = text
        drawn.insert(place, element)
    return ElementTree.tostring(drawn, encoding="unicode")


def _references(element: ElementTree.Element) -> list[str]:
    link = element.get(_HREF)
    return _REFERENCE.findall(element.get("clip-path", "")) + ([] if link is None else [link.removeprefix("#")])


def _adopt(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Let an element use the page's colors and fonts, and identifiers that no other figure has."""
    element.tag = element.tag.removeprefix(_SVG)
    element.tail = None
    if element.tag != "text":
        element.text = None
    identifier = element.attrib.pop("id", "")
    if identifier in used:
        element.set("id", f"{name}-{identifier}")
    if _HREF in element.attrib:
        element.set("href", f"#{name}-{element.attrib.pop(_HREF).removeprefix('#')}")
    if "clip-path" in element.attrib:
        element.set("clip-path", _REFERENCE.sub(rf"url(#{name}-\1)", element.attrib["clip-path"]))
    if "d" in element.attrib:
        element.set("d", " ".join(element.attrib["d"].split()))
    if "style" in element.attrib:
        element.set("style", _style(element.attrib["style"]))


def _style(style: str) -> str:
    declarations = [part.strip() for part in style.split(";") if not part.strip().startswith("font-family")]
    text = "; ".join(filter(None, declarations))
    return re.sub(
        r"#[0-9a-f]{6}", lambda found: f"var({_PROPERTIES[found[0]]})" if found[0] in _PROPERTIES else found[0], text
    )
