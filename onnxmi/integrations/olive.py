"""A pass for Microsoft's Olive (`olive-ai`): prune a model in an Olive workflow.

Olive finds it by a package configuration, which `package_config` writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from olive.common.config_utils import validate_config
from olive.data.config import DataConfig
from olive.hardware import AcceleratorSpec
from olive.model import ONNXModelHandler
from olive.package_config import OlivePackageConfig
from olive.passes import Pass
from olive.passes.pass_config import BasePassConfig, PassConfigParam

from onnxmi.api.pruning import prune
from onnxmi.errors import UsageError

FILE = "model.onnx"
# Options that a workflow may name; the others of `onnxmi.PruneOptions` go into `options`.
_TEXTS = {
    "speedup": "Smallest speed-up on this machine, such as 2.",
    "max_size": "Largest file, such as 10MB.",
    "params": "Largest share of the parameters that stays, such as 50%.",
    "macs": "Largest share of the multiply-accumulates that stays.",
    "keep": "Share of every layer's units that stays.",
    "max_drop": "Largest loss of the metric on test samples; 0.01 without a budget.",
    "quantize": "dynamic, static or auto: go on to 8 bits.",
}


class OnnxmiPruning(Pass):  # type: ignore[misc]  # olive has no types
    """Remove channels, neurons and attention heads by mutual information, without training.

    The calibration samples are those of `data_config`, as Olive's quantization passes take it, or a file of samples.
    """

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        described = {
            name: PassConfigParam(type_=str | float, default_value=None, description=text)
            for name, text in _TEXTS.items()
        }
        return {
            "data_config": PassConfigParam(type_=DataConfig | dict, description="Calibration samples."),
            "calibration": PassConfigParam(
                type_=str, default_value=None, description="A file of samples, as onnxmi takes it; or data_config."
            ),
            "options": PassConfigParam(
                type_=dict, default_value=None, description="Other options, by the names of onnxmi.PruneOptions."
            ),
            **described,
        }

    def _run_for_config(
        self, model: ONNXModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> ONNXModelHandler:
        named = {name: value for name in _TEXTS if (value := getattr(config, name)) is not None}
        options = {**(config.options or {}), **named}
        target = _target(output_model_path)
        result = prune(model.model_path, _samples(config, model), **options)
        files = result.save(target)
        if len(files) > 2:  # external data: the folder belongs to the model
            return ONNXModelHandler(model_path=str(target.parent), onnx_file_name=target.name)
        return ONNXModelHandler(model_path=str(target))


def package_config(path: str | Path) -> Path:
    """Write Olive's package configuration with the pass added, for `olive run --package-config`.

    Parameters
    ----------
    path : path
        Where to write it.

    Returns
    -------
    Path
        The same.
    """
    document = json.loads(Path(OlivePackageConfig.get_default_config_path()).read_text(encoding="utf-8"))
    document["passes"]["OnnxmiPruning"] = {
        "module_path": f"{OnnxmiPruning.__module__}.{OnnxmiPruning.__name__}",
        "supported_providers": ["*"],
        "supported_accelerators": ["*"],
        "supported_precisions": ["*"],
        "supported_algorithms": [],
        "supported_quantization_encodings": [],
    }
    Path(path).write_text(json.dumps(document, indent=1), encoding="utf-8")
    return Path(path)


def _target(output_model_path: str) -> Path:
    """Return the file for the model: Olive gives a folder, or a file."""
    path = Path(output_model_path)
    target = path if path.suffix == ".onnx" else path / FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _samples(config: Any, model: ONNXModelHandler) -> str | Iterable[Any]:
    """Return the calibration file, or what Olive's data configuration gives.

    Raises
    ------
    UsageError
        If there is neither, or both.
    """
    if (config.calibration is None) == (config.data_config is None):
        raise UsageError("OnnxmiPruning: give data_config or calibration, one of them")
    if config.calibration is not None:
        return str(config.calibration)
    container = validate_config(config.data_config, DataConfig).to_data_container()
    reader: Iterable[Any] = container.create_calibration_dataloader(model.model_path, model.io_config)
    return reader
