"""ACP, the amortized covariance preconditioner (George, sections 3.3.3 and 3.4.2, algorithm 3).

A layer's Gauss-Newton block is E[(h 1)'(h 1) kron J_a' D J_a] (eq. 3.3.2). With alpha I in place of J_a' D J_a it is
A kron alpha I: the input's moments A = E[(h 1)'(h 1)] alone, no interplay of outputs. Two rules follow from it, for a
layer's gradient G = E[(h 1)' delta]:

    "damped"    (A kron alpha I + lam I)^-1 vec(G), what the system of section 3.4.2 demands
    "printed"   algorithm 3: weights (C + lam / alpha I)^-1 E[(h - mu)' delta], bias E[delta], which is damped centred
                gradient descent (`centred.py`) times the inverse covariance

With mu = E[h], C = E[h'h] - mu' mu, e = lam / alpha and all moments of one batch, the first is, block by block,

    weights   dW = K E[(h - mu / (1 + e))' delta] / alpha         K = (E[h'h] + e I - mu' mu / (1 + e))^-1
    bias      db = (E[delta] / alpha - mu dW) / (1 + e)

so algorithm 3 lacks (1) the term -mu dW of eq. 3.3.4 and (2) the factor 1 / alpha, and (3) it damps another matrix: the
system has K^-1 = C + e I + e / (1 + e) mu' mu where C + e I stands, and centres with mu / (1 + e).

Where T rows of a sample share the matrix, A, mu and C are means over rows too and delta's moments sums over them, as in
K-FAC's "expand": alpha stands for E[sum_t delta_t' delta_t], and G is E[sum_t (h_t 1)' delta_t].

A or C is measured once in `interval` updates. What is kept of it is the inverse where alpha is a number, and the
eigenvectors where alpha changes from update to update.
"""

import itertools
from dataclasses import dataclass, field

from ..backend import check_name, item, parallel, xp
from ..curvature import input_means, input_moments
from ..curvature.layers import layers_by_slice
from ..linalg import Eigenbasis, Kronecker, Matrix, identity
from ..linalg.kronecker import eigh, homogeneous, shifted, spd_inverse
from .centred import centre
from .checks import check_counts, check_nonnegative, check_positive
from .phases import phase
from .sgd import SGD


@dataclass(frozen=True)
class SquaredGradient:
    """alpha by George's heuristic: the largest squared dl/da, over the samples of the batch and the layer's outputs.

    Each layer has its own, anew at each update. It bounds every diagonal entry of S = E[delta' delta], but not S itself
    (that takes the largest squared norm, up to `out` times as much); and it grows with the square of the loss's unit.
    Of several rows a sample, the largest sum over them of squared deltas, for S is E[sum_t delta_t' delta_t].
    """

    def __call__(self, J, u):
        """[alpha of each layer], in theta's order, for cotangents u (N, O) of each sample's own loss."""
        parts = layers_by_slice(J, u, lambda layers: [_peak(layer) for layer in layers])
        return list(J.ranks.largest(xp.stack([xp.stack(peaks).max() for peaks in zip(*parts, strict=True)])))


def _peak(layer):
    """The largest squared delta; of several rows a sample, the largest sum of squares over them."""
    if layer.rows == 1:
        return xp.abs(layer.delta).max() ** 2
    return (layer.delta**2).sum(axis=1).max()


@dataclass(frozen=True)
class ACP(SGD):
    """SGD along the gradient preconditioned by each layer's input moments; momentum, nesterov and clip act on that.

    alpha: a positive number, the same for all layers, or SquaredGradient(). damping: lam >= 0. interval: updates from
    one measurement of A or C to the next. samples: they are measured on so many, by draw; None: on the gradient's
    batch. form: "damped" or "printed", see above; the mean that centres in "printed" is always the gradient's batch's.

    The defaults are careful, for alpha I is no bound of S, and a direction that no measured input has meets lam alone:
    with lr 1 and lam 1e-2 the losses of four nets for MNIST rose in 60 batches of 50, with these they fell.

    Without damping a singular A or C (a dead unit, fewer samples than inputs) raises ArithmeticError naming the layer,
    and so does alpha = 0. With it, alpha = 0 gives what the system gives: G / lam for "damped", and no change of the
    weights for "printed". NotImplementedError for nets that are not made of affine layers (`affine_layers`).
    """

    lr: object = 0.3
    alpha: object = field(default_factory=SquaredGradient)
    damping: float = 1.0
    interval: int = 20
    samples: int | None = 1000
    form: str = "damped"

    def __post_init__(self):
        super().__post_init__()
        if not self.varies:
            check_positive("ACP", alpha=self.alpha)
        check_nonnegative("ACP", damping=self.damping)
        check_counts("ACP", interval=self.interval)
        if self.samples is not None:
            check_counts("ACP", samples=self.samples)
        check_name("ACP form", self.form, ("damped", "printed"))

    def gradient(self, theta, state, objective, batch, draw, rng):
        """loss, the preconditioned gradient, and state with what is kept of each layer's A or C."""
        with phase("gradient"):
            loss, g, r, J = objective.value_grad_and_linearize(theta, batch)
        if state["update"] % self.interval == 0:
            state = state | self._measured(theta, objective, J, draw)
        with phase("statistics"):
            alphas = self._alphas(theta, objective, batch, r, J)
            if self.form == "printed":
                centre(g, objective.layout, input_means(J))
        for (name, where), alpha in zip(objective.layout.slices.items(), alphas):
            out = objective.layout.shapes[name][1]
            if self.form == "printed":
                where = slice(where.start, where.stop - out)  # the bias's row stays as it is
            g[where] = self._inverse(state, name, alpha, out).matvec(g[where])
            if self.form == "printed":
                g[where] *= alpha  # (C + lam / alpha I)^-1 = alpha (alpha C + lam I)^-1, for alpha = 0 too
        return loss, g, state

    def _inverse(self, state, name, alpha, out):
        """(alpha M + lam I)^-1 kron I for a layer's M = A ("damped") or C ("printed")."""
        if not self.varies:
            return Kronecker(state[f"P.{name}"], identity(out))
        d = 1.0 / (alpha * state[f"a.{name}"] + self.damping)
        return Eigenbasis(state[f"Q.{name}"], None, xp.broadcast_to(d[:, None], (d.shape[0], out)))

    def _measured(self, theta, objective, J, draw):
        """What is kept of each layer's M at theta: P = (alpha M + lam I)^-1, or eigenvectors Q and eigenvalues a."""
        with phase("statistics"):
            if self.samples is not None:
                _, J = objective.linearize(theta, draw(self.samples)[0])
            moments = input_moments(J)
        others = set(objective.layout.names) - {m.name for m in moments}
        if others:
            raise NotImplementedError(
                f"ACP: {min(others)!r} is not the matrix of an affine layer, as each parameter must be"
            )
        with phase("inversion"):
            return dict(itertools.chain(*parallel(self._decomposed, moments)))

    def _decomposed(self, m):
        M = homogeneous(m.second, m.mean) if self.form == "damped" else m.covariance
        what = f"ACP: {m.name!r}: {'E[(h 1)(h 1)]' if self.form == 'damped' else 'the covariance'} of its input"
        if not self.varies:
            return [(f"P.{m.name}", spd_inverse(shifted(self.alpha * M, self.damping), what).matrix)]
        a, Q = eigh(Matrix(M, psd=True))
        if self.damping == 0 and item(a.min()) <= item(a.max()) * xp.finfo(a.dtype).eps:
            raise ArithmeticError(f"{what} ({len(a)} x {len(a)}) is singular in {a.dtype}: add damping")
        return [(f"Q.{m.name}", Q), (f"a.{m.name}", a)]

    def _alphas(self, theta, objective, batch, r, J):
        """Each layer's, in theta's order."""
        if not self.varies:
            return itertools.repeat(self.alpha)
        _, t = objective.checked(theta, batch)
        alphas = self.alpha(J, objective.loss.gradient(r, t, 1))
        if self.damping == 0:
            for name, alpha in zip(objective.layout.names, alphas, strict=True):
                if item(alpha) == 0:
                    raise ArithmeticError(f"ACP: {name!r}: all gradients are zero, and so is alpha: add damping")
        return alphas

    @property
    def varies(self):
        """Does alpha change from update to update?"""
        return isinstance(self.alpha, SquaredGradient)

    def cost(self, state, batch):
        """A gradient; a third of one for alpha (a sweep that computes delta alone), and for a sample's forward pass."""
        passes = float(self.varies)
        if self.samples is not None and state["update"] % self.interval == 0:
            passes += self.samples / batch[0].shape[0]
        return 1 + passes / 3
