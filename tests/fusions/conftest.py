from functools import cache

import pytest

from tests.fusions.zoo_models import Halve, Halved, unpack


@pytest.fixture(scope="session")
def halve(tmp_path_factory: pytest.TempPathFactory) -> Halve:
    """A model of the zoo by name, with half of the units of the named kinds of layers."""
    return cache(lambda name, *kinds: Halved(unpack(name, tmp_path_factory.mktemp("zoo")), kinds))
