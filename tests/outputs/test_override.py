"""What users say of outputs: how it is written, and what it changes."""

from __future__ import annotations

import onnx
import pytest

from onnxmi.errors import UsageError
from onnxmi.outputs.override import Override, parse_override
from onnxmi.outputs.view import Meaning
from onnxmi.pruning.options import PruneOptions
from onnxmi.transforms.analysis import analyze, find_meaning
from tests.support.build import Build


def two_heads() -> tuple[onnx.ModelProto, str, str]:
    b = Build()
    x = b.input("N", 3, 5, 7)
    plain = b.conv(x, 3, 11)
    parts = b.op("Concat", b.conv(x, 3, 4), b.op("Sigmoid", b.conv(x, 3, 3)), axis=1)
    return b.proto(plain, parts), plain, parts


def meaning_of(proto: onnx.ModelProto, *overrides: str, ignore: tuple[str, ...] = ()) -> Meaning:
    return find_meaning(analyze(proto), None, [parse_override(text) for text in overrides], ignore)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("y:map", Override("y", "map")),
        ("y:classes:-1", Override("y", "classes", -1)),
        ("y:signal:2*0.5", Override("y", "signal", 2, 0.5)),
        ("y*2:values*3", Override("y*2", "values", None, 3.0)),
        ("/net/y:0:embedding:1", Override("/net/y:0", "embedding", 1)),
        ("StatefulPartitionedCall:1:map", Override("StatefulPartitionedCall:1", "map")),
    ],
)
def test_an_output_is_written_as_name_kind_axis_and_weight(text: str, meant: Override) -> None:
    assert parse_override(text) == meant


@pytest.mark.parametrize("text", ["y", "y:", ":map", "y:maps", "y:map:x", "y:map*", "y:map*0", "y:map*-1", "y:map*nan"])
def test_what_is_written_otherwise_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        PruneOptions(outputs=(text,)).check()
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_user_says_kind_axis_and_weight() -> None:
    proto, plain, _ = two_heads()
    view = meaning_of(proto, f"{plain}:values:-1*7").views[0]
    assert (view.kind, view.axes, view.weight, view.link, view.columns) == ("values", (3,), 7.0, "identity", 7)
    assert view.why == "as given"


def test_what_is_called_classes_is_under_a_softmax_where_there_is_no_function() -> None:
    proto, plain, parts = two_heads()
    plain_view, boxes, scores = meaning_of(proto, f"{plain}:classes", f"{parts}/scores:classes").views
    assert (plain_view.link, plain_view.axes) == ("softmax", (1,))
    assert (scores.kind, scores.link) == ("classes", "sigmoid")
    assert boxes.why != "as given"


def test_a_weight_is_shared_by_the_parts_of_an_output() -> None:
    proto, _, parts = two_heads()
    _, first, second = meaning_of(proto, f"{parts}:detections*3").views
    assert first.weight == second.weight == 1.5


def test_a_state_weighs_little_unless_the_user_says_so() -> None:
    proto, plain, _ = two_heads()
    assert meaning_of(proto, f"{plain}:state").views[0].weight == 0.1
    assert meaning_of(proto, f"{plain}:state*2").views[0].weight == 2.0


def test_an_ignored_output_is_not_compared() -> None:
    proto, plain, parts = two_heads()
    meaning = meaning_of(proto, ignore=(parts,))
    assert [view.output for view in meaning.views] == [plain]
    assert meaning.ignored == {parts: "as given"}


@pytest.mark.parametrize(
    ("overrides", "ignore", "message"),
    [
        (("z:map",), (), "no output 'z'; there are {plain}, {parts}/part, {parts}/scores"),
        (("{plain}:map:4",), (), "output '{plain}' has no axis 4: what is compared has 4"),
        (("{parts}:map",), ("{parts}",), "output '{parts}' is not compared: as given"),
        ((), ("z",), "no output 'z' to ignore; there are {plain}, {parts}"),
        ((), ("{plain}", "{parts}"), "all outputs are ignored: nothing is left to compare"),
    ],
)
def test_outputs_that_are_not_there_are_refused(overrides: tuple[str], ignore: tuple[str], message: str) -> None:
    proto, plain, parts = two_heads()
    names = {"plain": plain, "parts": parts}
    with pytest.raises(UsageError) as caught:
        meaning_of(
            proto, *(text.format(**names) for text in overrides), ignore=tuple(n.format(**names) for n in ignore)
        )
    assert str(caught.value) == message.format(**names)
