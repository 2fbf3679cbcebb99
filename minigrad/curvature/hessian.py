"""The Hessian of the objective: linearize the gradient (Pearlmutter 1994: H v = R{gradient}). Indefinite in general."""

from ..autodiff import linearize
from ..backend import parallel
from ..linalg import SliceSum, identity


def hessian(objective, theta, batch):
    """H at theta as a symmetric operator (n, n): the passes of a gradient once, then products only.

    Weight decay adds weight_decay I. Raises what `objective.value_and_grad` raises for a bad batch.
    """
    x, t = objective.checked(theta, batch)
    objective.value(theta, (x, t))  # raises for bad targets, and names what is not finite
    n = x.shape[0]

    def one_slice(rows):
        def gradient(theta):
            r, J = linearize(lambda theta: objective.net.apply(theta, x[rows]), theta)
            return J.lop(objective.loss.gradient(r, t[rows], n))

        H = linearize(gradient, theta)[1]
        H.symmetric, H.name = True, "H"
        return H

    parts = parallel(one_slice, objective.slices(theta, n))
    H = SliceSum(parts, ranks=objective.ranks)
    return H + objective.weight_decay * identity(theta.shape[0]) if objective.weight_decay else H
