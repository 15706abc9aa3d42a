"""The only importer of onnxruntime: sessions on a model in memory, with taps on inner tensors."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from threadpoolctl import ThreadpoolController

from onnxmi.errors import ModelError
from onnxmi.model.external_data import bytes_or_path, skeleton_bytes
from onnxmi.model.mapped import ROOT, is_memory_mapped
from onnxmi.model.narrow_states import NarrowedFeeds, NarrowState, narrow_states
from onnxmi.model.taps import Seen, Tap, with_taps
from onnxmi.model.temporary import TemporaryFolder
from onnxmi.runtime.threads import available_threads
from onnxmi.typing import Array

Feeds = Mapping[str, Array]

_FATAL_ONLY = 4  # onnxruntime's severity scale: its warnings speak of optimizations nobody asked about
# Optimizers that end the process on some models in half precision (onnxruntime 1.31); without them results are the same
_CRASHING = ("FuseFp16InitializerToFp32NodeTransformer",)
_ORIGIN = re.compile(r"(\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : )?(/\S+\.(cc|h):\d+ [^()]+\(.*?\)( const)? (?=[A-Z]))?")


@dataclass(frozen=True)
class Session:
    """A loaded model that can be run; `taps` are the tensors it returns, in order.

    One with narrow states can also be run on the original's states: then it gives such states, too.
    """

    session: onnxruntime.InferenceSession
    taps: tuple[Tap, ...]
    narrow: Mapping[str, NarrowState] = field(default_factory=dict)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors."""
        return tuple(tap.name for tap in self.taps)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run the model once.

        Returns
        -------
        dict
            Tensor name -> value. Iterations of a tensor inside a loop are on its first axis, beside what that has; a
            tensor in a branch that was not taken is absent.

        Raises
        ------
        ModelError
            If onnxruntime fails on these inputs; the message is its own, in one line.
        """
        return {name: seen.by_sample for name, seen in self.see(feeds).items() if seen.counts}

    def see(self, feeds: Feeds) -> dict[str, Seen]:
        """Run the model as `run` does, with iterations on leading axes of their own.

        Raises
        ------
        ModelError
            If onnxruntime fails on these inputs.
        """
        if not self.taps:  # of what was asked for, nothing can be shown
            return {}
        whole = any(self.narrow[name].is_whole(feeds[name]) for name in self.narrow.keys() & feeds.keys())
        fed = NarrowedFeeds(feeds, self.narrow) if whole else feeds
        try:
            names = list(dict.fromkeys(name for tap in self.taps for name in tap.outputs))
            results = dict(zip(names, self.session.run(names, dict(fed)), strict=True))
        except Exception as error:  # onnxruntime raises many unrelated types
            raise ModelError(f"onnxruntime cannot run the model: {one_line(error)}") from error
        if whole:
            made = self.narrow.keys() & results.keys()
            results |= {name: self.narrow[name].widened(results[name]) for name in made}
        return {tap.name: tap.seen(results) for tap in self.taps if tap.computed(results)}


def open_session(
    proto: onnx.ModelProto,
    *,
    taps: Sequence[str] | None = None,
    threads: int = 0,
    optimise: bool = True,
    spin: bool = False,
) -> Session:
    """Load a model under onnxruntime's CPU provider; one over 2 GiB that is not lean through temporary files.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model.
    taps : sequence of str, optional
        Inner tensors to return instead of the graph's outputs.
    threads : int
        Intra-operator threads; 0 lets onnxruntime choose.
    optimise : bool
        Off for comparisons: onnxruntime's optimizer changes the results of some graphs.
    spin : bool
        Let idle threads wait busily, as deployed sessions do: for timing. It wastes the cores of a shared machine.

    Raises
    ------
    ModelError
        If onnxruntime refuses the model.
    """
    options = _options(threads, optimise=optimise, spin=spin)
    if taps is None:
        return _open(proto, options, _outputs(proto), spin=spin)
    tapped, places = with_taps(proto, taps)
    return _open(tapped, options, places, spin=spin)


def profile(proto: onnx.ModelProto, feeds: Feeds, *, threads: int = 0, runs: int = 10) -> list[dict[str, Any]]:
    """Run a model some times under onnxruntime's profiler, and return the events it wrote.

    Raises
    ------
    ModelError
        If onnxruntime refuses or cannot run the model, or its profile cannot be read.
    """
    with TemporaryFolder() as folder:
        options = _options(threads, optimise=True, spin=True)
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "profile")
        session = _open(proto, options, _outputs(proto), spin=True)
        for _ in range(runs):
            session.run(feeds)
        try:
            events = json.loads(Path(session.session.end_profiling()).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"onnxruntime's profile cannot be read: {one_line(error)}") from error
    return list(events)


def open_file(path: str | os.PathLike[str], *, threads: int = 0) -> Session:
    """Load a model from its file, as deployed sessions do.

    Raises
    ------
    ModelError
        If onnxruntime refuses the model.
    """
    session = _session(str(path), _options(threads, optimise=True, spin=True))
    return Session(session, tuple(Tap(output.name, output.name) for output in session.get_outputs()))


def _outputs(proto: onnx.ModelProto) -> tuple[Tap, ...]:
    return tuple(Tap(value.name, value.name) for value in proto.graph.output)


def _options(threads: int, *, optimise: bool, spin: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    # Deployed sessions are timed as they are; elsewhere onnxruntime would take a thread for each core of the host.
    options.intra_op_num_threads = threads if threads or spin else available_threads()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    # Threads that go on spinning after a run would take the cores from another session's run.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    return options


def _open(proto: onnx.ModelProto, options: onnxruntime.SessionOptions, taps: tuple[Tap, ...], *, spin: bool) -> Session:
    lean = is_memory_mapped(proto)
    if lean:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(ROOT))
    # What is mapped from a temporary file stays readable when that is removed.
    with nullcontext(skeleton_bytes(proto)) if lean else bytes_or_path(proto) as source:
        if (lean or isinstance(source, str)) and not spin:  # deployed sessions pay a copy of the weights for speed
            options.add_session_config_entry("session.disable_prepacking", "1")
        return Session(_session(source, options, () if spin else _CRASHING), taps, narrow_states(proto))


def _session(
    source: bytes | str, options: onnxruntime.SessionOptions, disabled: Collection[str] = ()
) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"], disabled_optimizers=set(disabled)
        )
    except Exception as error:  # onnxruntime raises many unrelated types
        raise ModelError(f"onnxruntime refuses the model: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """Return an exception's message in one line of bounded length, without where in onnxruntime it arose."""
    return _ORIGIN.sub("", " ".join(str(error).split()))[:400]


def silence() -> None:
    """Keep onnxruntime's own warnings off standard error; what matters of them is raised or looked for."""
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)


def version() -> str:
    """Return onnxruntime's version."""
    return str(onnxruntime.__version__)


def providers() -> tuple[str, ...]:
    """Return the execution providers that onnxruntime has here; only the CPU's is used."""
    return tuple(onnxruntime.get_available_providers())


def as_numpy(values: Mapping[str, Any]) -> dict[str, Array]:
    """Keep the results that are plain arrays (sequences, maps and missing optionals are left out)."""
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


_LIBRARIES = ThreadpoolController()  # of what is loaded by now: numpy, above


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Let numpy's linear algebra use so many threads within the block; 0 gives it one.

    Its idle threads wait busily and take the cores from onnxruntime's, which are all used where `threads` is 0.
    """
    with _LIBRARIES.limit(limits=threads or 1, user_api="blas"):
        yield
