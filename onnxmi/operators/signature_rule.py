"""Running a signature, one line of einsum spelling, as unifications and declarations; broadcasting in numpy's way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxmi.axes.signature import OperandPattern, parse
from onnxmi.axes.unify import TermId
from onnxmi.operators.context import RuleContext, Terms


def broadcast(ctx: RuleContext, operand: Terms | None, result: Terms | None) -> None:
    """Tie an operand's axes to the result's, aligned at the right; axes of size one that are stretched stay free."""
    if operand is None or result is None:
        return
    if len(operand) > len(result):
        ctx.freeze([*operand, *result], "broadcasts in a way that is not understood")
        return
    for term, out in zip(reversed(operand), reversed(result), strict=False):
        if ctx.size(term) == ctx.size(out):
            ctx.unify(term, out)
        elif ctx.size(term) != 1:
            ctx.freeze([term, out], "broadcasts in a way that is not understood")


@dataclass(frozen=True)
class SignatureRule:
    """A rule that is a signature.

    Attributes
    ----------
    signature : str
        See `onnxmi.axes.signature`.
    contracts : tuple of str
        Letters that the operator sums over.
    normalises : tuple of str
        Letters that a normalization runs over.
    freezes : mapping of letter to str
        Letters that cannot be cut (a star's letter stands for all its axes), with what the operator does to them.
    sizes : mapping of letter to attribute
        Attributes that state the size of a letter; needed where a letter stands inside parentheses.
    """

    signature: str
    contracts: tuple[str, ...] = ()
    normalises: tuple[str, ...] = ()
    freezes: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, ctx: RuleContext) -> None:
        """Tie the node's axes as the signature says."""
        binding = _Binding(ctx, self)
        parsed = parse(self.signature)
        operands = [*zip(parsed.inputs, _pad(ctx.ins, len(parsed.inputs)), strict=False)]
        operands += [*zip(parsed.outputs, _pad(ctx.outs, len(parsed.outputs)), strict=False)]
        for pattern, terms in operands:
            binding.bind(pattern, terms)
        extra = [*ctx.ins[len(parsed.inputs) :], *ctx.outs[len(parsed.outputs) :]]
        for terms in extra:
            ctx.freeze(terms or (), "has an operand that its rule does not know")
        binding.declare()


def _pad(operands: list[Terms | None], count: int) -> list[Terms | None]:
    return operands + [None] * (count - len(operands))


class _Binding:
    """Letters bound to terms while one node's signature is run."""

    def __init__(self, ctx: RuleContext, rule: SignatureRule) -> None:
        self.ctx, self.rule = ctx, rule
        self.letters: dict[str, TermId] = {}
        self.places: dict[str, list[tuple[int, int]]] = {}  # letter -> (operand, axis) among the inputs
        self.position = 0

    def bind(self, pattern: OperandPattern, terms: Terms | None) -> None:
        position, self.position = self.position, self.position + 1
        if terms is None:
            return
        if pattern.broadcasts:
            broadcast(self.ctx, terms, self.ctx.outs[0])
            return
        if pattern.single and all(self.ctx.size(term) == 1 for term in terms):
            return
        axes = pattern.expand(len(terms))
        if axes is None:
            self.ctx.freeze(terms, "has a rank that its rule does not know")
            return
        for number, (axis, term) in enumerate(zip(axes, terms, strict=True)):
            self._bind_axis(axis.letters, term, broadcasts=axis.kind == "ellipsis")
            if position < len(self.ctx.ins):
                for letter in axis.letters:
                    self.places.setdefault(letter, []).append((position, number))

    def _bind_axis(self, letters: tuple[str, ...], term: TermId, *, broadcasts: bool) -> None:
        if letters == ("_",):
            return
        if len(letters) == 1:
            self._bind_letter(letters[0], term, broadcasts=broadcasts)
            return
        sizes = self._factor_sizes(letters, self.ctx.size(term))
        if sizes is None:
            self.ctx.freeze([term], "has sizes that its rule does not know")
            return
        for letter, size in zip(letters, sizes, strict=True):
            if letter not in self.letters:
                self.letters[letter] = self.ctx.solver.dim(size)
        self.ctx.unify(term, self.ctx.solver.product([self.letters[letter] for letter in letters]))

    def _bind_letter(self, letter: str, term: TermId, *, broadcasts: bool) -> None:
        known = self.letters.get(letter)
        if known is None or (broadcasts and self.ctx.size(known) == 1):
            self.letters[letter] = term
        elif not (broadcasts and self.ctx.size(term) == 1):
            self.ctx.unify(known, term)

    def _factor_sizes(self, letters: tuple[str, ...], size: int) -> list[int] | None:
        """Sizes of the factors of an axis: all but one are known from an attribute or an earlier operand."""
        sizes = [self._known_size(letter) for letter in letters]
        unknown = [place for place, known in enumerate(sizes) if known is None]
        product = 1
        for known in sizes:
            product *= known or 1
        if len(unknown) > 1 or size % product:
            return None
        return [size // product if known is None else known for known in sizes]

    def _known_size(self, letter: str) -> int | None:
        if letter in self.letters:
            return self.ctx.size(self.letters[letter])
        attribute = self.rule.sizes.get(letter)
        return None if attribute is None else int(self.ctx.attribute(attribute, 1))

    def declare(self) -> None:
        ctx, rule = self.ctx, self.rule
        for letter in rule.contracts:
            places = self.places.get(letter, [])
            moving = [place for place in places if not ctx.is_constant(place[0])]
            for operand, axis in moving or places[:1]:  # of a product of stored tensors, either consumes the other
                ctx.contract(operand, axis, self.letters[letter])
        if rule.normalises:
            axes = [axis for letter in rule.normalises for axis in self._axes(letter)]
            ctx.normalize_over(axes, [term for letter in rule.normalises for term in self._bound(letter)])
        for letter, what in rule.freezes.items():
            ctx.freeze(self._bound(letter), what)
        for letter, attribute in rule.sizes.items():
            if letter in self.letters:
                ctx.declare_size(attribute, self.letters[letter])

    def _axes(self, letter: str) -> list[int]:
        """Axes of the first input that a letter stands on; those of a star's letter."""
        return [
            axis
            for name, places in self.places.items()
            if name.rstrip("0123456789") == letter
            for operand, axis in places
            if operand == 0
        ]

    def _bound(self, letter: str) -> list[TermId]:
        """Terms of a letter; a star's letter has one for each of its axes."""
        return [term for name, term in self.letters.items() if name.rstrip("0123456789") == letter]
