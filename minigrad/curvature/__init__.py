"""Curvature matrices as operators: J' M J for the J of an objective and a metric M."""

from .fisher import fisher, pullback

__all__ = ["fisher", "pullback"]
