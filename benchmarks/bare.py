"""The yardstick: the bare matrix products that a work's mathematics needs, into preallocated outputs.

Forward, one product a layer. Backward (L-op), the weight gradient of every layer and the input cotangent of all
but the first. R-op, `dh @ W` for all but the first layer and `h @ V` for every layer. Weights and weight gradients
are views of flat vectors, transposes are views that BLAS reads as they lie, and nothing elementwise is done.

K-FAC's statistics are a backward sweep, one product for the input cotangent of every layer but the first, and the
symmetric products h'h and u'u of every layer (of which BLAS does one half). Its preconditioning is A^-1 V S^-1 in the
cheaper order, its inversion LAPACK's potrf and potri of every A (of h and the 1) and S.
"""

from . import works
from .peers import Amortized, Peer


def forward(h, w):
    return [(h[i], w[i], h[i + 1]) for i in range(len(w))]


def backward(h, w, u, gradient):
    products = []
    for i in reversed(range(len(w))):
        products.append((h[i].T, u[i + 1], gradient[i]))
        if i > 0:
            products.append((u[i + 1], w[i].T, u[i]))
    return products


def rop(h, w, v, dh, hv):
    products = []
    for i in range(len(w)):
        if i > 0:
            products.append((dh[i], w[i], dh[i + 1]))
        products.append((h[i], v[i], hv[i + 1]))
    return products


def statistics(h, w, u):
    products = [(u[i + 1], w[i].T, u[i]) for i in reversed(range(1, len(w)))]
    return products + [(v.T, v, v.T @ v) for v in h[:-1] + u[1:]]


def preconditioning(work, gradient, xp):
    """For layers of (h 1)."""
    products = []
    for v in work.layers(gradient):
        left, right = (xp.ones((size, size), v.dtype) for size in v.shape)
        between, out = xp.empty_like(v), xp.empty_like(v)
        products += [(left, v, between), (between, right, out)]
    return products


def inversions(work):
    """A function that inverts all factors; positive definite matrices stand for them."""
    import numpy as np
    from scipy.linalg import lapack

    sizes = [size for shape in work.shapes for size in shape]
    factors = [np.asfortranarray(np.eye(n) + 0.5 / n, np.float32) for n in sizes]

    def invert():
        for factor in factors:
            lapack.spotri(lapack.spotrf(factor)[0])

    return invert


def recurrent(work, problem, xp):
    """Of an LSTM: a step's products, of (x_t h), for every step, and the output layer's; all steps share arrays."""
    shapes = [(m - 1, n) for m, n in work.shapes]
    array = lambda *shape: xp.ones(shape, xp.float32)
    weights = lambda flat: [layer[:-1] for layer in work.layers(xp.asarray(flat))]
    w, v, gradient = weights(problem.theta), weights(problem.v), weights(xp.empty_like(problem.theta))
    h, dh = ([array(work.n, m) for m, _ in shapes] for _ in range(2))
    a, u = ([array(work.n, n) for _, n in shapes] for _ in range(2))
    done = []
    for k, times in ((0, work.steps), (1, 1)):
        first = [(h[k], w[k], a[k])]
        back = [(h[k].T, u[k], gradient[k]), (u[k], w[k].T, dh[k])]
        tangents = [(dh[k], w[k], a[k]), (h[k], v[k], a[k])]
        done += times * (first + back + (tangents if work.kind == "product" else []))
    return done


def convolutional(work, problem, xp):
    """Of patches: each layer's products, all places of all samples being rows. Making patches is not counted."""
    done, backwards, array = [], [], lambda *shape: xp.ones(shape, xp.float32)
    for k, layer in enumerate(work.layers_in_order):
        rows = work.n * layer.places
        p, W, a = array(rows, layer.rows), array(layer.rows, layer.out), array(rows, layer.out)
        done.append((p, W, a))
        backwards.append((p.T, a, xp.empty_like(W)))
        if k > 0:
            backwards.append((a, W.T, xp.empty_like(p)))
        if work.kind == "product":
            done += [(p, W, xp.empty_like(a))] * (1 if k == 0 else 2)
    return done + backwards


def products(work, problem, xp):
    """The list of (left, right, out) of a work, in the order of the computation."""
    if work.net == "lstm":
        return recurrent(work, problem, xp)
    if work.net == "convolutional":
        return convolutional(work, problem, xp)
    rng = xp.random.default_rng(0)
    weights = lambda flat: [layer[:-1] for layer in work.layers(flat)]
    arrays = lambda: [rng.standard_normal((work.n, size), dtype=xp.float32) for size in work.sizes]
    theta, tangent = xp.asarray(problem.theta), xp.asarray(problem.v)
    h, w, u, gradient = arrays(), weights(theta), arrays(), weights(xp.empty_like(theta))
    h[0][...] = xp.asarray(problem.x)
    if work.kind == "gradient":
        return forward(h, w) + backward(h, w, u, gradient)
    if work.kind == "statistics":
        return statistics(h, w, u)
    if work.kind == "kfac":
        step = preconditioning(work, xp.ones_like(theta), xp)
        return forward(h, w) + backward(h, w, u, gradient) + statistics(h, w, u) + step
    product = rop(h, w, weights(tangent), arrays(), arrays()) + backward(h, w, u, gradient)
    if work.kind == "products":
        return product
    if work.kind == "product":
        return forward(h, w) + product
    return forward(h, w) + backward(h, w, u, gradient) + works.CG_ITERATIONS * product


def flops(work):
    """Multiplications and additions of a work's products."""
    if work.net == "convolutional":
        first, *others = [layer.places * layer.rows * layer.out for layer in work.layers_in_order]
        times = (3, 5) if work.kind == "product" else (2, 3)
        return 2 * work.n * (times[0] * first + times[1] * sum(others))
    if work.net == "lstm":
        (m, n), (hidden, out) = work.shapes
        times = 5 if work.kind == "product" else 3
        return 2 * work.n * times * (work.steps * (m - 1) * n + (hidden - 1) * out)
    pairs = list(zip(work.sizes, work.sizes[1:]))
    layers, first = sum(m * n for m, n in pairs), pairs[0][0] * pairs[0][1]
    forward, backward, rop = layers, 2 * layers - first, 2 * layers - first
    statistics = layers - first + sum(m * m + n * n for m, n in pairs) / 2
    two_sided = sum(m * n * (m + n) for m, n in work.shapes) / work.n
    inversions = sum(m**3 + n**3 for m, n in work.shapes) / 2 / work.n / works.KFAC_INTERVAL
    times = {
        "gradient": forward + backward,
        "product": forward + rop + backward,
        "products": rop + backward,
        "step": forward + backward + works.CG_ITERATIONS * (rop + backward),
        "statistics": statistics,
        "kfac": forward + backward + statistics + two_sided + inversions,
    }
    return 2 * work.n * times[work.kind]


class Bare(Peer):
    """Does the products of a work and answers nothing."""

    title = "bare products"
    distributions = ("numpy",)

    def __init__(self, backend):
        super().__init__(backend)
        if backend == "cupy":
            import cupy as xp
        else:
            import numpy as xp
        self.xp = xp

    def does(self, work):
        return not work.memory

    def sync(self):
        if self.backend == "cupy":
            self.xp.cuda.Device().synchronize()

    def prepare(self, work, problem):
        steps, matmul = products(work, problem, self.xp), self.xp.matmul

        def run():
            for a, b, out in steps:
                matmul(a, b, out=out)

        if work.kind != "kfac":
            return run
        invert = inversions(work)

        def with_inversion():
            run()
            invert()

        return Amortized(run, with_inversion, works.KFAC_INTERVAL, None)

    def answer(self, result):
        return None
