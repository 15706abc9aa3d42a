"""Weights and tables in 4 bits, by onnxruntime: which can be, what comes out, and that the plan makes it again."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.errors import PlanError, UsageError
from onnxmi.graph.plan import load_plan
from onnxmi.model.external_data import byte_size
from onnxmi.model.load import checker_error, load, proto_digest
from onnxmi.quantization import ort_quantizer
from onnxmi.quantization.quantize import follow, prepare, quantize, replay
from onnxmi.quantization.recipe import Recipe
from onnxmi.runtime.session import open_session
from tests.support.build import Build

pytest.importorskip("onnx_ir", reason="onnx-ir is in the extra `four-bit`")

WORDS, LENGTH, INNER, CLASSES = 1009, 1, 131, 11


def text_net(width: int = 42, seed: int = 5) -> onnx.ModelProto:
    b = Build(seed=seed)
    rows = b.op("Gather", b.weight(WORDS, width), b.input("N", LENGTH, dtype=np.int64))
    inner = b.op("Relu", b.dense(rows, width, INNER))
    return b.proto(b.op("ReduceMean", b.dense(inner, INNER, CLASSES), axes=[1], keepdims=0))


def words(rows: int = 211, seed: int = 3) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).integers(0, WORDS, size=(rows, LENGTH))}


def types(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def lost(before: onnx.ModelProto, after: onnx.ModelProto) -> float:
    was, now = (next(iter(open_session(proto).run(words()).values())) for proto in (before, after))
    return float(np.square(was - now).mean() / was.var())


def test_weights_alone_are_stored_in_blocks_and_activations_stay_float() -> None:
    proto = text_net()
    prepared = prepare(proto)
    recipe = prepared.everything("weights")
    assert (len(recipe.four_bit), recipe.int8) == (3, ())
    made = quantize(prepared, recipe)
    assert types(made).count("MatMulNBits") == 2
    assert types(made).count("GatherBlockQuantized") == 1
    assert not {"DynamicQuantizeLinear", "QuantizeLinear"} & set(types(made))
    assert byte_size(made) < 0.2 * byte_size(proto)
    assert 0 < lost(proto, made) < 0.03
    assert checker_error(made) is None
    assert proto_digest(quantize(prepare(text_net()), recipe)) == proto_digest(made)
    assert [value.name for value in made.graph.output] == [value.name for value in proto.graph.output]


def test_a_table_is_4_bit_beside_8_bit_products() -> None:
    proto = text_net()
    prepared = prepare(proto)
    whole = prepared.everything("dynamic")
    table = next(one.name for one in prepared.quantizable("dynamic") if one.is_table)
    both = whole.with_4_bits([table])
    assert both.quantized == (*whole.int8[1:], table)
    made = quantize(prepared, both)
    assert types(made).count("GatherBlockQuantized") == 1
    assert types(made).count("MatMulInteger") == 2
    assert byte_size(made) < 0.8 * byte_size(quantize(prepared, whole))
    one = quantize(prepared, Recipe("weights", (), four_bit=prepared.everything("weights").four_bit[1:2]))
    assert (types(one).count("MatMulNBits"), types(one).count("MatMul"), types(one).count("Gather")) == (1, 1, 1)
    alone = quantize(prepared, both.with_float(both.int8))  # without a name, onnxruntime would quantize everything
    assert not {"MatMulInteger", "DynamicQuantizeLinear"} & set(types(alone))


def test_a_table_whose_rows_are_no_whole_bytes_stays_at_8_bits() -> None:
    odd = text_net(41)
    assert not any(one.is_table for one in prepare(odd).quantizable("weights"))
    prepared = prepare(text_net())
    table = next(one.name for one in prepared.quantizable("dynamic") if one.is_table)
    made = follow(prepared.everything("dynamic").with_4_bits([table]), odd, [words()])
    assert made.recipe.four_bit == ()
    assert table in made.recipe.int8
    assert "GatherBlockQuantized" not in types(made.proto)
    with pytest.raises(PlanError, match="cannot quantize"):
        replay(Recipe("weights", (), four_bit=(table,)), odd)


def test_a_plan_says_nothing_of_4_bits_where_there_are_none() -> None:
    recipe = Recipe("dynamic", ("a", "b"))
    assert "four_bit" not in recipe.to_dict()
    small = recipe.with_4_bits(["a"])
    assert Recipe.from_dict(json.loads(json.dumps(small.to_dict()))) == small
    assert small.with_float(["a"]) == Recipe("dynamic", ("b",), ("a",))


def test_a_whole_run_stores_a_table_in_4_bits_where_bytes_count_alone(tmp_path) -> None:
    proto, small = text_net(), {"latency": False, "threads": 1, "quantize": "dynamic"}
    by_size = onnxmi.prune(proto, words(), max_size=byte_size(proto) // 8, force=True, **small)
    assert by_size.plan.quantization is not None
    assert len(by_size.plan.quantization.four_bit) == 1
    assert any("1 of them in 4 bits" in note for note in by_size.notes)
    plan = tmp_path / "small.plan.json"
    plan.write_text(by_size.plan.to_json())
    assert onnxmi.apply(proto, load_plan(plan)).digest == onnxmi.apply(proto, by_size.plan).digest
    assert onnxmi.prune(proto, words(), plan=plan, latency=False, threads=1, force=True).digest == by_size.digest
    by_work = onnxmi.prune(proto, words(), macs=0.6, **small)
    assert by_work.plan.quantization is not None
    assert by_work.plan.quantization.four_bit == ()


def test_a_4_bit_result_is_written_and_read(tmp_path) -> None:
    path = tmp_path / "small.onnx"
    small = {"keep": 0.7, "quantize": "weights", "latency": False, "threads": 1, "force": True}
    result = onnxmi.prune(text_net(), words(), output=path, **small)
    assert load(path).digest == result.digest
    assert [step.name for step in result.contributions][-1] == "pruned, 4-bit"


def test_without_its_package_it_is_refused_and_tables_take_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = text_net()
    prepared = prepare(proto)
    plan = onnxmi.prune(proto, words(), keep=0.7, quantize="weights", latency=False, threads=1, force=True).plan
    monkeypatch.setattr(ort_quantizer, "find_spec", lambda name: None)
    for call in (
        lambda: onnxmi.apply(proto, plan),
        lambda: onnxmi.prune(proto, words(), plan=plan, latency=False, threads=1),
    ):
        with pytest.raises(UsageError, match="four-bit"):
            call()
    with pytest.raises(UsageError, match=r"pip install 'onnxmi\[four-bit\]'"):
        onnxmi.prune(proto, words(), keep=0.7, quantize="weights", latency=False, threads=1)
    with pytest.raises(UsageError, match="four-bit"):
        quantize(prepared, prepared.everything("weights"))
    result = onnxmi.prune(
        proto, words(), max_size=byte_size(proto) // 3, quantize="dynamic", latency=False, threads=1, force=True
    )
    assert result.plan.quantization is not None
    assert result.plan.quantization.four_bit == ()
