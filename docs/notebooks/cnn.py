# %% [markdown]
# # A convolutional network
#
# A classifier of pictures of clothes, from the folder `models/` of the repository: 3.6 MB, 90.6 % right on 4,000 test images. It is
# pruned to half of its work, compared with the original, and held against a limit. Run this in a checkout, with `pip install -e .`

# %%
import tempfile
from pathlib import Path

import numpy as np

import onnxmi

models = Path("../../models")
work = Path(tempfile.mkdtemp())
model, calib = models / "clothes-cnn.onnx", dict(np.load(models / "clothes-cnn.calib.npz"))
calib = {name: array[:256] for name, array in calib.items()}  # enough for a first look
{name: array.shape for name, array in calib.items()}

# %% [markdown]
# What can be cut? Each layer has units, and what hangs on them.

# %%
for layer in onnxmi.inspect(model).layers:
    print(f"{layer.name:<20} {layer.kind:<10} {layer.size:>4} units")

# %% [markdown]
# Prune to half of the multiply-accumulates. Where to cut is decided by the damage that each layer's cut does to the outputs.

# %%
result = onnxmi.prune(model, calib, macs="50%", threads=1, output=work / "small.onnx")
result

# %% [markdown]
# The plan says which units stay.

# %%
for choice in result.plan.choices:
    print(f"{choice.layer:<20} {choice.count:>4} of {choice.size}")

# %% [markdown]
# How good is it on images that nothing was fitted to? `check` compares all outputs, and says how sure it is.

# %%
evaluation = {name: array[:1000] for name, array in np.load(models / "clothes-cnn.eval.npz").items()}
report = onnxmi.check(work / "small.onnx", baseline=model, data=evaluation, max_drop="3%", threads=1)
report.verdicts[-1].passed, report.outputs[0].readings[0].text

# %% [markdown]
# What is different between the two files?

# %%
onnxmi.diff(model, work / "small.onnx", threads=1)
