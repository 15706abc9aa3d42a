"""Networks nobody would draw are pruned, repaired and verified from end to end."""

from __future__ import annotations

import random

import numpy as np
import pytest

import onnxmi
from onnxmi.errors import CheckError
from tests.support.random_models import random_model

EVERY_KIND = ("channels", "ffn", "heads", "hidden", "qk", "value", "width")


@pytest.mark.parametrize("seed", range(24))
def test_a_random_network_is_pruned(seed):
    proto = random_model(random.Random(seed))
    sizes = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    samples = np.random.default_rng(0).normal(size=(37, *sizes[1:])).astype(np.float32)
    options = onnxmi.PruneOptions(latency=False, threads=1, cut=EVERY_KIND if seed % 2 else ())
    try:
        made = onnxmi.prune(proto, {"x": samples}, options)
    except CheckError:  # nothing to prune, or more lost than is allowed
        return
    assert all(check.passed for check in made.checks)
    # Where every cut loses too much, unused positions may be left out alone: fewer MACs, with the same parameters.
    assert (made.after.parameters, made.after.macs) < (made.before.parameters, made.before.macs)
