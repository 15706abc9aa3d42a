"""What is refused before the long work: it would come to nothing."""

from __future__ import annotations

from onnxmi.budget.goals import COSTS, option
from onnxmi.budget.size_grid import kept_count
from onnxmi.errors import NothingToPruneError, UsageError
from onnxmi.graph.plan import Plan
from onnxmi.pruning.session import PruningSession, require_costs
from onnxmi.quantization.ort_quantizer import require_4_bits
from onnxmi.quantization.quantize import require_small
from onnxmi.transforms.cut import Cut


def require_work(session: PruningSession, given: Plan | None) -> None:
    """Refuse before the long work what would come to nothing."""
    options, keep = session.options, session.options.keep
    recipe = None if given is None else given.quantization
    if options.quantize != "none" or recipe is not None:
        require_small(session.source.proto)
    if options.quantize == "weights" or (recipe is not None and recipe.four_bit):
        require_4_bits()
    require_costs(session, {option(name): COSTS[name] for name in options.budget.costs})
    if given is not None:
        if options.cut or options.skip or options.only:
            raise UsageError("a plan names the layers: cut, skip and only cannot be combined with it")
        if given.quantization is not None and options.quantize != "none":
            raise UsageError("the plan says how to quantize: --quantize cannot be combined with it")
        _ = Cut(session.analysis, given.keeping(session.analysis.graph)).branches  # raises where they cannot go
    elif not session.layers or (keep and all(kept_count(layer, keep) == layer.size for layer in session.layers)):
        raise NothingToPruneError(_nothing(session))


def _nothing(session: PruningSession) -> str:
    graph, keep = session.analysis.graph, session.options.keep
    if graph.layers:
        if session.layers and keep:
            return f"nothing to prune: a share of {keep:g} keeps every unit of each layer"
        return f"nothing to prune: {_unchosen(session)}"
    reasons = "; ".join(f"{f.name} ({f.size}): {f.reason}" for f in graph.frozen[:3])
    reasons = reasons or "no operator contracts over stored weights"
    return f"nothing to prune: the model has no layer that can be cut ({reasons})"


def _unchosen(session: PruningSession) -> str:
    """Say what there would be to cut; kinds alone do not take what a pattern leaves out."""
    named = ", ".join(f"{layer.name} ({layer.size}, {layer.kind})" for layer in session.left_out[:3])
    if session.unseen:
        return f"no compared output depends on {len(session.unseen)} of {len(session.left_out)} layers ({named})"
    if session.idle:
        return (
            f"no sample takes the branches that {len(session.idle)} of {len(session.left_out)} layers are in ({named})"
        )
    kinds = ",".join(sorted({layer.kind for layer in session.left_out}))
    hint = "" if session.options.skip or session.options.only else f"; --cut {kinds} cuts them, too"
    return f"none of the layers was chosen, of {len(session.left_out)} ({named}){hint}"
