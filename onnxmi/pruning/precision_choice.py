"""How the result is quantized: by what mode, with what ranges, and which operators stay float.

Each choice is between models that were made, run and timed. What decides is one price: the time as a share of the float
model's, and the damage as a share of what may be lost, put together at the rate at which pruning trades them. The
damage falls with about the third power of the time that pruning leaves, so a share of damage that rounding uses up
costs pruning a third of that share in time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from math import inf, isfinite

import onnx

from onnxmi.budget.allocate import Limit, allocate, smallest
from onnxmi.budget.goals import COSTS, DEFAULT_DROP, Kind
from onnxmi.errors import CheckError, ModelError, stage
from onnxmi.evaluation.damage_limits import excess
from onnxmi.model.external_data import byte_size
from onnxmi.pruning.cost_search import bound
from onnxmi.pruning.execute import execute_plan, make_plan
from onnxmi.pruning.precision import Precision
from onnxmi.pruning.session import PruningSession
from onnxmi.pruning.sizing import SizingProblem
from onnxmi.quantization.operators import in_groups
from onnxmi.quantization.ort_quantizer import has_4_bits
from onnxmi.quantization.quantize import PreparedModel, prepare, quantize, with_ranges
from onnxmi.quantization.recipe import HALF, MODES, MOMENTS, NEAREST, RANGE_METHODS, Ranges, Recipe
from onnxmi.typing import Progress, silent

TIME: tuple[Kind, ...] = ("time",)
TIME_POWER = 3.0  # of the time, with which the damage of pruning falls
PROXY_SHARE = 0.5  # of the MACs, at which recipes are compared where a loss is searched for
EXPECTED = {"time": 1.5, "size": 4.0}  # by how much 8 bits make a file faster and smaller, before that is measured
LEAST_SHARE = 0.05  # of what may be lost by default: damage is not weighed against less
MOST_GROUPS = 8  # of operators that are tried as float together
MOST_TRIALS = 12  # of them and of their halves
LEAST_ROUNDING_GAIN = 0.01  # of what may be lost, for which weights are rounded by moments,
LEAST_ROUNDING_SHARE = 0.1  # and of what rounding each to its nearest step does
LEAST_GAIN = 0.1  # of the price, for which an operator stays float: times are not measured better
MOST_NOISE = 1.0  # that a ratio of times is taken to have, where its interval is wide or unknown
TRIAL_SECONDS = 1.5  # of one comparison of times


@dataclass(frozen=True, eq=False)
class PrecisionChoice:
    """What was chosen, and why.

    Attributes
    ----------
    precision : Precision or None
        None where float is best.
    notes : tuple of str
        What the user should know.
    """

    precision: Precision | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Trial:
    """A recipe that was carried out.

    Attributes
    ----------
    recipe : Recipe
        Without ranges.
    proto : onnx.ModelProto
        The 8-bit model.
    damage : float
        What it adds to the float model's, as a share of what may be lost.
    cost : float
        Its time, its bytes or the mean of both, as a share of the float model's.
    """

    recipe: Recipe
    proto: onnx.ModelProto
    damage: float
    cost: float

    @property
    def price(self) -> float:
        """What it costs, all together; the float model costs `TIME_POWER`."""
        return TIME_POWER * self.cost + max(self.damage, 0.0)


@stage("quantize")
def choose_for_search(
    session: PruningSession, problem: SizingProblem, kinds: Collection[Kind], progress: Progress = silent
) -> PrecisionChoice:
    """Choose the recipe for a search over some costs, on a cut that is about as small as what will be found."""
    return choose_precision(session, _likely_cut(session, problem), progress, _counted(kinds))


def _counted(kinds: Collection[Kind]) -> tuple[Kind, ...]:
    """Return those of the costs that recipes differ in; the time where there is none."""
    both: tuple[Kind, ...] = ("time", "size")
    return tuple(kind for kind in both if kind in kinds) or TIME


def _likely_cut(session: PruningSession, problem: SizingProblem) -> onnx.ModelProto:
    """Cut to about the sizes that a budget asks for, with the one-pass repair; the source where that cannot be used."""
    budget, options = session.options.budget, problem.size_options
    limits = [_likely_limit(session, problem, name, budget.asked[name]) for name in budget.costs]
    usual = [Limit(problem.costs["macs"], PROXY_SHARE * problem.source["macs"])]
    counts = (allocate(options, limits) if limits else None) or allocate(options, usual) or smallest(options)
    try:
        return execute_plan(session, make_plan(session, counts), stepwise=False).proto
    except (CheckError, ModelError):
        return session.model.proto


def _likely_limit(session: PruningSession, problem: SizingProblem, name: str, asked: float) -> Limit:
    """Return what a budget leaves the float model, by what 8 bits are expected to save; MACs stand for the time."""
    kind = COSTS[name]
    if kind != "time":
        return Limit(problem.costs[kind], bound(session, problem, name, asked) * EXPECTED.get(kind, 1.0))
    share = 1 / asked if name == "speedup" else asked / session.decisive_time(session.model.proto)[0].median
    return Limit(problem.costs["macs"], problem.source["macs"] * min(share * EXPECTED[kind], 1.0))


@stage("quantize")
def choose_precision(
    session: PruningSession, proto: onnx.ModelProto, progress: Progress = silent, counted: Collection[Kind] = TIME
) -> PrecisionChoice:
    """Choose how to quantize a float model, by models that are made, run and timed.

    Parameters
    ----------
    counted : collection of str
        What models are weighed by: "time", "size" or both.

    Raises
    ------
    CheckError
        If it is to be quantized in a certain mode, and none of its operators can be.
    ModelError
        If onnxruntime cannot.
    """
    requested = session.options.quantize
    if requested == HALF:
        return _stored_as_float16(session, proto)
    trials = _Trials(session, proto, progress, counted)
    modes = MODES if requested == "auto" else (requested,)
    found = [trial for mode in modes if (trial := trials.of_mode(mode, required=requested != "auto")) is not None]
    best = min(found, key=lambda trial: trial.price, default=None)
    if best is None or (requested == "auto" and best.price > TIME_POWER - LEAST_GAIN):
        return PrecisionChoice(None, (f"not quantized: float is best here ({_tried(found)})",))
    best = trials.with_simplest_rounding(trials.with_float_operators(trials.with_4_bit_tables(best)))
    if requested == "auto" and best.price > TIME_POWER - LEAST_GAIN:
        return PrecisionChoice(None, (f"not quantized: float is best here ({_tried([best])})",))
    return PrecisionChoice(trials.precision(best), (_said(best),))


def _stored_as_float16(session: PruningSession, proto: onnx.ModelProto) -> PrecisionChoice:
    """Return the recipe of float16 storage: there is nothing to choose."""
    prepared = prepare(proto, session.kept_tensors)
    recipe = prepared.everything(HALF)
    size = byte_size(quantize(prepared, recipe)) / byte_size(proto)
    note = "stored as float16: a smaller file; CPUs compute in float32, so it is no faster there"
    return PrecisionChoice(Precision(recipe, size), (note,))


def _tried(trials: list[_Trial]) -> str:
    return (
        ", ".join(f"{trial.recipe.mode} takes x {trial.cost:.2f} of the time" for trial in trials) or "nothing can be"
    )


def _said(trial: _Trial) -> str:
    recipe = trial.recipe
    ranges = f", ranges by {recipe.calibration}" if recipe.calibration else ""
    bits = ", weights of 7 bits since this processor's 8-bit products saturate" if recipe.reduced_range else ""
    small = f", {len(recipe.four_bit)} of them in 4 bits" if recipe.four_bit else ""
    moved = ", weights rounded by the moments of what they multiply" if recipe.rounding == MOMENTS else ""
    count = len(recipe.quantized)
    return (
        f"quantized: {recipe.mode}, {count} of {count + len(recipe.left_float)} operators{small}{ranges}{moved}{bits}"
    )


class _Trials:
    """Recipes for one float model, carried out, judged and timed."""

    def __init__(
        self, session: PruningSession, proto: onnx.ModelProto, progress: Progress, counted: Collection[Kind]
    ) -> None:
        self._session, self._proto, self._progress = session, proto, progress
        self._prepared: PreparedModel = prepare(proto, session.kept_tensors)
        self._rounder = session.weight_rounder(self._prepared)
        self._drop = session.options.budget.drop or DEFAULT_DROP
        self._base = self._excess(proto)
        self._scale = 1.0 if session.options.budget.searches else max(self._base, LEAST_SHARE)
        self._counted = counted
        self._ranges: dict[str, Ranges] = {}  # of activations, by the method that found them
        self._done, self._failure = 0, ""
        self._noise = 0.0  # half the width of the last ratio of times

    def of_mode(self, mode: str, *, required: bool) -> _Trial | None:
        """Quantize everything that can be; with static ranges, by the method that is nearest to the original."""
        recipe = self._prepared.everything(mode)
        if not recipe.quantized or (mode == "weights" and not has_4_bits()):
            if required:
                raise CheckError(f"--quantize {mode}: the model has no operator that onnxruntime quantizes so")
            return None
        recipe = replace(recipe, rounding=MOMENTS if self._session.options.repair else NEAREST)
        methods = RANGE_METHODS if mode == "static" else ("",)
        usable = list(self._usable(replace(recipe, calibration=method) for method in methods))
        if not usable:
            if required:
                raise CheckError(f"--quantize {mode}: {self._failure or 'the 8-bit model loses its outputs'}")
            return None
        recipe, proto, damage = min(usable, key=lambda one: one[2])
        return _Trial(recipe, proto, damage, self._cost(self._proto, proto))

    def with_4_bit_tables(self, best: _Trial) -> _Trial:
        """Store tables in 4 bits where bytes count, and theirs are worth the damage: in time they save nothing."""
        operators = self._prepared.quantizable(best.recipe.mode)
        tables = [one.name for one in operators if one.is_table and one.in_blocks and one.name in best.recipe.int8]
        if not tables or "size" not in self._counted or not has_4_bits():
            return best
        trial = self._instead(best, best.recipe.with_4_bits(tables))
        return trial if trial is not None and trial.price < best.price else best

    def with_simplest_rounding(self, best: _Trial) -> _Trial:
        """Round each weight to its nearest step, which takes no samples, where the moments hardly do better.

        Both are held against the float cut, on the samples that recipes are chosen on: held against the original, the
        errors of the cut would add noise that is larger than what rounding does.
        """
        if best.recipe.rounding == NEAREST:
            return best
        usable = next(self._usable(iter([replace(best.recipe, rounding=NEAREST)])), None)
        if usable is None:
            return best
        recipe, proto, damage = usable
        samples = replace(self._session.validation_set, original=self._proto)
        alone, together = (
            excess(samples.damage(samples.answers(one)), self._drop) / self._scale for one in (proto, best.proto)
        )
        if alone - together > max(LEAST_ROUNDING_GAIN, LEAST_ROUNDING_SHARE * alone):
            return best
        return replace(best, recipe=recipe, proto=proto, damage=damage)

    def _usable(self, recipes: Iterator[Recipe]) -> Iterator[tuple[Recipe, onnx.ModelProto, float]]:
        """Yield those that can be carried out, with their damage."""
        for recipe in recipes:
            try:
                proto = self._make(recipe)
                damage = self._damage(proto)
            except (ModelError, CheckError) as error:  # onnxruntime quantizes or runs it not at all
                self._failure = str(error)
                continue
            if damage < inf:
                yield recipe, proto, damage

    def with_float_operators(self, best: _Trial) -> _Trial:
        """Leave those operators float whose rounding costs more than their time is worth; halve groups that do."""
        whole = best
        recipe = best.recipe
        operators = [one for one in self._prepared.quantizable(recipe.mode) if one.name in recipe.quantized]
        groups = list(in_groups(operators, MOST_GROUPS))
        if len(groups) < 2:
            return best
        for _ in range(MOST_TRIALS):
            if not groups:
                break
            group = groups.pop(0)
            if len(best.recipe.quantized) <= len(group):
                continue
            trial = self._without(best, group)
            if trial is None:
                continue
            if best.price - trial.price > LEAST_GAIN + TIME_POWER * self._noise:
                best = trial
            elif best.damage - trial.damage > LEAST_GAIN and len(group) > 1:  # some of them may be worth it
                groups += [group[: len(group) // 2], group[len(group) // 2 :]]
        if best is whole:
            return whole
        again = replace(best, cost=self._cost(self._proto, best.proto))  # a chain of ratios adds up their errors
        return again if again.price < whole.price else whole

    def _without(self, best: _Trial, group: tuple[str, ...]) -> _Trial | None:
        return self._instead(best, best.recipe.with_float(group))

    def _instead(self, best: _Trial, recipe: Recipe) -> _Trial | None:
        """Carry out another recipe, and compare it with the best one; None where it cannot be used."""
        usable = next(self._usable(iter([recipe])), None)
        if usable is None:
            return None
        return _Trial(recipe, usable[1], usable[2], best.cost * self._cost(best.proto, usable[1]))

    def precision(self, trial: _Trial) -> Precision:
        """Return what a search needs of a trial."""
        size = byte_size(trial.proto) / byte_size(self._proto)
        return Precision(trial.recipe, size)

    def _make(self, recipe: Recipe) -> onnx.ModelProto:
        self._done += 1
        self._progress("quantize", self._done, MOST_TRIALS)
        prepared = self._prepared if recipe.rounding == NEAREST else self._rounder.rounded(recipe)
        return quantize(prepared, replace(recipe, ranges=self._ranges_by(recipe.calibration)))

    def _ranges_by(self, method: str) -> Ranges:
        """Return the ranges that a method finds, of all activations: they are the same whatever stays float."""
        if method and method not in self._ranges:
            whole = self._prepared.everything("static", method)
            self._ranges[method] = with_ranges(self._prepared, whole, self._session.range_feeds()).ranges
        return self._ranges.get(method, {})

    def _damage(self, proto: onnx.ModelProto) -> float:
        return (self._excess(proto) - self._base) / self._scale

    def _excess(self, proto: onnx.ModelProto) -> float:
        samples = self._session.validation_set
        return excess(samples.damage(samples.answers(proto)), self._drop)

    def _cost(self, before: onnx.ModelProto, after: onnx.ModelProto) -> float:
        """Return what counts, time, bytes or the mean of both, of one model as a share of another's."""
        shares = [byte_size(after) / byte_size(before)] if "size" in self._counted else []
        if "time" in self._counted:
            shares.append(self._time(before, after))
        return sum(shares) / len(shares)

    def _time(self, before: onnx.ModelProto, after: onnx.ModelProto) -> float:
        """Return the time of one model as a share of another's."""
        was, now = self._session.decisive_time(after, before, TRIAL_SECONDS)
        interval = now.speedup_interval(was)
        self._noise = min((interval.high - interval.low) / 2, MOST_NOISE) if isfinite(interval.low) else MOST_NOISE
        return 1.0 / now.speedup_over(was)
