from hypothesis import settings

import tests.support.settings  # noqa: F401  (registers the profile)

settings.load_profile("onnxmi")
