"""Layers folded to blocks by their names, as exporters write these."""

from __future__ import annotations

import pytest

from onnxmi.reporting.blocks import LayerSize, block_path, fold


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/bert/encoder/layer.0/attention/self/query/MatMul", "/bert/encoder/layer.0"),
        ("/layer1/layer1.0/conv1/Conv", "/layer1/layer1.0"),
        ("/block3/second/conv/Conv", "/block3"),
        ("/features/denseblock1/denselayer11/conv1/Conv", "/features/denseblock1/denselayer11"),
        ("/stem/conv/Conv", "/stem/conv/Conv"),
        ("/features/features.0/Conv", "/features/features.0/Conv"),
        ("encoder.layers.3.ffn.up", "encoder.layers.3"),
        ("node_conv2d_7", "node_conv2d_7"),
        ("", ""),
    ],
)
def test_the_block_is_the_last_numbered_module_above_the_layers_own(name, path):
    assert block_path(name) == path


def test_units_of_a_kind_add_up_and_the_order_of_the_model_is_kept():
    layers = [
        LayerSize("/enc/layer.0/att/q/MatMul", "heads", 12, 5),
        LayerSize("/enc/layer.0/mlp/up/MatMul", "ffn", 1536, 624),
        LayerSize("/enc/layer.1/att/q/MatMul", "heads", 12, 7),
        LayerSize("/enc/layer.1/mlp/up/MatMul", "ffn", 1000, 300),
        LayerSize("/enc/layer.1/mlp/gate/MatMul", "ffn", 1000, 317),
    ]
    assert [(block.name, block.text) for block in fold(layers)] == [
        ("layer.0", "heads 5 of 12, FFN 624 of 1,536"),
        ("layer.1", "heads 7 of 12, FFN 617 of 2,000 in 2 layers"),
    ]


def test_blocks_of_one_name_are_told_apart():
    layers = [LayerSize(f"/{side}/layer.0/mlp/up/MatMul", "ffn", 7, 3) for side in ("encoder", "decoder")]
    assert [block.name for block in fold(layers)] == ["/encoder/layer.0", "/decoder/layer.0"]


def test_a_layer_alone_keeps_its_whole_name():
    assert [block.name for block in fold([LayerSize("/features/features.0/Conv", "channels", 8, 3)])] == [
        "/features/features.0/Conv"
    ]
