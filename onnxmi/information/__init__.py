"""Information about what is kept above, from streamed moments: numpy only, float64, nats.

Measure with `MomentAccumulator`, score with `joint` (or the baselines of `unit_scores`), repair with `fit_missing`.
"""

from onnxmi.information.class_means import ClassMeans
from onnxmi.information.folds import fit_in_folds
from onnxmi.information.gauss_newton import Sensitivity
from onnxmi.information.greedy import Selection, View, joint
from onnxmi.information.histogram import JointHistogram, quantile_edges
from onnxmi.information.moments import MomentAccumulator, Moments, NotFiniteError
from onnxmi.information.mutual_information import discrete, pairwise_gaussian
from onnxmi.information.residual import Missing
from onnxmi.information.ridge import RIDGES, Repair, fit_missing, regress_cross, ridge_solver
from onnxmi.information.unit_scores import pairwise, top, variance, wanda

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
    "discrete",
    "fit_in_folds",
    "fit_missing",
    "joint",
    "pairwise",
    "pairwise_gaussian",
    "quantile_edges",
    "regress_cross",
    "ridge_solver",
    "top",
    "variance",
    "wanda",
]
