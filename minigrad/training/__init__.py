"""Training: one loop for all methods, checkpoints that resume exactly, records of what was run where."""

from .fit import Diverged, fit, share_wrong
from .history import History

__all__ = ["fit", "History", "Diverged", "share_wrong"]
