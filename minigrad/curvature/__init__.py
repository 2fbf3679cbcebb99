"""Curvature matrices as operators: J' M J for the J of an objective and a metric M, and the Hessian."""

from .blocks import Restricted, block_diagonal
from .factors import Factors, Moments, factors_of, input_means, input_moments, kronecker_factors, pixel_moments
from .fisher import factored_fisher, fisher, fisher_diagonal, pullback, scores
from .gauss_newton import gauss_newton, through_y
from .hessian import hessian
from .layers import Layer, affine_layers
from .preconditioner import martens_preconditioner
from .sample_space import DirectInfo, row_space_solve, sample_space_solve
from .samples import SampleGradients, SampleMetric, gradient_covariance, per_sample_gradients

__all__ = [
    "DirectInfo",
    "Factors",
    "Layer",
    "Moments",
    "Restricted",
    "SampleGradients",
    "SampleMetric",
    "affine_layers",
    "block_diagonal",
    "factored_fisher",
    "factors_of",
    "fisher",
    "fisher_diagonal",
    "gauss_newton",
    "gradient_covariance",
    "hessian",
    "input_means",
    "input_moments",
    "kronecker_factors",
    "martens_preconditioner",
    "per_sample_gradients",
    "pixel_moments",
    "pullback",
    "row_space_solve",
    "sample_space_solve",
    "scores",
    "through_y",
]
