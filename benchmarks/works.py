"""The works to be timed: their shapes, and their seeded parameters and data, the same numbers for every peer."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

AUTOENCODER = (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
SMALL = (784, 90, 50, 10)
WIDE = (784, 1500, 10)

CG_ITERATIONS = 20
KFAC_INTERVAL = 20  # updates from one inversion to the next
KFAC_RATE, KFAC_MOMENTUM, KFAC_DAMPING = 1e-3, 0.9, 0.1
DAMPING = 1.0  # large enough that float32 rounding does not set the peers' iterates apart: 6e-5; with 1e-2, 6e-3


@dataclass(frozen=True)
class Work:
    """One row of the table. `kind` names the method of a peer that does it:

    - gradient: loss and gradient, mean over samples and sum over outputs;
    - product: linearize at theta, then one Gauss-Newton product J'(M(J v)): forward pass included;
    - products: the same product at a point linearized beforehand, 20 or more a turn: forward pass excluded;
    - step: gradient, linearize, 20 CG iterations on (G + DAMPING I) d = -g: a natural-gradient step, because
      for these losses the Gauss-Newton matrix is the exact Fisher information.
    - statistics: K-FAC's factors A and S of every layer at a point linearized beforehand, for given cotangents of the
      outputs: a backward sweep and two symmetric products a layer;
    - kfac: one update by K-FAC with momentum: gradient, factors of targets drawn from the model and their running
      means, preconditioning; every KFAC_INTERVAL updates the damped factors are inverted, so the time is that of
      KFAC_INTERVAL - 1 updates without and one with, divided by KFAC_INTERVAL. What peers draw differs: the answers
      that are compared are first steps with the data's targets in place of drawn ones.
    """

    kind: str
    sizes: tuple[int, ...]
    activation: str
    loss: str
    n: int
    title: str
    target: float
    memory: bool = False

    net = "mlp"  # peers say which they know
    tolerance = 1e-3  # of the peers' answers, in float32

    @property
    def input_shape(self):
        """Of one sample."""
        return self.sizes[:1]

    @property
    def name(self):
        net = {AUTOENCODER: "autoencoder", SMALL: "small", WIDE: "wide"}[self.sizes]
        return f"{'memory-' if self.memory else ''}{self.kind}-{net}-{self.n}"

    @property
    def backends(self):
        """Where its yardstick can be taken: LAPACK's inverse is called through SciPy."""
        return ("numpy",) if self.kind == "kfac" else ("numpy", "cupy")

    @property
    def shapes(self):
        """Each layer's matrix is (in + 1, out); its last row is the bias."""
        return [(m + 1, n) for m, n in zip(self.sizes, self.sizes[1:])]

    @property
    def outputs_in_order(self):
        """How many numbers a sample has behind each layer or pooling."""
        return list(self.sizes[1:])

    def tamed(self, theta):
        """theta, changed where a net of this kind needs it."""
        return theta

    def layers(self, theta):
        """A flat vector's layers, as views."""
        ends = np.cumsum([m * n for m, n in self.shapes]).tolist()
        return [theta[e - m * n : e].reshape(m, n) for e, (m, n) in zip(ends, self.shapes)]


@dataclass(frozen=True)
class Recurrent(Work):
    """The same kinds for an LSTM of sizes (in, hidden, out) over `steps` steps and an affine layer after the last."""

    steps: int = 0

    net = "lstm"

    @property
    def name(self):
        return f"{self.kind}-lstm-{self.n}"

    @property
    def input_shape(self):
        return (self.steps, self.sizes[0])

    @property
    def shapes(self):
        """The joint matrix of (x_t h 1), columns i, f, o, g, and the output layer's."""
        n_in, hidden, out = self.sizes
        return [(n_in + hidden + 1, 4 * hidden), (hidden + 1, out)]

    def tamed(self, theta):
        """theta with its forget gates held open and a quarter of the other weights, in place.

        Over so many steps cotangents else explode, and float32 rounding sets the peers' answers apart, or shrink to
        denormal numbers, which take a processor up to a hundred times as long.
        """
        hidden, matrix = self.sizes[1], self.layers(theta)[0]
        matrix[:-1] *= 0.25
        matrix[-1, hidden : 2 * hidden] += 6
        return theta


@dataclass(frozen=True)
class Layer:
    """A convolution, or with kernel None a dense layer: side and channels (or units) that go in, what comes out."""

    side: int
    channels: int
    out: int
    kernel: int | None = None
    padding: int = 0

    @property
    def places(self):
        return 1 if self.kernel is None else (self.side + 2 * self.padding - self.kernel + 1) ** 2

    @property
    def rows(self):
        """Of the matrix, without the bias's."""
        return self.channels * (self.side**2 if self.kernel is None else self.kernel**2)


@dataclass(frozen=True)
class Convolutional(Work):
    """The same kinds for a net of stages, on images (side, side, channels), sizes (channels, classes):

    ("conv", kernel, padding, out), ("fire", squeeze, expand) with 1 x 1 and 3 x 3 expanding maps side by side, "pool"
    (2 x 2, the largest), "average" (of all places), ("dense", units). relu behind every layer but the last with
    parameters; normalized: batch normalization before it, with a scale and a shift.
    """

    side: int = 0
    stages: tuple = ()
    normalized: bool = False
    label: str = ""

    net = "convolutional"

    @property
    def tolerance(self):
        """Where rounding decides which number is the largest, or below 0, a gradient jumps: ours in float32 and float64
        are 1e-3 apart, with batch normalization behind every layer 2e-2."""
        return 0.1 if self.normalized else 1e-2

    @property
    def name(self):
        return f"{'memory-' if self.memory else ''}{self.kind}-{self.label}-{self.n}"

    @property
    def input_shape(self):
        return (self.side, self.side, self.sizes[0])

    @property
    def steps_in_order(self):
        """(Layer, or None where something is pooled; how many numbers a sample has behind it)."""
        side, channels, found = self.side, self.sizes[0], []
        for stage in self.stages:
            if stage in ("pool", "average"):
                side = side // 2 if stage == "pool" else 1
                found.append((None, side**2 * channels))
                continue
            if stage[0] == "dense":
                layers, side, channels = [Layer(side, channels, stage[1])], 1, stage[1]
            elif stage[0] == "conv":
                _, kernel, padding, out = stage
                layers = [Layer(side, channels, out, kernel, padding)]
                side, channels = side + 2 * padding - kernel + 1, out
            else:
                _, squeeze, expand = stage
                layers = [Layer(side, channels, squeeze, 1), Layer(side, squeeze, expand, 1)]
                layers.append(Layer(side, squeeze, expand, 3, 1))
                channels = 2 * expand
            found += [(layer, layer.places * layer.out) for layer in layers]
        return found

    @property
    def layers_in_order(self):
        """Every Layer."""
        return [layer for layer, _ in self.steps_in_order if layer is not None]

    @property
    def outputs_in_order(self):
        return [numbers for _, numbers in self.steps_in_order]

    @property
    def shapes(self):
        """A layer's matrix, and of hidden ones scale and shift, as matrices of one row."""
        *hidden, last = self.layers_in_order
        vectors = lambda layer: 2 * [(1, layer.out)] if self.normalized else []
        shapes = [shape for layer in hidden for shape in [(layer.rows + 1, layer.out), *vectors(layer)]]
        return [*shapes, (last.rows + 1, last.out)]

    def tamed(self, theta):
        """theta with scales near 1, in place."""
        if self.normalized:
            vectors = [matrix for matrix in self.layers(theta) if len(matrix) == 1]
            for scale in vectors[::2]:
                scale += 1
        return theta

    def outputs(self, x, parameters, do):
        """The net, from what a peer can `do`; parameters: (W, b) of each matrix, (anything, b) of a vector b."""
        parameters, layers = iter(parameters), self.layers_in_order

        def layer(h):
            this, (W, b) = layers.pop(0), next(parameters)
            a = do.dense(h, W, b) if this.kernel is None else do.convolution(h, W, b, this)
            if not layers:
                return a
            if self.normalized:
                a = do.normalized(a, next(parameters)[1], next(parameters)[1])
            return do.relu(a)

        h = x
        for stage in self.stages:
            if stage == "pool":
                h = do.pool(h)
            elif stage == "average":
                h = do.average(h)
            elif stage[0] == "fire":
                squeezed = layer(h)
                h = do.joined(layer(squeezed), layer(squeezed))
            else:
                h = layer(h)
        return h


CNN = (("conv", 5, 0, 32), "pool", ("conv", 5, 0, 64), "pool", ("dense", 750), ("dense", 10))
SQUEEZENET = (
    ("conv", 3, 1, 64), "pool", ("fire", 16, 64), ("fire", 16, 64), "pool",
    ("fire", 32, 128), ("fire", 32, 128), "pool",
    ("fire", 48, 192), ("fire", 48, 192), ("fire", 64, 256), ("fire", 64, 256), ("conv", 1, 0, 10), "average",
)  # fmt: skip


def autoencoder(kind, n, title, target, memory=False):
    return Work(kind, AUTOENCODER, "sigmoid", "bernoulli", n, title, target, memory)


def lstm(kind, title, target):
    """Images of 28 x 28 pixels, one after the other."""
    return Recurrent(kind, (1, 128, 10), "", "categorical", 64, title, target, steps=784)


def cnn(kind, title, target, memory=False):
    """The digits' net of Pascanu & Bengio."""
    options = {"side": 28, "stages": CNN, "label": "cnn"}
    return Convolutional(kind, (1, 10), "relu", "categorical", 256, title, target, memory, **options)


def squeezenet(kind, title, target):
    """SqueezeNet v1.1 with batch normalization for small images."""
    options = {"side": 32, "stages": SQUEEZENET, "normalized": True, "label": "squeezenet"}
    return Convolutional(kind, (3, 10), "relu", "categorical", 64, title, target, **options)


WORKS = [
    autoencoder("gradient", 100, "loss + gradient, autoencoder, N = 100", 1.2),
    autoencoder("gradient", 1000, "loss + gradient, autoencoder, N = 1000", 1.1),
    autoencoder("gradient", 5000, "loss + gradient, autoencoder, N = 5000", 1.1),
    Work("gradient", SMALL, "relu", "categorical", 128, "loss + gradient, 784-90-50-10 relu, N = 128", 1.5),
    Work("gradient", WIDE, "tanh", "categorical", 2500, "loss + gradient, 784-1500-10 tanh, N = 2500", 1.1),
    autoencoder("product", 100, "Gauss-Newton product, forward included, autoencoder, N = 100", 1.2),
    autoencoder("product", 1000, "Gauss-Newton product, forward included, autoencoder, N = 1000", 1.1),
    autoencoder("product", 5000, "Gauss-Newton product, forward included, autoencoder, N = 5000", 1.1),
    autoencoder("products", 100, "cached Gauss-Newton product, autoencoder, N = 100", 1.1),
    autoencoder("products", 1000, "cached Gauss-Newton product, autoencoder, N = 1000", 1.05),
    Work("products", SMALL, "relu", "categorical", 128, "cached Gauss-Newton product, 784-90-50-10 relu, N = 128", 1.4),
    autoencoder("step", 100, "natural-gradient step, 20 CG iterations, autoencoder, N = 100", 1.3),
    autoencoder("step", 1000, "natural-gradient step, 20 CG iterations, autoencoder, N = 1000", 1.1),
    Work("step", WIDE, "tanh", "categorical", 2500, "natural-gradient step, 784-1500-10 tanh, N = 2500", 1.1),
    autoencoder("statistics", 1000, "K-FAC statistics, autoencoder, N = 1000", 1.2),
    autoencoder("kfac", 1000, "K-FAC update, inverses every 20, autoencoder, N = 1000", 1.2),
    lstm("gradient", "loss + gradient, LSTM of 128 units, 784 steps, N = 64", 3.2),
    lstm("product", "Gauss-Newton product, forward included, LSTM of 128 units, 784 steps, N = 64", 3.0),
    cnn("gradient", "loss + gradient, MNIST CNN, N = 256", 1.5),
    cnn("product", "Gauss-Newton product, forward included, MNIST CNN, N = 256", 1.1),
    squeezenet("gradient", "loss + gradient, SqueezeNet with batch normalization, N = 64", 2.0),
    squeezenet("product", "Gauss-Newton product, forward included, SqueezeNet with batch normalization, N = 64", 2.0),
    autoencoder("gradient", 5000, "peak memory of the gradient, autoencoder, N = 5000", 1.5, memory=True),
    autoencoder("step", 1000, "peak memory of the natural-gradient step, autoencoder, N = 1000", 1.5, memory=True),
    cnn("gradient", "peak memory of the gradient, MNIST CNN, N = 256", 1.5, memory=True),
]
BY_NAME = {work.name: work for work in WORKS}


@dataclass(frozen=True)
class Problem:
    """The numbers of a work, in float32: parameters, input, target (one label a sample if categorical), tangent."""

    theta: np.ndarray
    x: np.ndarray
    t: np.ndarray
    v: np.ndarray


def problem(work, seed=0):
    """Glorot's uniform weights, small biases (so that a bias row in the wrong place shows), data in [0, 1]."""
    rng = np.random.default_rng(seed)
    layers = []
    for rows, out in work.shapes:
        bound = math.sqrt(6 / (rows - 1 + out))
        weights = rng.uniform(-bound, bound, (rows - 1, out))
        layers += [weights.ravel(), 0.1 * rng.standard_normal(out)]
    theta = work.tamed(np.concatenate(layers).astype(np.float32))
    x = rng.random((work.n, *work.input_shape), dtype=np.float32)
    t = x if work.loss == "bernoulli" else rng.integers(work.sizes[-1], size=work.n)
    v = rng.standard_normal(theta.size, dtype=np.float32)
    return Problem(theta, x, t, v)


def fingerprint(vector, parts=64):
    """A few numbers that a wrong sign, scale or order would change: randomly weighted sums of consecutive parts."""
    vector = np.asarray(vector, np.float64)
    weighted = vector * np.random.default_rng(1).standard_normal(vector.size)
    return [float(part.sum()) for part in np.array_split(weighted, parts)]


def must_live(work):
    """Bytes that a work cannot do without, the denominator of its memory row.

    Counted: parameters and gradient, for a step also CG's d, r, p and Gp; the output of every layer and pooling, kept
    for the backward sweep, but no patches; the cotangents (or tangents) at the input and output of one layer, the
    largest such pair. The input x is data and is not counted. A peer's numerator is the growth of its resident set's
    high-water mark during the call, plus the parameters, which were there before. Below 1 are peers that take the batch
    in pieces or write over what they no longer need.
    """
    parameters = sum(m * n for m, n in work.shapes)
    outputs = work.outputs_in_order
    activations = work.n * sum(outputs)
    cotangents = work.n * max(a + b for a, b in itertools.pairwise(outputs))
    vectors = {"gradient": 2, "step": 6}[work.kind]
    return 4 * (vectors * parameters + activations + cotangents)
