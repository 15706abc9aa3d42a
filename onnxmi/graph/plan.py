"""The plan: which units of which layers stay, as a JSON file that can be read, edited, diffed and re-applied."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.axes.terms import AtomId
from onnxmi.errors import PlanError
from onnxmi.graph.channel_graph import ChannelGraph, Layer
from onnxmi.quantization.recipe import Recipe
from onnxmi.typing import Floats, Ints
from onnxmi.version import __version__

SCHEMA = 1
Times = Sequence[Sequence[float]]
"""Times in ms, of each model that was timed in turn."""
_LARGEST = 2**31  # sizes in an ONNX file of at most 2 GiB are below it


def plan_path(model: Path) -> Path:
    """Return the path of the plan beside a result."""
    return model.with_suffix(".plan.json")


@dataclass(frozen=True, eq=False)
class Choice:
    """What stays of one layer.

    Attributes
    ----------
    layer : str
        Its name.
    kind : str
        Its kind.
    size : int
        Its number of units before (of each part, if ragged).
    kept : (k,) or (parts, k) int64
        Sorted indices of the units that stay.
    gains : (n,) float64
        What each unit added, in the order of choice: nats for the joint score, else the score.
    """

    layer: str
    kind: str
    size: int
    kept: Ints
    gains: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def count(self) -> int:
        """Units that stay (of each part)."""
        return int(self.kept.shape[-1])


@dataclass(frozen=True, eq=False)
class Plan:
    """The choices for a model, with what made them.

    Attributes
    ----------
    digest : str
        SHA-256 of the model the plan is for.
    choices : tuple of Choice
        One for each layer that is cut; others stay whole.
    options : mapping
        The options that made the plan, for the reader.
    quantization : Recipe or None
        How the cut model is quantized; None where it stays float.
    timings : mapping
        What was timed, as a digest -> its times: all that the choices rest on.
    states : mapping or None
        Inputs -> the outputs that are fed back as them, which the choices make narrower; None where the interface
        stays as it is.
    """

    digest: str
    choices: tuple[Choice, ...]
    options: Mapping[str, Any]
    quantization: Recipe | None = None
    timings: Mapping[str, Times] = field(default_factory=dict)
    states: Mapping[str, str] | None = None

    def keeping(self, graph: ChannelGraph) -> Keeping:
        """Translate names into atoms.

        Raises
        ------
        PlanError
            If a layer does not exist, has another size, or its indices are not usable.
        """
        layers = {layer.name: layer for layer in graph.layers}
        kept: dict[AtomId, Kept] = {}
        for choice in self.choices:
            layer = layers.get(choice.layer)
            if layer is None:
                raise PlanError(f"the plan cuts layer {choice.layer!r}, which this model {_lacks(choice)}")
            _check_choice(choice, layer)
            if choice.count < layer.size:
                kept[layer.id] = layer.keep(choice.kept)
        return Keeping(kept)

    def to_json(self) -> str:
        """Return the file's text: the same plan gives the same bytes."""
        document = {
            "schema": SCHEMA,
            "onnxmi": __version__,
            "model": {"sha256": self.digest},
            "options": dict(self.options),
            "layers": [_choice_json(choice) for choice in self.choices],
        }
        if self.quantization is not None:
            document["quantization"] = self.quantization.to_dict()
        if self.states is not None:
            document["states"] = dict(self.states)
        if self.timings:
            document["timings"] = {timed: [list(own) for own in times] for timed, times in self.timings.items()}
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"

    def with_timings(self, timings: Mapping[str, Times]) -> Plan:
        """Return the plan with other times."""
        return replace(self, timings=dict(timings))


def _lacks(choice: Choice) -> str:
    if choice.kind == "embedding":
        return "has along the axes of the plan's own samples alone: give these and the seed, with `prune --plan`"
    return "does not have or cannot cut"


def _check_choice(choice: Choice, layer: Layer) -> None:
    where = f"the plan's layer {choice.layer!r}"
    kept = choice.kept
    if choice.size != layer.size:
        raise PlanError(f"{where} has {choice.size} units, the model's has {layer.size}")
    if kept.size == 0:
        _check_removal(kept, layer, where)
        return
    if kept.ndim == 2 and layer.outer_atom is None:
        raise PlanError(f"{where} lists {kept.shape[0]} parts, the model's has none")
    if kept.ndim == 2 and kept.shape[0] != layer.parts:
        raise PlanError(f"{where} lists {kept.shape[0]} parts, the model's has {layer.parts}")
    if kept.min() < 0 or kept.max() >= layer.size:
        raise PlanError(f"{where} keeps units outside 0..{layer.size - 1}")
    if (np.diff(kept, axis=-1) <= 0).any():
        raise PlanError(f"{where} lists units twice or out of order")


def _check_removal(kept: Ints, layer: Layer, where: str) -> None:
    """Check that a layer may go whole; whether its branch can go with it, `onnxmi.transforms.empty_branches` knows."""
    if kept.ndim != 1:
        raise PlanError(f"{where} keeps nothing of each part: to remove it, `kept` has to be an empty list")
    if layer.grade != "exact":
        raise PlanError(f"{where} keeps nothing, and a normalization runs over it")


def _choice_json(choice: Choice) -> dict[str, Any]:
    return {
        "name": choice.layer,
        "kind": choice.kind,
        "size": choice.size,
        "kept": choice.kept.tolist(),
        "gains": [float(f"{gain:.6g}") if np.isfinite(gain) else None for gain in choice.gains],
    }


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan file.

    Raises
    ------
    PlanError
        One line saying what is wrong with it.
    """
    path = Path(path)
    try:
        if not path.is_file() and path.exists() and not path.is_dir():  # a pipe would be waited for
            raise PlanError(f"{path}: is not a regular file")
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            raise PlanError(f"{path}: is empty")
        document = json.loads(text)
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path}: is not JSON: {error}") from error
    try:
        return _parse(document)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise PlanError(f"{path}: is not a plan of onnxmi: {type(error).__name__} {error}") from error
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error


def _parse(document: Any) -> Plan:
    if document["schema"] != SCHEMA:
        raise PlanError(f"has schema {document['schema']!r}; this version reads {SCHEMA}")
    choices = tuple(_parse_choice(entry) for entry in document["layers"])
    names = [choice.layer for choice in choices]
    if len(set(names)) < len(names):
        raise PlanError("names a layer twice")
    entry = document.get("quantization")
    recipe = None if entry is None else Recipe.from_dict(entry)
    timings = {str(timed): _parse_times(times) for timed, times in document.get("timings", {}).items()}
    states = document.get("states")
    states = None if states is None else {str(name): str(output) for name, output in states.items()}
    return Plan(str(document["model"]["sha256"]), choices, dict(document.get("options", {})), recipe, timings, states)


def _parse_times(value: Any) -> Times:
    times = [[float(one) for one in own] for own in value]
    if not times or not all(own and np.isfinite(own).all() and min(own) > 0 for own in times):
        raise PlanError("`timings` has a time that is no number above 0")
    return times


def _parse_choice(entry: Mapping[str, Any]) -> Choice:
    name, size = str(entry["name"]), entry["size"]
    if type(size) is not int:
        raise PlanError(f"layer {name!r}: `size` is not a whole number")
    gains = np.array(entry.get("gains", []), dtype=np.float64)
    if gains.ndim != 1:
        raise PlanError(f"layer {name!r}: `gains` is not a list of numbers")
    return Choice(name, str(entry.get("kind", "")), size, _indices(entry["kept"], name), gains)


def _indices(value: Any, name: str) -> Ints:
    """Kept indices of a layer, or of each of its parts (all the same number)."""
    parts = value if isinstance(value, list) and value and all(isinstance(part, list) for part in value) else [value]
    if not all(isinstance(part, list) and all(type(i) is int for i in part) for part in parts):
        raise PlanError(f"layer {name!r}: `kept` is not a list of indices")
    if len({len(part) for part in parts}) > 1:
        raise PlanError(f"layer {name!r}: `kept` lists parts that keep different numbers of units")
    if any(abs(index) > _LARGEST for part in parts for index in part):
        raise PlanError(f"layer {name!r}: `kept` has an index that no layer can have")
    return np.array(value, dtype=np.int64)
