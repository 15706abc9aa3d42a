"""Names that fit where they are drawn: their ends are kept, as layers have their beginnings in common."""

from __future__ import annotations

from bisect import bisect_left

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from onnxmi.reporting.html.fields import shown

_LONGEST = 120  # characters that could fit on two lines; measuring more would be in vain


def width(text: str, size: float) -> float:
    """Return how wide a text is in px; a browser's own font may differ a little."""
    found, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return float(found)


def ending(name: str, size: float, room: float) -> str:
    """Return as much of the end of a name as fits into some px."""
    name = shown(name, _LONGEST)
    if width(name, size) <= room:
        return name
    start = bisect_left(range(len(name)), x=True, key=lambda place: width(f"…{name[place:]}", size) <= room)
    return f"…{name[start:]}"


def two_lines(name: str, size: float, room: float) -> str:
    """Return as much of the end of a name as fits on two lines, divided between parts of its path if it can be."""
    name = ending(name, size, 1.95 * room)
    if width(name, size) <= room:
        return name
    fitting = [place for place in range(1, len(name)) if width(name[:place], size) <= room]
    paths = [place for place in fitting if name[place] == "/" and width(name[place:], size) <= room]
    place = max(paths or fitting, default=1)
    return f"{name[:place]}\n{ending(name[place:], size, room)}"
