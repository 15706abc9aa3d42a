"""Probabilities before a last Sigmoid or Softmax: divergences, entropies, and the root of their second-order form."""

from __future__ import annotations

import numpy as np

from onnxmi.outputs.view import Link
from onnxmi.typing import Floats, Ints


def probabilities(link: Link, logits: Floats) -> Floats:
    """Return the probabilities of (rows, classes) logits."""
    if link == "softmax":
        return np.asarray(np.exp(logits - _log_sum(logits)[:, None]), dtype=np.float64)
    return _sigmoid(logits)


def entropies(link: Link, chances: Floats) -> Floats:
    """Return nats of each class's answer, (rows, classes); with softmax the terms of one sum."""
    # p log p goes to 0 with p; the floor keeps the logarithm finite there.
    own = -chances * np.log(np.maximum(chances, 1e-300))
    if link == "softmax":
        return own
    return np.asarray(own - (1 - chances) * np.log(np.maximum(1 - chances, 1e-300)), dtype=np.float64)


def divergences(link: Link, wanted: Floats, made: Floats) -> Floats:
    """Return KL(wanted || made) of the answers that two models' logits give, in nats.

    Returns
    -------
    (rows, classes) float64
        Never below 0. With softmax a row's divergence stands in its first entry.
    """
    if link == "softmax":
        found = np.zeros(wanted.shape)
        found[:, 0] = _softmax_divergence(wanted, made)
        return found
    # One logarithm less the other would cancel where the models are nearly equal: the logits' difference goes first.
    terms = _sigmoid(wanted) * (wanted - made) + np.logaddexp(0.0, made) - np.logaddexp(0.0, wanted)
    # A divergence is not negative; the difference of nearly equal terms may be.
    return np.maximum(terms, 0.0)


def class_divergences(wanted: Floats, made: Floats, classes: Ints) -> Floats:
    """Return KL(wanted || made) of the answers "this class or another" that softmax logits give, in nats.

    Parameters
    ----------
    wanted, made : (rows, columns) float64
        Logits.
    classes : (shown,) int64
        Which columns.

    Returns
    -------
    (rows, shown) float64
        Never below 0. One class may be lost while the divergence of the whole answer hardly moves.
    """
    first, second = ((logits - _log_sum(logits)[:, None])[:, classes] for logits in (wanted, made))
    chance = np.exp(first)
    # The logarithms' difference goes first here, too, against cancellation.
    terms = chance * (first - second) + (1 - chance) * (_log_other(first) - _log_other(second))
    return np.asarray(np.maximum(terms, 0.0), dtype=np.float64)


def fisher_root(link: Link, logits: Floats, signs: Floats) -> Floats:
    """Return R' signs, where R'R is the Fisher matrix of each row's answer: KL is half of its quadratic form.

    With random signs the second moment of the result is the Fisher matrix itself.
    """
    chances = probabilities(link, logits)
    if link == "sigmoid":
        return np.asarray(signs * np.sqrt(chances * (1 - chances)), dtype=np.float64)
    # diag(p) - p p' = R'R with R = (1 - sqrt(p) sqrt(p)') diag(sqrt(p)).
    rooted = np.sqrt(chances)
    return np.asarray(rooted * signs - chances * (rooted * signs).sum(1, keepdims=True), dtype=np.float64)


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0.0, -logits)), dtype=np.float64)


def _log_sum(logits: Floats) -> Floats:
    # Without the largest logit taken off, exp overflows from 710 on.
    top = logits.max(1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(1)), dtype=np.float64)


def _log_other(logarithms: Floats) -> Floats:
    """Return log(1 - p) of log p; p = 1 is taken for the largest number below."""
    return np.asarray(np.log(-np.expm1(np.minimum(logarithms, -1e-15))), dtype=np.float64)


def _softmax_divergence(wanted: Floats, made: Floats) -> Floats:
    chances = np.exp(wanted - _log_sum(wanted)[:, None])
    # KL = E[log p - log q], with the normalizing constants apart: they are the same for all classes.
    expected = (chances * (wanted - made)).sum(1)
    return np.asarray(np.maximum(expected - _log_sum(wanted) + _log_sum(made), 0.0), dtype=np.float64)
