"""Curvature matrices as operators: J' M J for the J of an objective and a metric M, and the Hessian."""

from .fisher import fisher, pullback
from .gauss_newton import gauss_newton, through_y
from .hessian import hessian
from .layers import Layer, affine_layers
from .samples import SampleGradients, SampleMetric, gradient_covariance, per_sample_gradients

__all__ = [
    "Layer",
    "SampleGradients",
    "SampleMetric",
    "affine_layers",
    "fisher",
    "gauss_newton",
    "gradient_covariance",
    "hessian",
    "per_sample_gradients",
    "pullback",
    "through_y",
]
