"""Names in drawings fit into their room, and keep their ends."""

from __future__ import annotations

import pytest

from onnxmi.reporting.html.labels import ending, two_lines, width
from onnxmi.reporting.html.svg import settings

ROOM = 150.0
LONG = "/features/denseblock12/denselayer31/conv2/Conv"
NAMES = ["", "conv", "a" * 25, LONG, "W" * 500, "\N{CJK UNIFIED IDEOGRAPH-5C42}" * 80, "i" * 10_000, "/" * 300]


@pytest.fixture(autouse=True)
def _settings():
    with settings():
        yield


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:8])
def test_every_line_fits(name):
    assert width(ending(name, 11, ROOM), 11) <= ROOM
    lines = two_lines(name, 11, ROOM).split("\n")
    assert len(lines) <= 2
    assert max(width(line, 11) for line in lines) <= ROOM


@pytest.mark.parametrize("name", ["", "conv", "block/conv"])
def test_what_fits_stays(name):
    assert ending(name, 11, ROOM) == two_lines(name, 11, ROOM) == name


def test_the_end_is_kept_and_as_much_of_it_as_fits():
    kept = ending(LONG, 11, ROOM)
    assert kept.startswith("…")
    assert LONG.endswith(kept[1:])
    more = LONG[-len(kept) :]
    assert width(f"…{more}", 11) > ROOM


def test_lines_end_between_parts_of_a_path():
    assert two_lines("encoder/layer.0/attention/self/query", 11, ROOM) == "encoder/layer.0/attention\n/self/query"


def test_wide_letters_get_fewer_places():
    assert len(ending("W" * 100, 11, ROOM)) < len(ending("i" * 100, 11, ROOM)) / 3
