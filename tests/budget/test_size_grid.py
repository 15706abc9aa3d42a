"""Sizes that layers may be cut to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import onnxmi
from onnxmi.budget import size_grid
from onnxmi.budget.size_grid import candidate_sizes, kept_count, parse_alignment
from onnxmi.errors import UsageError
from onnxmi.graph.channel_graph import Layer


def layer(size: int, kind: str = "hidden", parts: int = 1) -> Layer:
    return Layer(-1, "fc", size, kind, "renormalising", (0,), (1,), 7 if parts > 1 else None, parts)


@pytest.fixture
def found(mlp):
    return onnxmi.analyse(mlp())


def test_one_of_three_shares_at_least_one_unit() -> None:
    assert [kept_count(layer(7), keep) for keep in (0.01, 0.5, 1.0)] == [1, 4, 7]


@pytest.mark.parametrize(("text", "unit"), [("auto", None), ("none", 1), ("8", 8)])
def test_alignments(text: str, unit: int | None) -> None:
    assert parse_alignment(text) == unit


@pytest.mark.parametrize("text", ["", "0", "-4", "8.0", "many", "²"])
def test_no_alignment(text: str) -> None:
    with pytest.raises(UsageError, match="expected auto, none or a whole number above 0"):
        parse_alignment(text)


@pytest.mark.parametrize("block", [8, 16])
def test_convolutions_come_in_blocks_and_below_one_in_fours(found, monkeypatch, block: int) -> None:
    monkeypatch.setattr(size_grid, "block_of_processor", lambda: block)
    made = candidate_sizes(found, layer(67, "channels"), None).tolist()
    assert made == [*range(4, block, 4), *range(block, 67, block), 67]


def test_narrow_layers_may_have_any_size_and_wide_ones_multiples_of_eight(found) -> None:
    assert candidate_sizes(found, layer(12, "heads"), None).tolist() == list(range(1, 13))
    wide = candidate_sizes(found, layer(1537, "ffn"), None)
    assert wide[-1] == 1537
    assert (wide[:-1] % 8 == 0).all()
    assert len(wide) < 80
    assert wide[0] == 8


def test_parts_are_aligned_together(found) -> None:
    assert candidate_sizes(found, layer(6, parts=4), 8).tolist() == [2, 4, 6]


def test_a_number_asked_for_is_kept_to(found) -> None:
    assert candidate_sizes(found, layer(50), 12).tolist() == [12, 24, 36, 48, 50]


def test_nothing_is_a_size_where_the_branch_can_go(bundled) -> None:
    analysis = onnxmi.analyse(bundled / "digits-resnet.onnx")
    smallest = {one.name: int(candidate_sizes(analysis, one, None)[0]) for one in analysis.graph.layers}
    assert smallest["/block1/first/conv/Conv"] == 0
    assert smallest["/stem/conv/Conv"] == 4
    stem = next(one for one in analysis.graph.layers if one.name == "/block1/first/conv/Conv")
    whole = replace(stem, grade="renormalising")
    assert 0 not in candidate_sizes(analysis, whole, None)


def test_the_block_is_that_of_the_processor(monkeypatch) -> None:
    for found, block in ((["X86_V4"], 16), (["AVX512_SKX"], 16), (["X86_V3"], 8), ([], 8)):
        monkeypatch.setattr(np, "show_config", lambda mode, found=found: {"SIMD Extensions": {"found": found}})
        assert size_grid.block_of_processor() == block
    monkeypatch.setattr(np, "show_config", lambda mode: None)
    assert size_grid.block_of_processor() == 8
