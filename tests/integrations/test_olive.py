"""The pass for Olive, in a workflow of Olive's own engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("olive", reason="olive-ai is in the extra `olive`")

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = """
import sys
from olive import run
from onnxmi.integrations.olive import package_config

model, calibration, out = sys.argv[1:]
workflow = {
    "input_model": {"type": "ONNXModel", "model_path": model},
    "passes": {"prune": {"type": "OnnxmiPruning", "calibration": calibration, "keep": 0.5, "options": {"threads": 1}}},
    "output_dir": out,
    "log_severity_level": 2,
}
run(workflow, package_config=str(package_config(out + "-package.json")))
"""


def test_a_workflow_prunes(tmp_path):
    model = ROOT / "models" / "digits-mlp.onnx"
    out = tmp_path / "out"
    command = [sys.executable, "-c", WORKFLOW, str(model), str(model).replace(".onnx", ".calib.npz"), str(out)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    (small,) = out.rglob("*.onnx")
    assert small.stat().st_size < 0.5 * model.stat().st_size
    package = json.loads(Path(f"{out}-package.json").read_text())
    assert package["passes"]["OnnxmiPruning"]["module_path"] == "onnxmi.integrations.olive.OnnxmiPruning"


@pytest.mark.parametrize("config", [{}, {"calibration": "a.npz", "data_config": {"name": "x"}}])
def test_samples_come_from_one_place(config):
    from olive.hardware import DEFAULT_CPU_ACCELERATOR
    from olive.passes.olive_pass import create_pass_from_dict

    import onnxmi
    from onnxmi.integrations.olive import OnnxmiPruning, _samples

    made = create_pass_from_dict(OnnxmiPruning, config, disable_search=True, accelerator_spec=DEFAULT_CPU_ACCELERATOR)
    with pytest.raises(onnxmi.UsageError, match="one of them"):
        _samples(made.config, None)
