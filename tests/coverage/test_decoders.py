"""A decoder as onnxruntime-genai writes Gemma 2: grouped queries, soft caps, alternating windows, more norms."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest

from onnxmi.outputs.uninitialized import find_uninitialized
from onnxmi.verification.checks import check_equivalence, check_result
from tests.support.build import Build
from tests.support.oracle import Case, assert_exact, cut_all, random_plan, run

MS, HEADS, KV, SIZE, WIDTH, INNER, VOCAB, WINDOW = "com.microsoft", 4, 2, 16, 24, 40, 31, 4


class Decoder(Build):
    """Writes one as options say."""

    def __init__(
        self, *, packed: bool = True, rotary: str = "inside", past: bool = True, sliding: bool = False
    ) -> None:
        super().__init__(seed=3)
        self.packed, self.rotary, self.past, self.sliding = packed, rotary, past, sliding
        self.caches: list[str] = []
        self.dims: list[tuple[int | str, ...]] = []

    def norm(self, x: str) -> str:
        return self.op("SimplifiedLayerNormalization", x, self.vector(WIDTH), epsilon=1e-6, axis=-1, stash_type=1)

    def skip_norm(self, x: str, added: str) -> tuple[str, str]:
        made = self.op("SkipSimplifiedLayerNormalization", x, added, self.vector(WIDTH), outputs=4, domain=MS)
        self.nodes[-1].output[1] = self.nodes[-1].output[2] = ""
        return made[0], made[3]

    def project(self, x: str, k: int, m: int) -> str:
        return self.op("MatMul", x, self.weight(k, m, fan_in=k))

    def attention(self, x: str, layer: int, lengths: tuple[str, str], angles: tuple[str, str]) -> str:
        local = layer % 2 == 0
        parts = [HEADS * SIZE, KV * SIZE, KV * SIZE]
        read = (
            [self.project(x, WIDTH, sum(parts)), "", ""] if self.packed else [self.project(x, WIDTH, m) for m in parts]
        )
        if self.rotary == "outside":
            read[:2] = (self.op("RotaryEmbedding", one, "position_ids", *angles, domain=MS) for one in read[:2])
        kept = "window" if local and self.sliding else "past"
        names = [f"past.{layer}.{what}" for what in ("key", "value")] if self.past else []
        cache = [self.input("B", KV, kept, SIZE, name=name) for name in names] or ["", ""]
        attributes = {"local_window_size": WINDOW if local else -1, "softcap": 5.0, "scale": 0.3}
        attributes |= {"do_rotary": int(self.rotary == "inside"), "sliding_window_cache": int(local and self.sliding)}
        made = self.op(
            "GroupQueryAttention",
            *(*read, *cache, *lengths, *(angles if self.rotary == "inside" else ())),
            outputs=3,
            domain=MS,
            num_heads=HEADS,
            kv_num_heads=KV,
            **attributes,
        )
        if self.past:
            self.caches += made[1:]
            self.dims += [("B", KV, "total " + kept, SIZE)] * 2
        return self.project(made[0], HEADS * SIZE, WIDTH)

    def feed_forward(self, x: str) -> str:
        gate = self.op("FastGelu", self.project(x, WIDTH, INNER), domain=MS)
        return self.project(self.op("Mul", gate, self.project(x, WIDTH, INNER)), INNER, WIDTH)

    def model(self) -> onnx.ModelProto:
        ids = self.input("B", "S", name="input_ids", dtype=np.int64)
        mask = self.input("B", "T" if self.past else "S", name="attention_mask", dtype=np.int64)
        if self.rotary == "outside":
            self.input("B", "S", name="position_ids", dtype=np.int64)
        summed = self.op("Sub", self.op("ReduceSum", mask, self.ints(1), keepdims=0), self.ints(1))
        total = self.op("Gather", self.op("Shape", mask), self.const(np.array(1)))
        lengths = self.op("Cast", summed, to=6), self.op("Cast", total, to=6)
        turns = np.outer(np.arange(64), 0.1 ** np.arange(SIZE // 2))
        angles = self.const(np.cos(turns)), self.const(np.sin(turns))
        x = self.op("Mul", self.op("Gather", self.weight(VOCAB, WIDTH, fan_in=1), ids), self.const(WIDTH**0.5))
        normed = self.norm(x)
        for layer in range(2):
            normed, x = self.skip_norm(x, self.norm(self.attention(normed, layer, lengths, angles)))
            normed, x = self.skip_norm(x, self.norm(self.feed_forward(normed)))
        cap = self.const(30.0)
        logits = self.op("Mul", self.op("Tanh", self.op("Div", self.project(normed, WIDTH, VOCAB), cap)), cap)
        return self.proto(logits, *self.caches, dims=[("B", "S", VOCAB), *self.dims])


@pytest.mark.parametrize("past", [True, False])
@pytest.mark.parametrize(
    ("packed", "rotary"), [(True, "inside"), (True, "none"), (False, "inside"), (False, "outside"), (False, "none")]
)
def test_it_is_cut_exactly(packed: bool, rotary: str, past: bool) -> None:
    case = Case.of(Decoder(packed=packed, rotary=rotary, past=past).model())
    kinds = sorted(layer.kind for layer in case.graph.layers)
    assert kinds == sorted(["ffn"] * 2 + ["heads"] * (2 if past else 4) + ["width"])
    assert_exact(case, cut_all(case))
    for seed in range(3):
        assert_exact(case, random_plan(case.graph, random.Random(seed)))


def test_slots_of_a_cache_that_nobody_wrote_are_not_compared() -> None:
    """A cache of the size of the window is not filled by a short text; onnxruntime leaves there what it finds."""
    case = Case.of(Decoder(sliding=True).model())
    outputs = [info.name for info in case.model.graph.outputs]
    assert find_uninitialized(case.model.graph) == set(outputs[1:3])
    for seed in range(8):
        keeping = random_plan(case.graph, random.Random(seed))
        cut = case.cut(keeping)
        noise = np.full(1 << 22, np.nan, np.float32)
        del noise  # what the memory holds then is as good as random
        checked = check_equivalence(case.model, case.graph, case.probe, keeping, cut, [case.feeds()])
        assert checked.passed, checked.detail
        assert all(check.passed for check in check_result(case.model, cut, [case.feeds()]))


def test_a_wrong_cache_is_still_caught() -> None:
    case = Case.of(Decoder(sliding=True).model())
    keeping = cut_all(case)
    cut = case.cut(keeping)
    node = next(node for node in cut.graph.node if node.op_type == "GroupQueryAttention")
    weights = next(
        t
        for t in cut.graph.initializer
        if t.name == next(n for n in cut.graph.node if node.input[0] in n.output).input[1]
    )
    values = onnx.numpy_helper.to_array(weights).copy()
    values[:, -1] *= 1.01  # one channel of the values
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    assert not check_equivalence(case.model, case.graph, case.probe, keeping, cut, [case.feeds()]).passed
    assert len(run(cut, case.feeds())) == 5
