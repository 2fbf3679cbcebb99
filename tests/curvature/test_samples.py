"""Rung 4: gradients sample by sample, layer by layer, and the metrics made of them, against complex steps."""

import numpy as np
import pytest

from minigrad import Objective
from minigrad.autodiff import linearize, ops
from minigrad.curvature import affine_layers, factored_fisher, fisher, gradient_covariance, per_sample_gradients
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import Layout, mlp
from tests.curvature.cases import CASES, N, cut_into_two_slices, each_case, made, on_device, problem, scores
from tests.helpers import close, dev, host, host_only

KINDS = {
    "one sample each": per_sample_gradients,
    "one draw": lambda J, theta, batch: fisher(J, theta, batch[0], kind="mc", rng=np.random.default_rng(3)).P,
    "three draws": lambda J, theta, batch: (
        fisher(J, theta, batch[0], kind="mc", rng=np.random.default_rng(3), samples=3).P
    ),
    "exact": lambda J, theta, batch: factored_fisher(J, theta, batch[0]).P,
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def rows(net, loss, theta, x, t):
    """(N, n): each sample's gradient of its loss."""
    return -scores(net, loss, theta, x, t[None])[0]


# --- the rows ---------------------------------------------------------------------------------------------


@each_case
def test_per_sample_gradients(net, loss):
    theta, x, t = problem(net, loss)
    P, expected = made(per_sample_gradients, net, loss, theta, x, t, weight_decay=3.0), rows(net, loss, theta, x, t)
    assert P.shape == (N, theta.size)
    close(P.dense(), expected)
    c, v = np.array([1.0, -2.0, 0.5]), np.linspace(-1, 1, theta.size)
    close(P @ dev(v), expected @ v)
    close(P.T @ dev(c), c @ expected)
    _, g = Objective(net, loss).value_and_grad(*on_device(loss, theta, x, t))
    close(P.T @ dev(np.full(N, 1 / N)), g)


@each_case
@each_kind
def test_what_layers_give_is_what_products_give(net, loss, kind):
    """Rows, Gram matrix and squares against the products with P and P', which know nothing of layers."""
    theta, x, t = problem(net, loss)
    P = made(kind, net, loss, theta, x, t)
    expected = host(P.matmat(dev(np.eye(theta.size))))
    close(P.T.dense(), expected.T)
    close(P.dense(), expected)
    close(P.gram(), expected @ expected.T)
    close(P.squares(), (expected**2).sum(axis=0))


@each_case
def test_draws_follow_each_other(net, loss):
    """Row k N + i of P belongs to draw k of sample i."""
    theta, x, t = problem(net, loss)
    P = made(KINDS["three draws"], net, loss, theta, x, t)
    J = P.J
    for k, score in enumerate(P.scores):
        for i in range(N):
            alone = np.zeros((N, net.sizes[-1]))
            alone[i] = host(score)[i]
            close(host(P.dense())[k * N + i], J.lop(dev(alone)))


def test_an_unused_parameter_has_no_share():
    class Half:
        layout = Layout({"unused": (2, 2), "w": (3, 2)})

        def apply(self, theta, x):
            return ops.affine(x, self.layout.views(theta)["w"])

    rng = np.random.default_rng(0)
    theta, x, t = rng.standard_normal(10), rng.standard_normal((4, 2)), rng.integers(2, size=4)
    P = per_sample_gradients(Objective(Half(), Categorical()), dev(theta), (dev(x), dev(t)))
    expected = host(P.matmat(dev(np.eye(10))))
    np.testing.assert_array_equal(expected[:, :4], 0)
    for found, wanted in (
        (P.dense(), expected),
        (P.gram(), expected @ expected.T),
        (P.squares(), (expected**2).sum(0)),
    ):
        close(found, wanted)


# --- layers -----------------------------------------------------------------------------------------------


def test_layers_are_inputs_and_deltas():
    """Of a two-layer net, written out: h0 = x, delta1 = u, h1 = tanh(a), delta0 = (u W1') (1 - h1^2)."""
    net, loss = CASES["Gaussian"]
    theta, x, _ = problem(net, loss)
    p = {name: theta[where].reshape(net.layout.shapes[name]) for name, where in net.layout.slices.items()}
    u = np.random.default_rng(0).standard_normal((N, 2))
    h = np.tanh(x @ p["layer0"][:-1] + p["layer0"][-1])
    first, second = affine_layers(Objective(net, loss).linearize(dev(theta), dev(x))[1], dev(u))
    assert (first.name, first.span, second.name, second.span) == ("layer0", (0, 15), "layer1", (15, 23))
    close(first.h, x)
    close(second.h, h)
    close(second.delta, u)
    close(first.delta, u @ p["layer1"][:-1].T * (1 - h**2))


class Refused:
    """Nets on theta of six or more numbers, with parameters that are not one affine layer's matrix."""

    def __init__(self, layout, function):
        self.layout, self.function = Layout(layout), function

    def apply(self, theta, x):
        return self.function(self.layout.views(theta), theta, x)


def row_pairs(p, theta, x):
    """Every sample has two rows, which share the matrix, and nothing says whose is which: (2 N, 1) -> (N, 2)."""
    return ops.affine(x.reshape(-1, 1), p["w"], name="w").reshape(-1, 2)


def again(p, theta, x):
    q = Layout({"w": (3, 2)}).views(theta)  # other views of the same numbers
    return ops.affine(ops.affine(x, p["w"], name="one"), q["w"], name="other")


REFUSALS = {
    "shared through two views": ({"w": (3, 2)}, again, "'w' shares numbers of theta with 'w'"),
    "outside of a layer": (
        {"w": (3, 2), "scale": (2,)},
        lambda p, theta, x: ops.affine(x, p["w"]) * p["scale"],
        "'scale' is used by multiply",
    ),
    "a layer's input": (
        {"h": (3, 2), "w": (3, 2)},
        lambda p, theta, x: ops.affine(p["h"], p["w"]) + x,
        "'h' is used by affine",
    ),
    "rows of no sample": ({"w": (2, 1)}, row_pairs, r"'w' is applied to rows \(6,\), of no sample each"),
    "theta whole": (
        {"w": (3, 2)},
        lambda p, theta, x: ops.affine(x, p["w"]) * ops.sum(theta * theta),
        "'theta' enters multiply whole",
    ),
    "a parameter as output": ({"r": (3, 2)}, lambda p, theta, x: p["r"], "'r' is used by no operation"),
}


@pytest.mark.parametrize(("layout", "function", "why"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(layout, function, why):
    net = Refused(layout, function)
    rng = np.random.default_rng(0)
    theta, x, t = rng.standard_normal(net.layout.size), rng.standard_normal((3, 2)), rng.standard_normal((3, 2))
    P = per_sample_gradients(Objective(net, Gaussian()), dev(theta), (dev(x), dev(t)))
    for ask in (P.gram, P.squares, P.dense):
        with pytest.raises(NotImplementedError, match=f"each parameter must be one affine layer's matrix; {why}"):
            ask()
    assert (P @ dev(theta)).shape == (3,)  # products need no layers


def test_cotangents_of_another_shape_are_refused():
    net, loss = CASES["Gaussian"]
    theta, x, _ = problem(net, loss)
    _, J = linearize(lambda theta: net.apply(theta, dev(x)), dev(theta))
    with pytest.raises(ValueError, match=r"sweep: the cotangent must have shape \(3, 2\), got \(3, 3\)"):
        affine_layers(J, dev(np.ones((3, 3))))


# --- covariance -------------------------------------------------------------------------------------------


@each_case
def test_covariance(net, loss):
    theta, x, t = problem(net, loss)
    g = rows(net, loss, theta, x, t)
    U, C = (made(gradient_covariance, net, loss, theta, x, t, centred=centred) for centred in (False, True))
    assert U.psd and C.psd
    close(U.dense(), g.T @ g / N)
    close(C.dense(), np.cov(g.T, bias=True))
    empirical = fisher(Objective(net, loss), dev(theta), on_device(loss, theta, x, t)[1], kind="empirical")
    np.testing.assert_array_equal(host(U.dense()), host(empirical.dense()))


def test_ranks():
    """Pascanu & Bengio, section 4.1: at most N for the covariance (one less when centred), N O for the Fisher."""
    n, outputs = 4, 3
    for loss, count in ((Gaussian(), outputs), (Bernoulli(), outputs), (Categorical(), outputs - 1)):
        net = mlp([5, 6, outputs])
        theta, x, t = problem(net, loss, n)

        def rank(G):
            return np.linalg.matrix_rank(host(G.dense()), tol=1e-12)

        assert rank(fisher(Objective(net, loss), dev(theta), dev(x))) == n * count < theta.size
        assert rank(made(gradient_covariance, net, loss, theta, x, t)) == n
        assert rank(made(gradient_covariance, net, loss, theta, x, t, centred=True)) == n - 1
        assert rank(fisher(Objective(net, loss), dev(theta), dev(x), "mc", rng=np.random.default_rng(0))) <= n


# --- what they promise ------------------------------------------------------------------------------------


@host_only
@each_case
@each_kind
def test_slices_on_threads_change_nothing(net, loss, kind, monkeypatch):
    theta, x, t = problem(net, loss, n=5)
    whole = made(kind, net, loss, theta, x, t)
    expected = [whole.dense(), whole.gram(), whole.squares(), whole.T @ dev(np.arange(float(whole.shape[0])))]
    cut_into_two_slices(monkeypatch)
    P = made(kind, net, loss, theta, x, t)
    assert len(P.J.parts) == 2
    found = [P.dense(), P.gram(), P.squares(), P.T @ dev(np.arange(float(P.shape[0])))]
    for one, other in zip(found, expected, strict=True):
        close(one, other)
    if kind is per_sample_gradients:
        C = made(gradient_covariance, net, loss, theta, x, t, centred=True)
        close(C.dense(), np.cov(host(whole.dense()).T, bias=True))


@host_only
@each_kind
@pytest.mark.parametrize("tile", [1, 2, 4, 5])
def test_the_gram_matrix_in_tiles(kind, tile, monkeypatch):
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss, n=5)
    P = made(kind, net, loss, theta, x, t)
    whole = P.gram()
    monkeypatch.setattr("minigrad.backend._cores", lambda: 2)
    monkeypatch.setattr("minigrad.curvature.samples._TILE", tile)
    found = P.gram()
    close(found, whole)
    np.testing.assert_array_equal(found, found.T)


@host_only
@pytest.mark.parametrize(
    ("threads", "tile", "tiles"), [(1, 2, 1), (2, 2, 6), (2, 3, 3), (2, 5, 1), (2, 256, 1), (3, 1, 15)]
)
def test_tiles_are_as_many_as_threads_want(threads, tile, tiles, monkeypatch):
    net, loss = CASES["Categorical"]
    P = made(per_sample_gradients, net, loss, *problem(net, loss, n=5))
    monkeypatch.setattr("minigrad.backend._cores", lambda: threads)
    monkeypatch.setattr("minigrad.curvature.samples._TILE", tile)
    counts = []
    monkeypatch.setattr("minigrad.curvature.samples.parallel", lambda f, items: counts.append(len(items)))
    P.gram()
    assert counts == [tiles]


@each_kind
def test_float32_stays_float32(kind):
    net, loss = CASES["Gaussian beta"]
    theta, x, t = problem(net, loss)
    P, wide = (made(kind, net, loss, theta, x, t, dtype) for dtype in ("float32", "float64"))
    found = [P.dense(), P.gram(), P.squares(), P @ dev(theta, "float32"), P.T @ dev(np.ones(P.shape[0]), "float32")]
    assert {array.dtype.name for array in found} == {"float32"}
    if kind in (KINDS["one sample each"], KINDS["exact"]):  # float32 draws are others
        for one, other in zip(found, [wide.dense(), wide.gram(), wide.squares()], strict=False):
            close(one, other, rtol=1e-5)


@pytest.mark.parametrize("centred", [False, True])
def test_a_float32_covariance(centred):
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss)
    G, wide = (
        made(gradient_covariance, net, loss, theta, x, t, dtype, centred=centred) for dtype in ("float32", "float64")
    )
    product = G @ dev(theta, "float32")
    assert G.dtype == product.dtype == "float32"
    close(product, wide @ dev(theta), rtol=1e-5)


def test_the_device_does_the_same(device):
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss)
    g = rows(net, loss, theta, x, t)
    P = made(per_sample_gradients, net, loss, theta, x, t)
    close(P.gram(), g @ g.T)
    close(P.squares(), (g**2).sum(axis=0))
    close(P.dense(), g)
    C = made(gradient_covariance, net, loss, theta, x, t, centred=True)
    close(C @ dev(theta), np.cov(g.T, bias=True) @ theta)
    P = made(KINDS["three draws"], net, loss, theta, x, t)
    close(P.gram(), host(P.dense()) @ host(P.dense()).T)


@pytest.mark.parametrize("build", [per_sample_gradients, gradient_covariance])
def test_bad_batches(build):
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss)
    for data, error, message in [
        ((x, t + 4), ValueError, "labels must lie in 0..3"),
        ((x, t[1:]), ValueError, "got 3 inputs and 2 targets"),
        ((x[:0], t[:0]), ValueError, "empty batch"),
    ]:
        with pytest.raises(error, match=message):
            build(Objective(net, loss), dev(theta), tuple(dev(a) for a in data))
    with pytest.raises(TypeError, match=r"a batch is a pair \(x, t\), got"):
        build(Objective(net, loss), dev(theta), dev(x))
