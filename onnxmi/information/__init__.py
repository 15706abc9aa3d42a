"""Information about what is kept above, from streamed moments: numpy only, float64, nats.

Measure with `MomentAccumulator`, score with `joint` (or the baselines of `scores`), repair with `fit`.
"""

from onnxmi.information.arrays import NotFiniteError
from onnxmi.information.class_means import ClassMeans
from onnxmi.information.folds import fit_in_folds
from onnxmi.information.gauss_newton import Sensitivity
from onnxmi.information.greedy import Selection, View, joint
from onnxmi.information.histogram import JointHistogram, quantile_edges
from onnxmi.information.moments import MomentAccumulator, Moments
from onnxmi.information.mutual_information import (
    discrete,
    gaussian,
    gaussian_mixture_labels,
    label_weights,
    linear_targets,
    pairwise_gaussian,
)
from onnxmi.information.residual import Missing
from onnxmi.information.ridge import RIDGES, Repair, fit, fit_missing, output_error, regress, regress_cross
from onnxmi.information.swaps import backward_swaps
from onnxmi.information.unit_scores import magnitude, pairwise, top, variance, wanda

__all__ = [
    "RIDGES",
    "ClassMeans",
    "JointHistogram",
    "Missing",
    "MomentAccumulator",
    "Moments",
    "NotFiniteError",
    "Repair",
    "Selection",
    "Sensitivity",
    "View",
    "backward_swaps",
    "discrete",
    "fit",
    "fit_in_folds",
    "fit_missing",
    "gaussian",
    "gaussian_mixture_labels",
    "joint",
    "label_weights",
    "linear_targets",
    "magnitude",
    "output_error",
    "pairwise",
    "pairwise_gaussian",
    "quantile_edges",
    "regress",
    "regress_cross",
    "top",
    "variance",
    "wanda",
]
