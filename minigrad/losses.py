"""Losses as negative log-likelihoods of a network's output distribution p(t | r), with their geometry.

Each loss knows its output activation y = sigma(r), so values are computed from r (logits) and never from log y:

    Gaussian      y = r            t ~ N(y, beta^2 I)        ||r - t||^2 / (2 beta^2)
    Bernoulli     y = sigmoid(r)   t_k ~ Bernoulli(y_k)      sum_k softplus(r_k) - t_k r_k
    Categorical   y = softmax(r)   t ~ Categorical(y)        logsumexp(r) - r_t

Shapes: r (N, O); t (N, O), or labels (N,) for Categorical. Mean over samples, sum over outputs. Every function takes
`n`, the number of samples to divide by, len(r) by default: a slice of a batch is given the whole batch's n, and
then values, gradients and metrics of slices add up to the batch's.

metric(r) is the Fisher information of p(t | r) in r, E_t[s s'] with s = d log p / dr, which for these three pairs is
also the Hessian of the loss in r (Pascanu & Bengio, section 7). metric_y(y) is the same information in y (their
eq. 9-11), and hessian_y(y, t) the Hessian of the loss in y, which is another matrix. kl(r, s) is the divergence
KL(p(t | r) || p(t | s)), mean over samples, whose second-order term the metric is. A network that ends in a sigmoid of
its own, under Gaussian, is no matched pair: there r is that sigmoid's output.
"""

import sys
from dataclasses import dataclass

from .autodiff import ops, untraced
from .autodiff.tape import _shape
from .backend import item, normal, uniform, xp
from .linalg import LinearOperator


class SampleBlocks(LinearOperator):
    """A matrix with one block a sample, on flat vectors of N x O: `product` and `transposed` map (N, O) to (N, O)."""

    def __init__(self, shape, dtype, product, transposed=None, *, name):
        size = shape[0] * shape[1]
        super().__init__((size, size), dtype, psd=transposed is None, name=name)
        self.sample_shape, self._product = shape, product
        self._transposed = transposed or product

    def _matvec(self, v):
        return self._product(v.reshape(self.sample_shape)).reshape(-1)

    def _rmatvec(self, u):
        return self._transposed(u.reshape(self.sample_shape)).reshape(-1)


@dataclass(frozen=True)
class Gaussian:
    """Squared error ||r - t||^2 / (2 beta^2): targets around y = r with standard deviation beta."""

    beta: float = 1.0

    def __post_init__(self):
        if not self.beta > 0:
            raise ValueError(f"Gaussian: beta must be positive, got {self.beta}")
        object.__setattr__(self, "beta", float(self.beta))  # beside a NumPy float64, float32 would not stay float32

    def value(self, r, t, n=None):
        """The mean loss. Differentiable in r."""
        e = r - t
        return ops.sum(e * e) * (0.5 / (self.beta**2 * _count(r, n)))

    def gradient(self, r, t, n=None):
        """d value / dr, (N, O)."""
        return (r - t) * (1.0 / (self.beta**2 * _count(r, n)))

    def value_and_gradient(self, r, t, n=None):
        """Both."""
        return self.value(r, t, n), self.gradient(r, t, n)

    def predict(self, r):
        """y = r."""
        return r

    def metric(self, r, n=None):
        """I / (beta^2 n), N O square, psd."""
        c = 1.0 / (self.beta**2 * _count(r, n))
        return SampleBlocks(r.shape, r.dtype, lambda v: v * c, name="M")

    def metric_y(self, y, n=None):
        """I / (beta^2 n). The paper's eq. 9 prints beta^2 for what must be 1 / beta^2."""
        return self.metric(y, n)

    def hessian_y(self, y, t, n=None):
        """I / (beta^2 n)."""
        return self.metric(y, n)

    def kl(self, r, s, n=None):
        """The mean of ||r - s||^2 / (2 beta^2). Differentiable in both."""
        return self.value(r, s, n)

    def factor(self, r, n=None):
        """B with B B' = metric(r)."""
        c = 1.0 / (self.beta * _count(r, n) ** 0.5)
        return SampleBlocks(r.shape, r.dtype, lambda v: v * c, lambda u: u * c, name="B")

    def sample(self, r, rng):
        """Targets (N, O) drawn from the model."""
        return r + self.beta * normal(rng, r.shape, r.dtype)

    def check(self, r_shape, t):
        """Raise unless t has r's shape and is finite."""
        largest = sys.float_info.max
        _check_targets("Gaussian", r_shape, t, -largest, largest, "finite")


@dataclass(frozen=True)
class Bernoulli:
    """Cross-entropy of independent binary outputs, y = sigmoid(r); targets may be probabilities in [0, 1]."""

    def value(self, r, t, n=None):
        """The mean of sum_k softplus(r_k) - t_k r_k. Differentiable in r."""
        return ops.sum(ops.softplus(r) - t * r) * (1.0 / _count(r, n))

    def gradient(self, r, t, n=None):
        """(y - t) / n, (N, O)."""
        return (ops.sigmoid(r) - t) * (1.0 / _count(r, n))

    def value_and_gradient(self, r, t, n=None):
        """Both."""
        return self.value(r, t, n), self.gradient(r, t, n)

    def predict(self, r):
        """y = sigmoid(r)."""
        return ops.sigmoid(r)

    def metric(self, r, n=None):
        """diag(y (1 - y)) / n, psd."""
        y = ops.sigmoid(r)
        c = y * (1.0 - y) * (1.0 / _count(r, n))
        return SampleBlocks(r.shape, r.dtype, lambda v: c * v, name="M")

    def metric_y(self, y, n=None):
        """diag(1 / (y (1 - y))) / n (Pascanu & Bengio eq. 10); infinite where y is 0 or 1, so solve in r."""
        c = 1.0 / (y * (1.0 - y) * _count(y, n))
        return SampleBlocks(y.shape, y.dtype, lambda v: c * v, name="M_y")

    def hessian_y(self, y, t, n=None):
        """diag(t / y^2 + (1 - t) / (1 - y)^2) / n, psd; not finite where y is 0 or 1."""
        c = (t / y**2 + (1.0 - t) / (1.0 - y) ** 2) * (1.0 / _count(y, n))
        return SampleBlocks(y.shape, y.dtype, lambda v: c * v, name="H_y")

    def kl(self, r, s, n=None):
        """The mean of sum_k y_k (r_k - s_k) - softplus(r_k) + softplus(s_k). Differentiable in both."""
        y = ops.sigmoid(r)
        return ops.sum(y * (r - s) - ops.softplus(r) + ops.softplus(s)) * (1.0 / _count(r, n))

    def factor(self, r, n=None):
        """B = diag(sqrt(y (1 - y) / n)), with B B' = metric(r)."""
        y = ops.sigmoid(r)
        c = ops.sqrt(y * (1.0 - y) * (1.0 / _count(r, n)))
        return SampleBlocks(r.shape, r.dtype, lambda v: c * v, lambda u: c * u, name="B")

    def sample(self, r, rng):
        """Targets (N, O) of zeros and ones drawn from the model."""
        return (uniform(rng, r.shape, r.dtype) < ops.sigmoid(r)).astype(r.dtype)

    def check(self, r_shape, t):
        """Raise unless t has r's shape and lies in [0, 1]."""
        _check_targets("Bernoulli", r_shape, t, 0, 1, "in [0, 1]")


@dataclass(frozen=True)
class Categorical:
    """Cross-entropy of one class out of O, y = softmax(r); targets are integer labels (N,)."""

    def value(self, r, t, n=None):
        """The mean of -log y_t = logsumexp(r) - r_t. Differentiable in r."""
        return self._value(ops.log_softmax(r), t, _count(r, n))

    def gradient(self, r, t, n=None):
        """(softmax(r) - one-hot(t)) / n, (N, O)."""
        return self._gradient(ops.softmax(r), t, _count(r, n))

    def value_and_gradient(self, r, t, n=None):
        """Both, from one log-softmax."""
        log_y = ops.log_softmax(r)
        return self._value(log_y, t, _count(r, n)), self._gradient(ops.exp(log_y), t, _count(r, n))

    def _value(self, log_y, t, n):
        return ops.sum(ops.take_along_axis(log_y, t.reshape(-1, 1), 1)) * (-1.0 / n)

    def _gradient(self, y, t, n):
        return (y - _one_hot(t, y)) * (1.0 / n)

    def predict(self, r):
        """y = softmax(r)."""
        return ops.softmax(r)

    def metric(self, r, n=None):
        """(diag(y) - y y') / n for each sample (Pascanu & Bengio eq. 21), psd; singular along (1, ..., 1)."""
        y = ops.softmax(r)
        c = y * (1.0 / _count(r, n))
        return SampleBlocks(r.shape, r.dtype, lambda v: c * (v - ops.sum(y * v, axis=1, keepdims=True)), name="M")

    def metric_y(self, y, n=None):
        """diag(1 / y) / n (eq. 11), for tangents of y, which sum to 0; infinite where y is 0, so solve in r."""
        c = 1.0 / (y * _count(y, n))
        return SampleBlocks(y.shape, y.dtype, lambda v: c * v, name="M_y")

    def hessian_y(self, y, t, n=None):
        """diag(one-hot(t) / y^2) / n, psd; infinite where the label's y is 0."""
        c = _one_hot(t, y) / y**2 * (1.0 / _count(y, n))
        return SampleBlocks(y.shape, y.dtype, lambda v: c * v, name="H_y")

    def kl(self, r, s, n=None):
        """The mean of sum_k y_k (log p_k - log q_k). Differentiable in both."""
        return ops.sum(ops.softmax(r) * (ops.log_softmax(r) - ops.log_softmax(s))) * (1.0 / _count(r, n))

    def factor(self, r, n=None):
        """B = (diag(s) - y s') / sqrt(n) for each sample, with s = sqrt(y); B B' = metric(r)."""
        y = ops.softmax(r)
        s = ops.exp(0.5 * ops.log_softmax(r))
        c = 1.0 / _count(r, n) ** 0.5
        return SampleBlocks(
            r.shape,
            r.dtype,
            lambda v: c * (s * v - y * ops.sum(s * v, axis=1, keepdims=True)),
            lambda u: c * s * (u - ops.sum(y * u, axis=1, keepdims=True)),
            name="B",
        )

    def sample(self, r, rng):
        """Labels (N,) drawn from the model, by inverting the cumulative distribution."""
        below = xp.cumsum(ops.softmax(r), axis=1) <= uniform(rng, (r.shape[0], 1), r.dtype)
        return xp.minimum(below.sum(axis=1), r.shape[1] - 1)  # rounding may leave the last sum just under 1

    def check(self, r_shape, t):
        """Raise unless t holds integer labels (N,) in 0 .. O-1."""
        if _shape(t) != r_shape[:1]:
            raise ValueError(f"Categorical: labels must have shape {r_shape[:1]}, got {_shape(t)}")
        if t.dtype.kind not in "iu":
            raise TypeError(f"Categorical: labels must be integers, got {t.dtype}")
        low, high = _extremes(t)
        if low < 0 or high >= r_shape[1]:
            raise ValueError(
                f"Categorical: labels must lie in 0..{r_shape[1] - 1} for {r_shape[1]} outputs, got {low:g}..{high:g}"
            )


def _count(r, n):
    return r.shape[0] if n is None else n


def _one_hot(t, y):
    return (t.reshape(-1, 1) == xp.arange(y.shape[1])).astype(untraced(y).dtype)


def _extremes(t):
    return item(t.min()), item(t.max())


def _check_targets(loss, r_shape, t, low, high, what):
    if _shape(t) != r_shape:
        raise ValueError(f"{loss}: targets must have the outputs' shape {r_shape}, got {_shape(t)}")
    if t.dtype.kind != "f":
        raise TypeError(f"{loss}: targets must be floating-point numbers, got {t.dtype}")
    least, most = _extremes(t)
    if not (low <= least and most <= high):  # false for NaN too
        raise ValueError(f"{loss}: targets must be {what}, got values in {least:g}..{most:g}")
