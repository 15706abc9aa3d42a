import support.settings  # noqa: F401  (registers the profile)
from hypothesis import settings

settings.load_profile("onnxmi")
