"""Inference: run every operator's rule, unify, and read the channel graph off the result."""

from __future__ import annotations

from collections.abc import Mapping

from onnxmi.axes.unify import Solver
from onnxmi.errors import stage
from onnxmi.graph.channel_graph import ChannelGraph, Use
from onnxmi.graph.layers import LayerReader
from onnxmi.graph.quantization import read_quantized
from onnxmi.model import Graph, Model, Node, TensorInfo
from onnxmi.operators.context import AxisRule, RuleContext, Terms
from onnxmi.operators.declarations import Declarations
from onnxmi.operators.registry import operator_of
from onnxmi.runtime.probe import Probe


@stage("axes")
def infer(model: Model, probe: Probe, states: Mapping[str, str] | None = None) -> ChannelGraph:
    """Find out which axes can only be cut together, which cannot be cut, and where each is consumed.

    Parameters
    ----------
    states : mapping of str to str, optional
        Inputs -> the outputs that are fed back as them, whose units may be cut in both.
    """
    inference = _Inference(model.graph, probe, states or {})
    inference.run_rules()
    inference.freeze_interface()
    inference.freeze_without_scale()
    inference.solver.settle_marks()
    return _read_off(inference)


class _Inference:
    """The state while rules run: the solver and a term for every axis of every tensor."""

    def __init__(self, graph: Graph, probe: Probe, states: Mapping[str, str]) -> None:
        self.graph, self.probe = graph, probe
        self.states = {name: output for name, output in states.items() if self._can_be_narrow(name, output)}
        self.solver = Solver()
        self.declarations = Declarations()
        self.tensors: dict[str, Terms] = {}
        self.uses: dict[Use, Terms] = {}

    def run_rules(self) -> None:
        for node in self.graph.nodes:
            ctx = RuleContext(
                node=node,
                graph=self.graph,
                probe=self.probe,
                solver=self.solver,
                declarations=self.declarations,
                ins=[self._read(node, operand) for operand in range(len(node.inputs))],
                outs=[self._tensor(name) for name in node.outputs],
                tensor=self._tensor,
            )
            with stage("axes", node.label):
                self._run_rule(ctx)

    def _run_rule(self, ctx: RuleContext) -> None:
        rule = operator_of(ctx.node).axes
        if rule is None:
            domain = f"{ctx.node.domain}." if ctx.node.domain else ""
            ctx.freeze_all(f"is an operator without a rule ({domain}{ctx.node.op})")
        elif self.probe.impossible.issuperset(ctx.node.outputs) and None in ctx.outs:
            return  # of a branch that does not run, where no size matters
        elif not ctx.node.bodies and any(
            terms is None and name
            for name, terms in zip([*ctx.node.inputs, *ctx.node.outputs], [*ctx.ins, *ctx.outs], strict=True)
        ):
            ctx.freeze_all("has an operand whose shape is not known")
        else:
            _run(rule, ctx)

    def _read(self, node: Node, operand: int) -> Terms | None:
        """Terms of an operand; a stored vector with several readers gets terms of its own for each reading."""
        name = node.inputs[operand]
        if self._is_shared_vector(name):
            self.uses[node.index, operand] = self._fresh(name) or ()
            return self.uses[node.index, operand]
        return self._tensor(name)

    def _is_shared_vector(self, name: str) -> bool:
        graph = self.graph
        return (
            graph.is_constant(name) and len(graph.constant_shape(name)) == 1 and len(graph.consumers.get(name, ())) > 1
        )

    def _tensor(self, name: str) -> Terms | None:
        if name not in self.tensors:
            terms = self._fresh(name)
            if terms is None:
                return None
            self.tensors[name] = terms
        return self.tensors[name]

    def _fresh(self, name: str) -> Terms | None:
        shape = self.probe.shapes.get(name)
        return None if shape is None else tuple(self.solver.dim(size) for size in shape)

    def freeze_interface(self) -> None:
        """The model's interface, and what subgraphs read, cannot change."""
        inputs, outputs = ({info.name: info for info in infos} for infos in (self.graph.inputs, self.graph.outputs))
        narrow = {name for pair in self.states.items() for name in pair}
        for name in inputs.keys() - narrow:
            self._freeze(name, f"it is an axis of the graph input {name}")
        for name in outputs.keys() - narrow:
            self._freeze(name, f"it is an axis of the graph output {name}")
        for name, output in self.states.items():
            self._tie_state(inputs[name], outputs[output])
        for name in self.graph.overridable:
            self._freeze(name, f"a caller may replace {name}, which is both initializer and graph input")
        for node in self.graph.nodes:
            for name in () if node.bodies else node.captures:
                self._freeze(name, f"{name} is used inside the body of {node.op} {node.label}")

    def _can_be_narrow(self, name: str, output: str) -> bool:
        """Whether a state is one float tensor on both sides, which the model computes."""
        kinds = [self.probe.dtypes.get(tensor) for tensor in (name, output)]
        ranks = [len(self.probe.shapes.get(tensor, ())) for tensor in (name, output)]
        floats = all(kind is not None and kind.kind == "f" for kind in kinds)
        return floats and ranks[0] == ranks[1] and output in self.graph.producers

    def _tie_state(self, before: TensorInfo, after: TensorInfo) -> None:
        """What comes out of a step goes into the next one: sizes that the model declares may be cut in both."""
        pairs = zip(self._tensor(before.name) or (), self._tensor(after.name) or (), strict=True)
        for axis, (given, made) in enumerate(pairs):
            declared = [isinstance(dim, int) for info in (before, after) for dim in (info.dims or ())[axis : axis + 1]]
            if any(declared) and self.solver.size(given) == self.solver.size(made):
                self.solver.unify(given, made)
                continue
            for term in (given, made):
                self.solver.freeze(term, f"it is an axis of the state {before.name} whose size is free")

    def freeze_without_scale(self) -> None:
        """What lies on integers that stand for no known numbers cannot be scored or refitted: it is left alone."""
        for node in self.graph.nodes:
            for layout in operator_of(node).layouts:
                if layout.quantized is None:
                    continue
                weight = node.inputs[layout.weight]
                if not self.graph.is_constant(weight):
                    continue
                reading = read_quantized(self.graph, node, layout.quantized, layout.output_axis(node))
                if reading is None or not reading.scheme.scales:
                    self._freeze(weight, f"the scale of the weight of {node.label} is not found")

    def _freeze(self, name: str, reason: str) -> None:
        for term in self.tensors.get(name, ()):
            self.solver.freeze(term, reason)


def _run(rule: AxisRule, ctx: RuleContext) -> None:
    """Run a rule; operands in a form that it does not foresee are frozen like those of an operator without a rule."""
    try:
        rule(ctx)
    except (ValueError, IndexError, KeyError, TypeError, AssertionError) as error:
        ctx.freeze_all(f"is used in a way that its rule does not know ({type(error).__name__}: {error})"[:120])


def _read_off(inference: _Inference) -> ChannelGraph:
    solver, declared = inference.solver, inference.declarations
    axes = {name: tuple(map(solver.resolve, terms)) for name, terms in inference.tensors.items()}
    uses = {use: tuple(map(solver.resolve, terms)) for use, terms in inference.uses.items()}
    contractions = tuple(one.resolved(solver.resolve) for one in declared.contractions)
    layers, frozen = LayerReader(inference.graph, solver, axes, uses, contractions).read()
    return ChannelGraph(
        axes=axes,
        uses=uses,
        contractions=contractions,
        size_operands=tuple(one.resolved(solver.resolve) for one in declared.size_operands),
        size_attributes=tuple(one.resolved(solver.resolve) for one in declared.size_attributes),
        shape_readers=tuple(declared.shape_readers),
        layers=layers,
        frozen=frozen,
        normalizations=tuple(one.resolved(solver.resolve) for one in declared.normalizations),
        pinned=tuple(one.resolved(solver.resolve) for one in declared.pinned),
        states=tuple(inference.states.items()),
    )
