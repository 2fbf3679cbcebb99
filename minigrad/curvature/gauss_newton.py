"""The generalized Gauss-Newton matrix G = J' H_L J: the Hessian, had the net been linear (Schraudolph 2002).

By the chain rule the Hessian of loss(z(theta)) is J' H_L J plus a remainder, the sum over outputs k of dL/dz_k times
the Hessian of z_k. How much is called remainder depends on where the composition is cut:

    at r    remainder sum_k (dL/dr_k) d2 r_k/dtheta2     zero where r is linear in theta, or y = t
    at y    remainder sum_k (dL/dy_k) d2 y_k/dtheta2     zero where y is linear in theta, or y = t; but see below

Cut at r, under a matched pair of output activation and loss, H_L does not depend on the targets and is the Fisher
metric: G is the exact Fisher information (Pascanu & Bengio, section 7 and appendix). Cut at y it does depend on them;
for Categorical, whose loss is -log y_t, it is the empirical Fisher matrix, and dL/dy_t = -1 / y_t is never zero.
"""

from ..autodiff import linearize
from ..backend import check_name
from ..linalg import identity
from .fisher import pullback

CUTS = ("r", "y")


def gauss_newton(objective, theta, batch, at="r"):
    """G at theta as a psd operator (n, n); forward pass once, then products only.

    at: "r" cuts before the output activation, "y" behind it. Weight decay adds weight_decay I, its own Hessian.
    Cut at y, Bernoulli and Categorical divide by y, which must not have rounded to 0 or 1.
    Raises ValueError for another cut, and what `objective.linearize` and the loss's `check` raise.
    """
    check_name("cut", at, CUTS)
    x, t = objective.checked(theta, batch)
    r, J = objective.linearize(theta, x)
    n, loss = r.shape[0], objective.loss
    loss.check(r.shape, t)
    if at == "r":
        G = pullback(J, lambda rows: loss.metric(r[rows], n))
    else:
        G = pullback(J, lambda rows: through_y(loss, r[rows], lambda y: loss.hessian_y(y, t[rows], n)))
    return G + objective.weight_decay * identity(theta.shape[0]) if objective.weight_decay else G


def through_y(loss, r, metric):
    """A metric of y as one of r: S' metric(y) S, with S = dy/dr the Jacobian of the output activation at r (N, O)."""
    y, S = linearize(loss.predict, r)
    return S.T @ metric(y) @ S
