"""The only importer of onnxruntime's quantizer: models in memory in, models in memory out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantFormat,
    QuantType,
    TensorsData,
    create_calibrator,
    quant_pre_process,
    quantize_dynamic,
)

from onnxmi.errors import ModelError, UsageError
from onnxmi.model.bodies import bodies_of, nested_nodes
from onnxmi.model.external_data import serialized
from onnxmi.model.narrow_states import narrowed_feeds
from onnxmi.model.order import in_order
from onnxmi.model.temporary import TemporaryFolder
from onnxmi.quantization.recipe import Ranges
from onnxmi.runtime.session import Feeds, one_line
from onnxmi.typing import Array

# Method -> onnxruntime's, and its options. A percentile that leaves out 0.01 % of the values clips what is rare.
_METHODS = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "percentile": (CalibrationMethod.Percentile, {"percentile": 99.99, "symmetric": False}),
    "entropy": (CalibrationMethod.Entropy, {"symmetric": False}),
}
# onnx cannot infer the types of what onnxruntime's own fused operators make. Only float32 weights are quantized, so
# what reads or makes them is float32, too.
_OPTIONS = {"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True}
# Operator -> how it is stored in 4 bits. Of a table, larger blocks with a zero point do least damage for their bytes. A
# product at level 4 is of 8-bit activations: at others it is slower than the float one from a few rows on.
_IN_4_BITS: Mapping[str, Mapping[str, Any]] = {
    "Gather": {"block_size": 128, "is_symmetric": False, "quant_axes": (("Gather", 1),)},
    "MatMul": {"block_size": 32, "is_symmetric": True, "accuracy_level": 4},
}
_FOUR_BIT_PACKAGE = "onnx_ir"


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Feeds, as onnxruntime's calibrators take them."""

    def __init__(self, feeds: Iterable[Feeds]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feeds | None:
        """Return the next run's inputs; None at the end."""
        return next(self._feeds, None)


def fuse(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Let onnxruntime fold constants and fuse what is exact, and name the shape of every tensor.

    Raises
    ------
    ModelError
        If it cannot.
    """
    return _rewritten(proto, partial(quant_pre_process, skip_symbolic_shape=True))


def find_ranges(proto: onnx.ModelProto, feeds: Iterable[Feeds], method: str, operators: Collection[str]) -> Ranges:
    """Run samples and return the range of each activation that operators of some types read or make.

    Parameters
    ----------
    proto : onnx.ModelProto
        As `fuse` returns it.
    feeds : iterable of mapping
        One batch each.
    method : str
        One of `recipe.RANGE_METHODS`.
    operators : collection of str
        Operator types.

    Raises
    ------
    ModelError
        If onnxruntime cannot.
    """
    how, options = _METHODS[method]
    with _at_work() as folder:
        source = os.path.join(folder, "source.onnx")
        _write(proto, source)
        calibrator = create_calibrator(
            Path(source),
            sorted(operators),
            augmented_model_path=os.path.join(folder, "augmented.onnx"),
            calibrate_method=how,
            extra_options=options,
        )
        for batch in feeds:  # one at a time: histograms are of all activations, which it holds until it is done
            calibrator.collect_data(_Reader([dict(narrowed_feeds(proto, batch))]))
        found = calibrator.compute_data()
        return {name: _ends(found[name]) for name in sorted(found.keys())}


def _ends(data: object) -> tuple[float, float]:
    low, high = data.range_value  # type: ignore[attr-defined]
    return float(np.min(low)), float(np.max(high))


def _pair(ends: tuple[float, float]) -> tuple[Array, Array]:
    low, high = ends
    return np.array(low, dtype=np.float32), np.array(high, dtype=np.float32)


def to_dynamic(
    proto: onnx.ModelProto, nodes: Collection[str], operators: Collection[str], *, per_channel: bool, reduced: bool
) -> onnx.ModelProto:
    """Store the weights of some operators in 8 bits; their inputs are scaled at each run.

    Parameters
    ----------
    proto : onnx.ModelProto
        As `fuse` returns it.
    nodes, operators : collection of str
        Names and types of the operators.
    per_channel, reduced : bool
        As in `Recipe`.

    Raises
    ------
    ModelError
        If onnxruntime cannot.
    """
    quantize = partial(
        quantize_dynamic,
        op_types_to_quantize=sorted({"MatMul", *operators} - {"Gemm"}),
        nodes_to_quantize=sorted({*nodes, *(f"{name}_MatMul" for name in nodes)}),  # it takes a Gemm apart first
        per_channel=per_channel,
        reduce_range=reduced,
        weight_type=QuantType.QInt8,
        extra_options=dict(_OPTIONS),
    )
    return _rewritten(proto, quantize)


def to_static(
    proto: onnx.ModelProto,
    nodes: Collection[str],
    operators: Collection[str],
    ranges: Ranges,
    *,
    per_channel: bool,
    reduced: bool,
) -> onnx.ModelProto:
    """Let operators compute in 8 bits, with fixed ranges of what they read and make: QuantizeLinear, DequantizeLinear.

    Parameters
    ----------
    proto, nodes, operators, per_channel, reduced
        As for `to_dynamic`.
    ranges : mapping
        As `find_ranges` returns it.

    Raises
    ------
    ModelError
        If onnxruntime cannot.
    """
    with _at_work() as folder:
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        quantizer = QDQQuantizer(
            copy,
            per_channel,
            reduced,
            QuantType.QInt8,
            QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, {name: _pair(ends) for name, ends in ranges.items()}),
            sorted(nodes),
            [],
            sorted(operators),
            dict(_OPTIONS),
        )
        quantizer.quantize_model()
        target = os.path.join(folder, "quantized.onnx")
        quantizer.model.save_model_to_file(target)
        return _read(target)


def has_4_bits() -> bool:
    """Whether what onnxruntime needs to store weights in 4 bits is installed."""
    return find_spec(_FOUR_BIT_PACKAGE) is not None


def require_4_bits() -> None:
    """Refuse 4-bit weights where what they need is not installed.

    Raises
    ------
    UsageError
        Saying what to install.
    """
    if not has_4_bits():
        raise UsageError("4-bit weights need onnx-ir: install it with `pip install 'onnxmi[four-bit]'`")


def to_4_bits(proto: onnx.ModelProto, nodes: Mapping[str, str]) -> onnx.ModelProto:
    """Store the weights of products and the rows of tables in 4 bits, in blocks: MatMulNBits, GatherBlockQuantized.

    Parameters
    ----------
    proto : onnx.ModelProto
        As `fuse` returns it.
    nodes : mapping of str to str
        Names of the operators, and their types.

    Raises
    ------
    UsageError
        If what that needs is not installed.
    ModelError
        If onnxruntime cannot.
    """
    require_4_bits()
    with _at_work():
        made = onnx.ModelProto()
        made.CopyFrom(proto)
        versions = {entry.domain: entry.version for entry in proto.opset_import}
        module = import_module("onnxruntime.quantization.matmul_nbits_quantizer")  # slow to load
        for kind, how in _IN_4_BITS.items():
            if kind in nodes.values():
                config = module.DefaultWeightOnlyQuantConfig(
                    bits=4, quant_format=QuantFormat.QOperator, op_types_to_quantize=(kind,), **how
                )
                others = {node.name for node in nested_nodes(made.graph) if node.name not in nodes}
                quantizer = module.MatMulNBitsQuantizer(made, algo_config=config, nodes_to_exclude=others)
                quantizer.process()
                made = quantizer.model.model
        for entry in made.opset_import:  # it raises the version without converting what another version has otherwise
            entry.version = versions.get(entry.domain, entry.version)
        return made


def to_half(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Store all numbers as float16; inputs and outputs keep their types.

    Parameters
    ----------
    proto : onnx.ModelProto
        As `fuse` returns it.

    Raises
    ------
    ModelError
        If onnxruntime cannot, or the model has bodies, in which it would not convert all that they read.
    """
    if any(True for node in proto.graph.node for _ in bodies_of(node)):
        raise ModelError("--half: the model has bodies of If, Loop or Scan, which are not supported")
    with _at_work():
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        convert = import_module("onnxruntime.transformers.float16").convert_float_to_float16  # slow to load
        with catch_warnings():
            simplefilter("ignore")  # it warns of each number that float16 rounds to zero: the damage is measured
            return in_order(convert(copy, keep_io_types=True))


def _rewritten(proto: onnx.ModelProto, rewrite: Callable[[str, str], object]) -> onnx.ModelProto:
    """Let onnxruntime read a model from one file and write another."""
    with _at_work() as folder:
        source, target = os.path.join(folder, "source.onnx"), os.path.join(folder, "target.onnx")
        _write(proto, source)
        rewrite(source, target)
        return _read(target)


def _write(proto: onnx.ModelProto, path: str) -> None:
    data = serialized(proto)
    if data is None:
        raise ModelError("it is over 2 GiB")
    Path(path).write_bytes(data)


def _read(path: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.ParseFromString(Path(path).read_bytes())
    return proto


@contextmanager
def _at_work() -> Iterator[str]:
    """Give a temporary folder, keep onnxruntime's quantizer from logging, and say in one line what it fails on."""
    root, disabled, handler = logging.getLogger(), logging.root.manager.disable, logging.NullHandler()
    root.addHandler(handler)  # without any, a first warning would set one up for the whole process
    logging.disable(logging.ERROR)
    try:
        with TemporaryFolder() as folder, redirect_stdout(StringIO()):  # calibrators print what they do
            yield folder
    except Exception as error:  # onnxruntime raises many unrelated types
        raise ModelError(f"onnxruntime cannot quantize the model: {one_line(error)}") from error
    finally:
        logging.disable(disabled)
        root.removeHandler(handler)
