"""Centred gradient descent: gradient descent whose weights see their layer's input less its mean (George, 3.4.1).

For a layer a = h W + b with delta = dl/da and mu = E[h], both over the batch,

    weights   E[(h - mu)' delta] = G - mu' g        G = E[h' delta], g = E[delta]: the gradient's rows of weights, and
    bias      E[delta] = g                          of the bias; so the batch is swept once, as for SGD

This is P (G; g) with P = [[I, -mu'], [0, 1]] in every layer: no metric, because P is not symmetric. Against the
gradient, with |.| the Frobenius norm,

    <(G; g), P (G; g)> = |G|^2 - <G, mu' g> + |g|^2 >= (1 - |mu|^2 / 4) |g|^2

with equality at G = mu' g / 2. So for |mu| <= 2 no small step raises the loss, and for |mu| > 2 there are gradients at
which each small step does. Still P is invertible (its determinant is 1): only where the gradient is zero does it rest.
And a linear layer under squared error, whose Hessian is [[C + mu' mu, mu'], [mu, 1]] kron I, converges whatever mu is:
P makes that [[C, 0], [mu, 1]] kron I, with the covariance's eigenvalues and 1.

Where T rows of a sample share the matrix, G and g are sums over them, and mu is the mean over samples and rows.

Alg. 2 prints both updates with a plus sign, which would be ascent. Weight decay's gradient is part of the gradient, so
it is multiplied by P too: points of rest are those of the penalized objective.
"""

from dataclasses import dataclass

from ..backend import xp
from ..curvature import input_means
from .phases import phase
from .sgd import SGD


@dataclass(frozen=True)
class CentredGD(SGD):
    """SGD along the centred gradient; lr, momentum, nesterov and clip are SGD's (clip: of the centred gradient).

    Parameters that are no affine layer's matrix follow their gradient; NotImplementedError if there is no such layer.
    """

    def gradient(self, theta, state, objective, batch, draw, rng):
        """loss, P g, state (George, algorithm 2)."""
        with phase("gradient"):
            loss, g, _, J = objective.value_grad_and_linearize(theta, batch)
        with phase("statistics"):
            means = input_means(J)
        if not means:
            raise NotImplementedError(f"CentredGD: the net has no affine layer, only {list(objective.layout.names)}")
        centre(g, objective.layout, means)
        return loss, g, state


def centre(g, layout, means):
    """Subtract mu' g_b from each layer's rows of weights in the gradient g, in place; means: {layer's name: mu}."""
    for name, mean in means.items():
        G = g[layout.slices[name]].reshape(layout.shapes[name])
        G[:-1] -= xp.outer(mean, G[-1])
