"""How many samples there are, and which inputs have none: the arrays vote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from onnxmi.data.stored import SampleArray
from onnxmi.errors import CalibrationError
from onnxmi.model import TensorInfo


def count_samples(
    arrays: Mapping[str, SampleArray],
    inputs: Mapping[str, TensorInfo],
    axes: Mapping[str, int],
    labels: SampleArray | None,
    where: str,
) -> tuple[int, set[str]]:
    """Return the number of samples, and the inputs that are not sample-wise.

    An input whose batch the graph fixes, and which has just that size, says nothing about the number of samples. The
    others vote; labels and then an axis that the graph calls a batch decide between equals.
    """
    lengths = {name: array.shape[axes[name]] for name, array in arrays.items() if array.ndim}
    firsts = {name: info.dims[axes[name]] if info.dims else None for name, info in inputs.items()}
    voters = {name: length for name, length in lengths.items() if firsts[name] != length} or lengths
    if not voters:
        raise CalibrationError(f"{where}: no array has a sample axis")
    elected = _elect(voters, firsts, labels)
    count = next(length for length in voters.values() if length in elected)
    whole = {name for name in arrays if voters.get(name) != count}
    symbols = {firsts[name] for name in arrays if name not in whole and isinstance(firsts[name], str)}
    undecided = len(elected) > 1 and voters is not lengths
    if undecided or any(firsts[name] in symbols for name in whole):
        raise CalibrationError(f"{where}: sample counts disagree: {_lengths(voters)}")
    if count == 0:
        raise CalibrationError(f"{where}: has no samples")
    return count, whole


def _elect(voters: Mapping[str, int], firsts: Mapping[str, int | str | None], labels: SampleArray | None) -> set[int]:
    """Return the lengths that may be the number of samples; more than one where nothing decides between them."""
    votes = Counter(voters.values())
    elected = {length for length, number in votes.items() if number == max(votes.values())}
    of_labels = set(labels.shape[:1]) if labels is not None else set()
    of_batches = {length for name, length in voters.items() if "batch" in str(firsts[name]).lower()}
    for preferred in (of_labels, of_batches):
        elected = elected & preferred or elected
    return elected


def _lengths(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{name!r} has {length}" for name, length in lengths.items())


def fixed_batch(inputs: Mapping[str, TensorInfo], axes: Mapping[str, int], whole: set[str]) -> int | None:
    """Return the number of samples that the graph fixes for a run, or None."""
    firsts = [info.dims[axes[name]] for name, info in inputs.items() if info.dims and name not in whole]
    fixed = [dim for dim in firsts if isinstance(dim, int) and dim > 0]
    return fixed[0] if fixed else None
