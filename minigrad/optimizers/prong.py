"""PRONG, projected natural gradient descent (Desjardins et al. 2015, algorithm 1): SGD in whitened coordinates.

    every T updates:   theta = B Omega                            the parameters as everybody knows them (line 7)
                       mu, C of each layer's input, on N_s samples                            (line 8)
                       U, c from them, and with them a new B                                  (line 9)
                       Omega <- B^-1 theta, velocity likewise                                 (line 10)
    every update:      an SGD step on Omega                                                   (line 13)

B is block diagonal, see `nets.whitening`: the function does not change in lines 7-10, and a step without momentum is
theta -= lr B B' g, with B B' = E[(h 1)(h 1)']^-1, damped: natural gradient for a Fisher information whose blocks are
taken for E[(h 1)(h 1)'] kron I. A velocity is a displacement of theta, B v, so it changes its coordinates as theta
does, and where it points remains. On a net with BatchNorm the same is PRONG+ (section 3.2).

Where rows of a sample share a matrix, the moments are means over them too. In a convolution they are those of pixels,
not of patches (section 4.3): B B' takes a patch's pixels for uncorrelated. The signal's S is K-FAC's "expand".

The diagonal variant (section 3.2) rescales the whitened inputs h~ by D in each batch: U <- D U, V <- D^-1 V (theirs:
V D^-1). That is one more change of coordinates. In those of the last reparametrization it multiplies the gradient by
D^2 = 1 / var(h~), so that is all that happens here; with epsilon D^2 = 1 / (var(h~_k) + epsilon ||u_k||^2), for then
D^2 = 1 if the batch has the samples' moments.
"""

import numbers
from dataclasses import dataclass, field, replace

from ..backend import item, xp
from ..curvature import factors_of, pixel_moments, scores
from ..curvature.layers import inputs_by_slice
from ..linalg.vectors import dot
from ..nets.whitening import WhitenedNet, Whitening, from_whitened, to_whitened, whitening
from .checks import check_counts, check_nonnegative, check_numbers
from .phases import phase
from .sgd import SGD


@dataclass(frozen=True)
class PRONG(SGD):
    """SGD on Omega, with whitening coefficients measured anew every `interval` updates on `samples` samples.

    lr, momentum, nesterov, clip: as in SGD; gradients, and their norms in the log, are in Omega. interval: T; None
    measures once. samples: N_s, by draw. epsilon: added to the eigenvalues of C; 0 needs C to be regular. first: the
    update of the first measurement, before which this is SGD. diagonal: the variant D above. signal: None, or what is
    added to the eigenvalues of S = E[delta delta'] (at targets drawn from the model), to whiten the deltas too.

    It trains in coordinates of its own: `canonical(point, state)` is theta. Raises ValueError for nets without an
    affine layer, NotImplementedError for a signal through batch normalization, ArithmeticError as `whitening` does.
    """

    lr: object = 1e-2
    interval: int | None = field(default=100, kw_only=True)
    samples: int = field(default=1000, kw_only=True)
    epsilon: float = field(default=1e-2, kw_only=True)
    first: int = field(default=0, kw_only=True)
    diagonal: bool = field(default=False, kw_only=True)
    signal: float | None = field(default=None, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        check_counts("PRONG", samples=self.samples)
        if self.interval is not None:
            check_counts("PRONG", interval=self.interval)
        whole = lambda value: isinstance(value, numbers.Integral) and value >= 0
        check_numbers("PRONG", "a whole number of at least 0", whole, first=self.first)
        added = {"epsilon": self.epsilon} | ({} if self.signal is None else {"signal": self.signal})
        check_nonnegative("PRONG", **added)
        if not isinstance(self.diagonal, bool):
            raise ValueError(f"PRONG: diagonal must be True or False, got {self.diagonal!r}")

    def canonical(self, point, state):
        """theta = B Omega."""
        return from_whitened(coefficients(state), point.shape[0]) @ point

    def step(self, point, state, objective, batch, draw, rng):
        """One update; returns Omega, state, log."""
        due = state["update"] - self.first
        work = 0.0
        if due == 0 or (self.interval and due > 0 and due % self.interval == 0):
            (x, _), (inputs, _) = draw(self.samples), batch
            point, state = self.reparametrized(point, state, objective, x, rng)
            work = (1 if self.signal is None else 3) / 3 * len(x) / len(inputs)
        point, state, log = super().step(point, state, objective, batch, draw, rng)
        return point, state, log | {"gradients": 1.0 + work}

    def reparametrized(self, point, state, objective, x, rng=None):
        """Omega and state with coefficients measured on x; neither theta nor where the velocity points changes."""
        old = from_whitened(coefficients(state), point.shape[0])
        theta = old @ point  # line 7
        with phase("statistics"):
            r, J = objective.linearize(theta, x)  # line 8
            moments = pixel_moments(J)
            S = {}
            if self.signal is not None:
                deltas = scores(objective.loss, r, kind="mc", rng=rng)
                S = {factors.name: factors.S for factors in factors_of(J, deltas)}
        if not moments:
            raise ValueError("PRONG: the net has no affine layer whose input could be whitened")
        with phase("inversion"):
            layers = [
                whitening(m.name, m.span, m.covariance, m.mean, self.epsilon, S.get(m.name), self.signal, m.pixels)
                for m in moments
            ]  # line 9
            new = to_whitened(layers, point.shape[0])
            carried = {name: new @ (old @ state[name]) for name in self.memory}
            return new @ theta, state | carried | _entries(layers)  # line 10

    def gradient(self, point, state, objective, batch, draw, rng):
        """Loss and gradient of Omega at this batch; times D^2 in the diagonal variant."""
        layers = coefficients(state)
        whitened = replace(objective, net=WhitenedNet(objective.net, layers), weight_decay=0.0)
        with phase("gradient"):
            if self.diagonal:
                loss, g, _, J = whitened.value_grad_and_linearize(point, batch)
            else:
                loss, g = whitened.value_and_grad(point, batch)
            if objective.weight_decay:  # it is theta that decays
                B = from_whitened(layers, point.shape[0])
                theta = B @ point
                loss = loss + 0.5 * objective.weight_decay * item(dot(theta, theta))
                g = g + objective.weight_decay * (B.T @ theta)
        if self.diagonal:
            with phase("statistics"):
                g = self._rescaled(g, J, layers)
        return loss, g, state

    def _rescaled(self, g, J, layers):
        """D^2 g, with D from the batch whose whitened inputs are on J's tape."""
        if J.y_shape[0] < 2:
            raise ValueError("PRONG: the diagonal variant needs batches of at least two samples, got one")
        squared_norms = {layer.name: (layer.U * layer.U).sum(axis=1) for layer in layers}
        parts = list(zip(*inputs_by_slice(J, lambda layers: [_sums(layer) for layer in layers]), strict=True))
        sums = J.ranks.total([sum(part[k] for part in layer) for layer in parts for k in (1, 2)])
        g = g.copy()
        for (layer, *_), *_ in parts:
            weight = 1.0 / (layer.rows * J.y_shape[0])
            second, mean = weight * sums.pop(0), weight * sums.pop(0)
            variance = xp.maximum(second - mean * mean, 0) + self.epsilon * squared_norms.get(layer.name, 1.0)
            outputs = layer.shape[1]
            rows = g[layer.span[0] : layer.span[1] - outputs].reshape(-1, len(variance), outputs)
            rows /= variance[:, None]
        return g


def _sums(layer):
    """The layer of pixels, the sum of their squares and their sum."""
    layer = layer.of_pixels()
    h = layer.h.reshape(-1, layer.h.shape[-1])
    return layer, (h * h).sum(axis=0), h.sum(axis=0)


def _entries(layers):
    """Layers as entries of a state, which is flat."""
    entries = {}
    for layer in layers:
        arrays = {"U": layer.U, "c": layer.c} | ({} if layer.R is None else {"R": layer.R})
        entries |= {f"{key}.{layer.name}": array for key, array in arrays.items()}
        entries |= {f"start.{layer.name}": layer.span[0], f"stop.{layer.name}": layer.span[1]}
        entries[f"pixels.{layer.name}"] = layer.pixels
    return entries


def coefficients(state):
    """The Whitenings in a state, in theta's order; none before the first measurement: U = I, c = 0 (line 3)."""
    names = [key.removeprefix("U.") for key in state if key.startswith("U.")]
    layers = [
        Whitening(
            name,
            (state[f"start.{name}"], state[f"stop.{name}"]),
            *(state.get(f"{key}.{name}") for key in "UcR"),
            state[f"pixels.{name}"],
        )
        for name in names
    ]
    return tuple(sorted(layers, key=lambda layer: layer.span))
