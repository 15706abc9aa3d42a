"""Run the models of the gallery: fetch or make them, prune them, judge what comes out."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.exhibits import quality
from tools.exhibits.entries import Entry
from tools.exhibits.pages import FOLDER, RESULTS, read_results

ROOT = Path(__file__).resolve().parents[2]
ONNXMI = [sys.executable, "-m", "onnxmi"]
TEXTS = ("--tokenizer", "tokenizer.json", "--column", "text", "--label-column", "label")


def measure(entry: Entry, folder: Path, limit_s: float) -> None:
    """Run all arms of a model, and keep what was measured in docs/gallery/results.json."""
    folder.mkdir(parents=True, exist_ok=True)
    model, calib, evaluation, options = _files(entry, folder)
    found = read_results()
    found[entry.name] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}",
        "bytes": (folder / model).stat().st_size,
        "runs": [
            _run(entry, number, folder, (model, calib, evaluation), options, limit_s)
            for number in range(len(entry.arms))
        ],
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _files(entry: Entry, folder: Path) -> tuple[str, str, str, tuple[str, ...]]:
    """Return names of model, calibration and evaluation in the folder, and the options that read samples."""
    if entry.model.startswith("models/"):
        name = Path(entry.model).name
        for end in (".onnx", ".calib.npz", ".eval.npz"):
            shutil.copy(ROOT / "models" / f"{name}{end}", folder)
        return f"{name}.onnx", f"{name}.calib.npz", f"{name}.eval.npz", ()
    if entry.model.startswith("examples/"):
        script, model, calib, evaluation = entry.model.split(":")
        subprocess.run([sys.executable, str(ROOT / script), str(folder)], check=True, stdout=subprocess.DEVNULL)
        return model, calib, evaluation, TEXTS if calib.endswith(".jsonl") else ()
    tool = [sys.executable, str(ROOT / "tools" / "real_files.py")]
    if not (folder / f"{entry.model}.onnx").exists():
        subprocess.run([*tool, "fetch", "--to", str(folder)], check=True)
    if not (folder / f"{entry.model}.fresh.npz").exists():
        subprocess.run([*tool, "calibrate", entry.model, "--in", str(folder)], check=True)
    return f"{entry.model}.onnx", f"{entry.model}.calib.npz", "", ()


def _run(
    entry: Entry, number: int, folder: Path, files: tuple[str, str, str], options: tuple[str, ...], limit_s: float
) -> dict[str, Any]:
    """Prune by the command line, judge on fresh inputs, and keep the report of a run that succeeds."""
    model, calib, evaluation = files
    stem = f"{entry.name}-{number}"
    words = ["prune", model, calib, *options, *entry.arms[number]]
    command = [*ONNXMI, *words, "--threads", "1", "-o", f"{stem}.onnx", "--overwrite", "--json"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit_s, env=_environment())
    except subprocess.TimeoutExpired:
        return {"command": _typed(words), "exit_code": None, "said": f"not done in {limit_s:.0f} s"}
    (folder / f"{stem}.json").write_text(done.stdout, encoding="utf-8")
    told = json.loads(done.stdout)
    record: dict[str, Any] = {"command": _typed(words), "exit_code": done.returncode}
    if done.returncode:
        return {**record, "said": told["error"]["message"]}
    record |= {key: told[key] for key in ("before", "after", "latency_ms", "decisive", "versions")}
    record |= _judged(entry, folder, model, f"{stem}.onnx", evaluation, options)
    report = FOLDER / f"{stem}.html"
    subprocess.run([*ONNXMI, "report", f"{stem}.json", "-o", str(report)], cwd=folder, check=True, env=_environment())
    return {**record, "report": report.name}


def _judged(
    entry: Entry, folder: Path, model: str, pruned: str, evaluation: str, options: tuple[str, ...]
) -> dict[str, Any]:
    """Return how the result does on inputs that nothing was fitted to: its loss, and other figures."""
    if not evaluation:
        tool = [sys.executable, str(ROOT / "tools" / "real_files.py"), "judge", entry.model, model, pruned, "--in", "."]
        done = subprocess.run(tool, cwd=folder, capture_output=True, text=True, check=True)
        figures, judged = json.loads(done.stdout), quality.JUDGED[entry.model]
        return {"quality": quality.of_figures(judged, figures), "figures": quality.rest(judged, figures)}
    words = ["check", pruned, "--baseline", model, "--data", evaluation, *options, "--max-drop", "100%", "--json"]
    done = subprocess.run([*ONNXMI, *words], cwd=folder, capture_output=True, text=True, env=_environment())
    return {"quality": quality.of_check(json.loads(done.stdout)), "figures": {}}


def _typed(words: list[str]) -> str:
    return " ".join(["onnxmi", *words])


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
