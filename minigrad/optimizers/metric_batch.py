"""On whose samples a curvature matrix is measured: an optimizer's `metric_batch` (or `curvature_batch`).

None                 the gradient's own batch (Hessian-free, and Pascanu & Bengio's "same batch")
a number             so many other samples of the training set, by draw ("different batch")
a function of rng    inputs without targets, from a source of its own ("unlabeled"), such as Unlabeled(x, 2500);
                     beside the gradient's own batch: Unlabeled(x, 480, added=True)
"""

import numbers
import zlib
from dataclasses import dataclass

from ..backend import asarray, is_array, to_host, xp
from .checks import check_counts


@dataclass(frozen=True, eq=False, repr=False)
class Unlabeled:
    """`size` different rows of x (M, ...), drawn anew at every call; unlabeled(rng) returns them, on the backend.

    added: they join the inputs of the gradient's batch (Pascanu & Bengio, section 8.7), else they stand in their place
    (8.5). x: inputs alone, of the backend or on the host. The optimizer's rng draws, so a resumed run sees the same
    samples.
    Raises TypeError or ValueError for an x that is no floating-point array of samples, or a size out of 1..M.
    """

    x: object
    size: int
    added: bool = False

    def __post_init__(self):
        check_counts("Unlabeled", size=self.size)
        x = self.x
        if not hasattr(x, "dtype") or x.dtype.kind != "f":
            raise TypeError(f"Unlabeled: x must be an array of floating-point numbers, got {_kind(x)}")
        if x.ndim < 1 or self.size > x.shape[0]:
            raise ValueError(f"Unlabeled: size must be 1..M for x (M, ...), got {self.size} and x of shape {x.shape}")

    def __call__(self, rng):
        """The rows; rng: a numpy Generator."""
        index = rng.choice(self.x.shape[0], self.size, replace=False)
        return asarray(self.x[asarray(index) if is_array(self.x) else index])

    def __repr__(self):
        """With a checksum: a checkpoint knows its run by what is printed here."""
        checksum = zlib.crc32(to_host(self.x.reshape(-1)).tobytes())
        added = ", added=True" if self.added else ""
        return f"Unlabeled(x={self.x.shape} {self.x.dtype} {checksum:08x}, size={self.size}{added})"


def check_batch(owner, **batches):
    """Raise ValueError unless each is None, a whole number of at least 1, or a function."""
    for name, size in batches.items():
        if size is not None and not callable(size):
            check_counts(owner, **{name: size})


def curvature_batch(source, batch, draw, rng, what="metric batch"):
    """(x, t) to measure curvature on, by a source as above; t is None where there are no targets.

    Raises ValueError unless x holds samples of the gradient's shape.
    """
    if source is None:
        return batch
    x, t = draw(source) if isinstance(source, numbers.Integral) else (source(rng), None)
    if x.shape[1:] != batch[0].shape[1:]:
        expected, found = batch[0].shape[1:], x.shape[1:]
        raise ValueError(f"{what}: samples must have the gradient batch's shape {expected}, got {found}")
    if isinstance(source, Unlabeled) and source.added:
        x = xp.concatenate([batch[0], x])
    return x, t


def _kind(x):
    return f"{x.dtype}" if hasattr(x, "dtype") else type(x).__name__
