"""Plans that are given: read, held against the model, and replayed without samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxmi.errors import NothingToPruneError, PlanError
from onnxmi.evaluation.yardstick import Damage
from onnxmi.graph.cost import cost
from onnxmi.graph.plan import Plan, load_plan
from onnxmi.model import Model
from onnxmi.model.external_data import byte_size
from onnxmi.model.load import as_path, proto_digest
from onnxmi.model.mapped import with_values_inside
from onnxmi.model.narrow_states import narrower_notes
from onnxmi.pruning.outcome import Outcome
from onnxmi.quantization.quantize import replay
from onnxmi.runtime.synthetic import NO_SIZES, GivenSizes
from onnxmi.transforms.analysis import ModelLike, analyze
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from onnxmi.typing import AnyPath
from onnxmi.verification.checks import check_equivalence, check_result, check_same, check_shapes, require_passed

_UNREPAIRED = "no samples were given: nothing is repaired, and what the outputs lose is not known"


def given_plan(plan: Plan | AnyPath, model: Model, *, cuts: bool = True) -> Plan:
    """Return a plan from a path or a Plan.

    Parameters
    ----------
    cuts : bool
        Whether it has to cut something.

    Raises
    ------
    PlanError
        If it was made for another model, or cuts nothing.
    """
    loaded = plan if isinstance(plan, Plan) else load_plan(as_path(plan, "plan"))
    if loaded.digest != model.digest:
        raise PlanError(f"the plan is for a model with digest {loaded.digest[:12]}, this one's is {model.digest[:12]}")
    if cuts and loaded.quantization is None and not any(choice.count < choice.size for choice in loaded.choices):
        raise NothingToPruneError("the plan keeps every unit: there is nothing to do")
    return loaded


def apply(model: ModelLike, plan: Plan | AnyPath, sizes: GivenSizes = NO_SIZES) -> Outcome:
    """Replay a plan without calibration data: the unrepaired cut, verified on synthetic inputs of given sizes.

    Raises
    ------
    PlanError
        If the plan is for another model or does not fit.
    """
    loaded = plan if isinstance(plan, Plan) else load_plan(as_path(plan, "plan"))
    analysis = analyze(model, sizes=sizes, fix=loaded.options.get("fix", ()), states=loaded.states)
    chosen = given_plan(loaded, analysis.model, cuts=analysis.model is analysis.source)
    keeping = chosen.keeping(analysis.graph)
    cut = prune_channels(Cut(analysis, keeping))
    feeds = [analysis.probe.feeds]
    checks = [
        check_equivalence(analysis.model, analysis.graph, analysis.probe, keeping, cut, feeds),
        check_shapes(analysis.graph, analysis.probe, keeping, cut, analysis.probe.feeds),
        *check_result(analysis.source, cut, feeds),
    ]
    if analysis.model is not analysis.source:
        checks.append(check_same(analysis.source, analysis.model, analysis.probe, feeds))
    require_passed(checks)
    result = cut if chosen.quantization is None else replay(chosen.quantization, cut)
    if result is not cut:
        checks += check_result(analysis.source, result, feeds)
        require_passed(checks)
    smaller, inputs = with_values_inside(result), analysis.probe.feeds
    samples = next((len(array) for array in inputs.values() if np.ndim(array)), 1)
    return Outcome(
        proto=smaller,
        digest=proto_digest(smaller),
        plan=chosen,
        analysis=analysis,
        left_out=(),
        unseen=(),
        before=cost(analysis.source.proto, inputs, samples),
        after=replace(cost(cut, inputs, samples), size=byte_size(result)),
        quality=None,
        damage=Damage(()),
        latency=None,
        repairs=(),
        checks=tuple(checks),
        notes=(_UNREPAIRED, *analysis.notes, *narrower_notes(analysis.source.proto, result)),
    )
