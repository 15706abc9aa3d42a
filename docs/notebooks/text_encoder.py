# %% [markdown]
# # A text encoder
#
# An encoder with attention that tells praise from complaint. `examples/tiny_encoder.py` makes it in a second: its inner weights are
# random, its last layer is fitted. So it has more units than it needs, and stands for a trained one. Texts are read with a
# tokenizer: `pip install -e '.[text]'`.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import onnxmi

work = Path(tempfile.mkdtemp())
made = subprocess.run([sys.executable, "../../examples/tiny_encoder.py", str(work)], capture_output=True, text=True)
print(made.stdout.split(": ")[-1])

# %% [markdown]
# A source says how texts are read. The same object serves all functions; the command line has the same options.

# %%
texts = onnxmi.source(
    work / "reviews.jsonl", tokenizer=work / "tokenizer.json", columns=("text",), label_column="label"
)
for layer in onnxmi.inspect(work / "encoder.onnx", texts).layers:
    print(f"{layer.name:<20} {layer.kind:<6} {layer.size:>4}")

# %% [markdown]
# Heads and feed-forward units are cut by default; the residual width, and dimensions inside heads, only on request.

# %%
result = onnxmi.prune(work / "encoder.onnx", texts, macs="75%", threads=1, output=work / "small.onnx")
result

# %% [markdown]
# On 1,000 other texts:

# %%
others = onnxmi.source(
    work / "reviews-eval.jsonl", tokenizer=work / "tokenizer.json", columns=("text",), label_column="label"
)
report = onnxmi.check(work / "small.onnx", baseline=work / "encoder.onnx", data=others, max_drop="10%", threads=1)
report.passed, report.outputs[0].readings[0].text

# %% [markdown]
# Eight bits beside that, where they are faster on this processor:

# %%
int8 = onnxmi.prune(work / "encoder.onnx", texts, macs="75%", quantize="dynamic", threads=1)
f"{int8.before.size / 1e3:.0f} kB -> {int8.after.size / 1e3:.0f} kB"
