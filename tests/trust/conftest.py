from tests.cli.conftest import place  # noqa: F401  (a folder with a model and its samples)
