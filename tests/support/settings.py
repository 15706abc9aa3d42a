"""How much the property tests do: 60 examples, the same every time; ONNXMI_EXAMPLES raises it."""

import os

from hypothesis import settings

EXAMPLES = int(os.environ.get("ONNXMI_EXAMPLES", "60"))

settings.register_profile("onnxmi", deadline=None, derandomize=True)
