"""Axes as algebra: dimension terms, their unification, the language of signatures. Knows no operator."""
