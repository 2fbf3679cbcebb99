"""Initial weights of affine layers. Each is called as init(rng, n_in, n_out, dtype) and returns W (n_in + 1, n_out)
with a zero bias row.

A layer's pre-activations have variance n_in Var(w) E[h^2], its backward signal n_out Var(w) times the incoming one:
the schemes keep one of them, or a compromise. alpha scales the variance and is a hyper-parameter (George, 2.4.2).
"""

from dataclasses import dataclass

from ..backend import normal, uniform, xp


@dataclass(frozen=True)
class Glorot:
    """Uniform with variance alpha / (n_in + n_out) (Glorot & Bengio 2010, eq. 16, has alpha = 2)."""

    alpha: float = 2.0

    def __call__(self, rng, n_in, n_out, dtype):
        return _uniform(rng, n_in, n_out, self.alpha / (n_in + n_out), dtype)


@dataclass(frozen=True)
class FanIn:
    """Uniform with variance alpha / n_in: keeps the forward signal (LeCun et al. 1998 has alpha = 1)."""

    alpha: float = 1.0

    def __call__(self, rng, n_in, n_out, dtype):
        return _uniform(rng, n_in, n_out, self.alpha / n_in, dtype)


@dataclass(frozen=True)
class He:
    """Normal with variance alpha / n_in; alpha = 2 makes up for what relu discards (He et al. 2015, eq. 10)."""

    alpha: float = 2.0

    def __call__(self, rng, n_in, n_out, dtype):
        W = xp.zeros((n_in + 1, n_out), dtype)
        W[:-1] = normal(rng, (n_in, n_out), dtype) * (self.alpha / n_in) ** 0.5
        return W


@dataclass(frozen=True)
class Sparse:
    """Each unit has `connections` incoming weights from N(0, alpha), the others are 0 (Martens 2010, section 5)."""

    connections: int = 15
    alpha: float = 1.0

    def __call__(self, rng, n_in, n_out, dtype):
        count = min(self.connections, n_in)
        rank = xp.argsort(xp.argsort(uniform(rng, (n_in, n_out), dtype), axis=0), axis=0)
        W = xp.zeros((n_in + 1, n_out), dtype)
        W[:-1] = xp.where(rank < count, normal(rng, (n_in, n_out), dtype) * self.alpha**0.5, 0)
        return W


def _uniform(rng, n_in, n_out, variance, dtype):
    limit = (3.0 * variance) ** 0.5  # a uniform on [-limit, limit] has variance limit^2 / 3
    W = xp.zeros((n_in + 1, n_out), dtype)
    W[:-1] = (2.0 * uniform(rng, (n_in, n_out), dtype) - 1.0) * limit
    return W
