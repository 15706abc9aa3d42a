"""Memory: what capture needs does not grow with the number of samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.statistics.conftest import image_arrays, image_model

ROOT = Path(__file__).resolve().parents[2]

# The samples repeat a few, seen through a view without copies, so that they take no memory themselves.
CODE = """
import resource, sys
import numpy as np
import onnxmi
from onnxmi.data.calibration import Calibration
from onnxmi.statistics.capture import CaptureOptions, capture

class Repeated(Calibration):
    def samples_of(self, name, samples):
        return super().samples_of(name, samples % 32)
    @property
    def fingerprints(self):
        return np.arange(self.count, dtype=np.uint64)

path, images, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
found = onnxmi.analyse(path)
few = onnxmi.check_calibration(dict(np.load(images)), found.model.graph)
many = Repeated(few.arrays, few.whole, None, count, None)
sets = [np.arange(count)]
(made,) = capture(found, many, sets, CaptureOptions(threads=1))
assert made.samples == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(folder: Path, count: int) -> int:
    command = [sys.executable, "-c", CODE, str(folder / "model.onnx"), str(folder / "images.npz"), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=True)
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_the_peak_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    onnx.save(image_model(), tmp_path / "model.onnx")
    arrays = image_arrays(32)
    np.savez(tmp_path / "images.npz", x=arrays["x"])
    few, many = peak(tmp_path, 200), peak(tmp_path, 20_000)
    taps = 20_000 * 63 * (3 + 8 + 8) * 4  # what holding all activations would take
    assert many - few < 20e6 < taps / 4
