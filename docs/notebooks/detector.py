# %% [markdown]
# # A detector
#
# Boxes and scores in YOLO's layout, for squares and discs in noisy pictures. `examples/tiny_detector.py` makes it in seconds. Boxes are
# numbers in pixels and scores are probabilities: onnxmi tells them apart, and measures each by its own scale.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import onnxmi

work = Path(tempfile.mkdtemp())
made = subprocess.run([sys.executable, "../../examples/tiny_detector.py", str(work)], capture_output=True, text=True)
print(made.stdout.split(": ")[-1])

# %%
found = onnxmi.inspect(work / "detector.onnx")
[(output.name, output.kind) for output in found.outputs]

# %% [markdown]
# A trade-off first: how many of the original's boxes are still found at which cost? No labels are needed.

# %%
curve = onnxmi.sweep(work / "detector.onnx", work / "scenes.npz", by="macs", shares=(0.9, 0.7), threads=1)
curve

# %% [markdown]
# Detectors lose boxes at small cuts, so take a mild one.

# %%
result = onnxmi.prune(work / "detector.onnx", work / "scenes.npz", macs="85%", threads=1, output=work / "small.onnx")
result

# %% [markdown]
# Boxes of the two models, matched at an overlap of a half, on 400 other pictures:

# %%
report = onnxmi.check(
    work / "small.onnx",
    baseline=work / "detector.onnx",
    data=work / "scenes-eval.npz",
    max_drop="20%",
    threads=1,
)
[reading.text for reading in report.outputs[0].readings][:2]
