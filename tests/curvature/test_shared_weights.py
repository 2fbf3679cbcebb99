"""Layers whose matrix several rows of a sample share: places of a convolution, steps of a recurrence.

The brute force unties them: the same net with a matrix of its own for each row has, as the gradient of the t-th matrix,
(h_t 1)' delta_t alone, and its last row is delta_t, for the bias's input is 1.
"""

import tracemalloc

import numpy as np
import pytest

from minigrad import Objective
from minigrad.autodiff import conv, linearize, ops
from minigrad.curvature import (
    affine_layers,
    factors_of,
    fisher,
    input_means,
    input_moments,
    kronecker_factors,
    per_sample_gradients,
    pixel_moments,
    samples,
    scores,
)
from minigrad.curvature.factors import _work, second_moments
from minigrad.curvature.layers import layers_by_slice
from minigrad.curvature.samples import SampleGradients
from minigrad.losses import Categorical, Gaussian
from minigrad.nets import Layout
from tests.autodiff import plain_images
from tests.curvature.cases import cut_into_two_slices
from tests.helpers import close, dev, host, host_only

WINDOW = conv.Window(3, stride=2, padding=1)


class Net:
    """function(p, x) -> r, p the parameters of these shapes."""

    def __init__(self, shapes, function):
        self.layout, self.function = Layout(shapes), function

    def __call__(self, p, x):
        return self.function(p, x)

    def apply(self, theta, x):
        return self(self.layout.views(theta), x)


def tied(p, x):
    """One square matrix used three times, and an output layer."""
    h = x
    for _ in range(3):
        h = ops.tanh(ops.affine(h, p["w"], name="w"))
    return ops.affine(h, p["out"], name="out")


def rows(p, x):
    """Four rows a sample, then their mean."""
    return ops.affine(ops.mean(ops.tanh(ops.affine(x, p["w"], name="w")), axis=1), p["out"], name="out")


def images(p, x):
    """4 x 4 images of two channels: a convolution with stride and padding, pooling, an output layer."""
    h = ops.tanh(conv.convolution(x, p["w"], WINDOW, name="w"))
    return ops.affine(ops.reshape(h, (h.shape[0], -1)), p["out"], name="out")


NETS = {
    "tied": (Net({"w": (4, 3), "out": (4, 2)}, tied), (3,)),
    "rows": (Net({"w": (4, 2), "out": (3, 3)}, rows), (4, 3)),
    "images": (Net({"w": (19, 2), "out": (9, 3)}, images), (4, 4, 2)),
}
each_net = pytest.mark.parametrize(("net", "shape"), NETS.values(), ids=NETS)
N = 4


def problem(net, shape, seed=1, n=N):
    rng = np.random.default_rng(seed)
    return dev(0.6 * rng.standard_normal(net.layout.size)), dev(rng.standard_normal((n, *shape)))


def untied(name, theta, x):
    """[(h_t (N, in + 1), J_t (N, O, out))] of the shared matrix: its rows' inputs, and dr/da_t, by untying."""
    net, _ = NETS[name]
    p = {key: host(view) for key, view in net.layout.views(theta).items()}
    w, out, x = p["w"], p["out"], host(x)
    affine = lambda h, W: h @ W[:-1] + W[-1]
    if name == "tied":
        inputs, h = [], x
        for _ in range(3):
            inputs.append(h)
            h = np.tanh(affine(h, w))

        def after(t, a):
            h = ops.tanh(a)
            for _ in range(t + 1, 3):
                h = ops.tanh(ops.affine(h, dev(w)))
            return ops.affine(h, dev(out))

    elif name == "rows":
        inputs = [x[:, t] for t in range(4)]

        def after(t, a):
            others = sum(np.tanh(affine(x[:, s], w)) for s in range(4) if s != t)
            return ops.affine((ops.tanh(a) + dev(others)) * 0.25, dev(out))

    else:
        patches = plain_images.patches(x, WINDOW)
        inputs = [patches[:, i, j] for i in range(2) for j in range(2)]

        def after(t, a):
            hidden = [ops.tanh(a) if s == t else dev(np.tanh(affine(inputs[s], w))) for s in range(4)]
            return ops.affine(ops.concatenate(hidden, axis=1), dev(out))

    found = []
    for t, h in enumerate(inputs):
        a = affine(h, w)
        J = host(linearize(lambda a, t=t: after(t, a), dev(a))[1].dense())
        J = J.reshape(len(a), J.shape[0] // len(a), len(a), -1)
        found.append((np.hstack([h, np.ones((len(h), 1))]), np.stack([J[n, :, n] for n in range(len(a))])))
    return found


# --- a sample's gradient is the sum over its rows --------------------------------------------------------


@each_net
@pytest.mark.parametrize("draws", [1, 2])
def test_what_layers_give_is_what_products_give(net, shape, draws):
    """Rows, Gram matrix and squares against products with P', which know nothing of layers."""
    theta, x = problem(net, shape)
    r, J = Objective(net, Categorical()).linearize(theta, x)
    P = fisher(Objective(net, Categorical()), theta, x, "mc", rng=np.random.default_rng(0), samples=draws).P
    expected = np.stack([host(P.rmatvec(dev(row))) for row in np.eye(P.shape[0])])
    assert len(expected) == draws * N
    close(P.dense(), expected)
    close(P.gram(), expected @ expected.T)
    close(P.squares(), (expected**2).sum(0))


@each_net
def test_tiles_and_parts_change_nothing(net, shape, monkeypatch):
    theta, x = problem(net, shape, n=5)
    t = dev(np.arange(5) % 2)
    whole = per_sample_gradients(Objective(net, Categorical()), theta, (x, t))
    for module in ("samples", "layers"):
        monkeypatch.setattr(f"minigrad.curvature.{module}._AT_ONCE", 1)
    monkeypatch.setattr("minigrad.curvature.samples._TILE", 2)
    parts = per_sample_gradients(Objective(net, Categorical()), theta, (x, t))
    close(parts.gram(), whole.gram())
    close(parts.squares(), whole.squares())


@pytest.mark.parametrize("name", NETS)
def test_rows_and_deltas(name):
    net, shape = NETS[name]
    theta, x = problem(net, shape)
    r, J = Objective(net, Gaussian()).linearize(theta, x)
    u = np.random.default_rng(2).standard_normal(r.shape)
    found = {layer.name: layer for layer in affine_layers(J, dev(u))}
    layer, expected = found["w"], untied(name, theta, x)
    assert (layer.rows, found["out"].rows) == (len(expected), 1)
    assert (layer.shape, layer.span) == (net.layout.shapes["w"], (0, net.layout.slices["w"].stop))
    for t, (h1, J_t) in enumerate(expected):
        close(layer.h[:, t], h1[:, :-1])
        close(layer.delta[:, t], np.einsum("no,noj->nj", u, J_t))
    assert found["out"].h.ndim == found["out"].delta.ndim == 2


def test_what_ranks_gather_is_every_sample(monkeypatch):
    """Images before they are patches, and deltas."""
    net, shape = NETS["images"]
    theta, x = problem(net, shape)
    r, J = Objective(net, Gaussian()).linearize(theta, x)
    asked = []

    class Ranks:
        gathered = staticmethod(lambda rows, n: asked.append((rows.shape, n)) or rows)

    monkeypatch.setattr(J, "ranks", Ranks, raising=False)
    affine_layers(J, dev(np.ones(r.shape)))
    assert asked == [(shape, N) for shape in [(N, 4, 4, 2), (N, 2, 2, 2), (N, 8), (N, 3)]]


# --- Kronecker factors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("kind", ["exact", "mc"])
@pytest.mark.parametrize("shared", ["expand", "reduce"])
@pytest.mark.parametrize("at_once", [1, 1 << 22])
def test_factors(name, kind, shared, at_once, monkeypatch):
    """Expand: means over all rows, and sums over a sample's. Reduce: of the rows' mean, and of the deltas' sum."""
    monkeypatch.setattr("minigrad.curvature.layers._AT_ONCE", at_once)
    net, shape = NETS[name]
    theta, x = problem(net, shape)
    objective = Objective(net, Categorical())
    r, J = objective.linearize(theta, x)
    cotangents = scores(objective.loss, r, kind=kind, rng=np.random.default_rng(3))
    u = np.stack([host(one) for one in cotangents])
    h, J_a = (np.stack(arrays) for arrays in zip(*untied(name, theta, x), strict=True))  # (T, N, ...)
    delta = np.einsum("kno,tnoj->ktnj", u, J_a)
    if shared == "expand":
        A, S = np.einsum("tni,tnj->ij", h, h) / (N * len(h)), np.einsum("ktni,ktnj->ij", delta, delta) / N
    else:
        hbar, dbar = h.mean(axis=0), delta.sum(axis=1)
        A, S = hbar.T @ hbar / N, np.einsum("kni,knj->ij", dbar, dbar) / N
    S = S / len(u)
    found, output = factors_of(J, cotangents, shared)
    close(found.A, A, rtol=1e-10)
    close(found.S, S, rtol=1e-10)
    other = factors_of(J, cotangents, "reduce" if shared == "expand" else "expand")[1]
    close(output.A, other.A)
    close(output.S, other.S)
    if kind == "exact":
        made = kronecker_factors(objective, theta, x, shared=shared)[0]
        close(made.A, A, rtol=1e-10)
        close(made.S, S, rtol=1e-10)


def block_of(net, objective, theta, x, name="w"):
    where = net.layout.slices[name]
    return host(fisher(objective, theta, x).dense())[where, where]


def test_expand_is_exact_where_rows_have_losses_of_their_own():
    """A linear layer on each row under squared error: delta_t is the same for all samples, and no two rows have one."""
    net = Net({"w": (4, 2)}, lambda p, x: ops.reshape(ops.affine(x, p["w"], name="w"), (x.shape[0], -1)))
    theta, x = problem(net, (3, 3))
    objective = Objective(net, Gaussian(beta=0.5))
    (layer,) = kronecker_factors(objective, theta, x)
    close(layer.block.dense(), block_of(net, objective, theta, x), rtol=1e-10)
    (reduced,) = kronecker_factors(objective, theta, x, shared="reduce")
    assert not np.allclose(host(reduced.block.dense()), host(layer.block.dense()), rtol=0.1)


def test_reduce_is_exact_where_rows_are_averaged():
    """A linear convolution, averaged over its places, under squared error."""
    net = Net({"w": (19, 2)}, lambda p, x: conv.global_average(conv.convolution(x, p["w"], WINDOW, name="w")))
    theta, x = problem(net, (4, 4, 2))
    objective = Objective(net, Gaussian(beta=0.5))
    (layer,) = kronecker_factors(objective, theta, x, shared="reduce")
    close(layer.block.dense(), block_of(net, objective, theta, x), rtol=1e-10)
    (expanded,) = kronecker_factors(objective, theta, x)
    assert not np.allclose(host(expanded.block.dense()), host(layer.block.dense()), rtol=0.1)


@pytest.mark.parametrize("count", [1, 2])
def test_as_few_rows_as_there_can_be(count):
    """Of two rows "reduce" makes one; of one both ways make the same."""
    net = Net({"w": (4, 2)}, lambda p, x: ops.sum(ops.tanh(ops.affine(x, p["w"], name="w")), axis=1))
    theta, x = problem(net, (count, 3))
    objective, h = Objective(net, Gaussian()), np.concatenate([host(x), np.ones((N, count, 1))], axis=2)
    slope = 1 - np.tanh(h @ host(theta).reshape(4, 2)) ** 2  # of both outputs, each unit's own
    expand, reduce = (kronecker_factors(objective, theta, x, shared=way)[0] for way in ("expand", "reduce"))
    close(expand.A, np.einsum("nti,ntj->ij", h, h) / (N * count))
    close(reduce.A, np.einsum("nti,nsj->ij", h, h) / (N * count**2))
    close(expand.S, np.diag((slope**2).sum(axis=(0, 1)) / N))
    close(reduce.S, np.diag((slope.sum(axis=1) ** 2).sum(axis=0) / N))
    P = per_sample_gradients(objective, theta, (x, dev(np.zeros((N, 2)))))
    rows = np.stack([host(P.rmatvec(dev(row))) for row in np.eye(N)])
    close(P.dense(), rows)
    close(P.gram(), rows @ rows.T)
    close(P.squares(), (rows**2).sum(axis=0))


def test_a_matrix_used_twice():
    net = Net({"w": (4, 3)}, lambda p, x: ops.affine(ops.tanh(ops.affine(x, p["w"], name="w")), p["w"], name="w"))
    theta, x = problem(net, (3,))
    P = per_sample_gradients(Objective(net, Gaussian()), theta, (x, dev(np.zeros((N, 3)))))
    rows = np.stack([host(P.rmatvec(dev(row))) for row in np.eye(N)])
    close(P.dense(), rows)
    close(P.gram(), rows @ rows.T)
    close(P.squares(), (rows**2).sum(axis=0))


@pytest.mark.parametrize("shared", ["expand", "reduce"])
def test_both_are_exact_for_one_sample_of_one_row(shared):
    net = Net({"w": (9, 2)}, lambda p, x: ops.reshape(conv.convolution(x, p["w"], 2, name="w"), (x.shape[0], -1)))
    theta, x = problem(net, (2, 2, 2), n=1)
    objective = Objective(net, Categorical())
    (layer,) = kronecker_factors(objective, theta, x, shared=shared)
    close(layer.block.dense(), block_of(net, objective, theta, x), rtol=1e-10)


@each_net
@pytest.mark.parametrize("at_once", [1, 1 << 22])
def test_second_moments_are_the_diagonal_of_the_block(net, shape, at_once, monkeypatch):
    """In any orthogonal basis Q kron R, and without one."""
    monkeypatch.setattr("minigrad.curvature.layers._AT_ONCE", at_once)
    theta, x = problem(net, shape)
    objective = Objective(net, Categorical())
    r, J = objective.linearize(theta, x)
    cotangents = scores(objective.loss, r)
    rng, bases = np.random.default_rng(4), []
    for n_in, n_out in net.layout.shapes.values():
        bases.append([np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (n_in, n_out)])
    sweeps = [layers_by_slice(J, u) for u in cotangents]
    turned = second_moments(J, sweeps, [[dev(Q), dev(R)] for Q, R in bases])
    plain = second_moments(J, sweeps, [(None, None)] * 2)
    for name, (Q, R), d, d0 in zip(net.layout.names, bases, turned, plain, strict=True):
        block, V = block_of(net, objective, theta, x, name), np.kron(Q, R)
        close(d.reshape(-1), np.diag(V.T @ block @ V), rtol=1e-9)
        close(d0.reshape(-1), np.diag(block), rtol=1e-9)


@host_only
@each_net
@pytest.mark.parametrize("shared", ["expand", "reduce"])
def test_slices_on_threads_change_nothing(net, shape, shared, monkeypatch):
    theta, x = problem(net, shape, n=5)
    objective = Objective(net, Categorical())
    whole = kronecker_factors(objective, theta, x, shared=shared)
    moments, means = [f(objective.linearize(theta, x)[1]) for f in (pixel_moments, input_means)]
    cut_into_two_slices(monkeypatch)
    _, J = objective.linearize(theta, x)
    assert len(J.parts) == 2
    for one, other in zip(kronecker_factors(objective, theta, x, shared=shared), whole, strict=True):
        close(one.A, other.A)
        close(one.S, other.S)
    for one, other in zip(pixel_moments(J), moments, strict=True):
        assert one.pixels == other.pixels
        close(one.second, other.second)
    for name, mean in input_means(J).items():
        close(mean, means[name])
    P = per_sample_gradients(objective, theta, (x, dev(np.zeros(5, int))))
    close(P.T @ dev(np.ones(5)), P.dense().sum(axis=0))


# --- moments of inputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("at_once", [1, 1 << 22])
def test_input_moments(name, at_once, monkeypatch):
    monkeypatch.setattr("minigrad.curvature.layers._AT_ONCE", at_once)
    net, shape = NETS[name]
    theta, x = problem(net, shape)
    _, J = Objective(net, Gaussian()).linearize(theta, x)
    h = np.concatenate([h1[:, :-1] for h1, _ in untied(name, theta, x)])
    found = input_moments(J)[0]
    close(found.second, h.T @ h / len(h))
    close(found.mean, h.mean(axis=0))
    close(input_means(J)["w"], h.mean(axis=0))
    assert list(input_means(J)) == ["w", "out"] and [m.pixels for m in input_moments(J)] == [1, 1]


def test_pixel_moments():
    """Of the padded images' pixels; of other layers' rows as they are."""
    net, shape = NETS["images"]
    theta, x = problem(net, shape)
    _, J = Objective(net, Gaussian()).linearize(theta, x)
    first, output = pixel_moments(J)
    pixels = np.pad(host(x), [(0, 0), (1, 1), (1, 1), (0, 0)]).reshape(-1, 2)
    assert (first.pixels, output.pixels, first.span) == (9, 1, (0, 38))
    layer = affine_layers(J, dev(np.ones(J.y_shape)))[0].of_pixels()
    assert (layer.shape, layer.rows, layer.span) == ((3, 2), 36, (0, 38))
    close(layer.h.reshape(-1, 2), pixels)
    close(first.second, pixels.T @ pixels / len(pixels))
    close(first.mean, pixels.mean(axis=0))
    close(output.second, input_moments(J)[1].second)


def test_unknown_ways_to_share_are_refused():
    net, shape = NETS["rows"]
    with pytest.raises(ValueError, match="unknown way to share 'expant'; did you mean 'expand'"):
        kronecker_factors(Objective(net, Gaussian()), *problem(net, shape), shared="expant")


# --- memory ------------------------------------------------------------------------------------------------

WIDE = Net({"w": (5 * 5 * 4 + 1, 2)}, lambda p, x: conv.global_average(conv.convolution(x, p["w"], 5, name="w")))
SUMS = {
    "expand": lambda J, u, P: factors_of(J, [u]),
    "reduce": lambda J, u, P: factors_of(J, [u], "reduce"),
    "second moments": lambda J, u, P: second_moments(J, [layers_by_slice(J, u)], [(None, None)]),
    "input moments": lambda J, u, P: input_moments(J),
    "pixel moments": lambda J, u, P: pixel_moments(J),
    "input means": lambda J, u, P: input_means(J),
    "squares": lambda J, u, P: P.squares(),
    "gram": lambda J, u, P: P.gram(),
}


@host_only
@pytest.mark.parametrize("work", SUMS.values(), ids=SUMS)
def test_never_the_patches_of_all_samples(work, monkeypatch):
    """They are 11 times the images, and so are all samples' gradients 2 times; what is made is a few samples' share."""
    monkeypatch.setattr("minigrad.curvature.layers._AT_ONCE", 1)
    monkeypatch.setattr("minigrad.curvature.samples._AT_ONCE", 5 * 202)
    theta, x = problem(WIDE, (10, 10, 4), n=96)
    objective = Objective(WIDE, Gaussian())
    r, J = objective.linearize(theta, x)
    u = dev(np.ones(r.shape))
    P = per_sample_gradients(objective, theta, (x, u), (r, J))
    tracemalloc.start()
    work(J, u, P)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * x.nbytes


def test_parts_hold_as_many_samples_as_they_may(monkeypatch):
    """The largest of their h, their deltas and their gradients; one row a sample needs no parts."""
    sizes = {(3, 7, 2): 7 * 4, (1, 5, 4): 5 * 4, (8, 2, 9): 9 * 9}
    for (n_in, rows, n_out), numbers in sizes.items():
        net = Net({"w": (n_in + 1, n_out)}, lambda p, x: ops.mean(ops.affine(x, p["w"], name="w"), axis=1))
        theta, x = problem(net, (rows, n_in), n=5)
        r, J = Objective(net, Gaussian()).linearize(theta, x)
        (layer,) = affine_layers(J, dev(np.ones(r.shape)))
        for limit, expected in ((2 * numbers, [2, 2, 1]), (2 * numbers - 1, [1] * 5), (5 * numbers, [5]), (1, [1] * 5)):
            monkeypatch.setattr("minigrad.curvature.layers._AT_ONCE", limit)
            assert [len(part.h) for part in layer.parts()] == expected
    net, shape = NETS["tied"]
    theta, x = problem(net, shape)
    monkeypatch.setattr("minigrad.curvature.layers._AT_ONCE", 1)
    r, J = Objective(net, Gaussian()).linearize(theta, x)
    _, output = affine_layers(J, dev(np.ones(r.shape)))
    assert [len(part.h) for part in output.parts()] == [N]


def test_work_of_a_matrix_is_half_of_its_products(monkeypatch):
    """Which thread makes which matrix is decided by it."""
    theta, x = problem(*NETS["images"], n=5)
    r, J = Objective(NETS["images"][0], Gaussian()).linearize(theta, x)
    first, output = layers_by_slice(J, dev(np.ones(r.shape)))[0]
    both = [first.of(slice(0, 2)), first.of(slice(2, 5))]
    assert [_work((what, both)) for what in ("h", "delta")] == [5 * 4 * 19**2 // 2, 5 * 4 * 2**2 // 2]
    assert [_work((what, [output])) for what in ("h", "delta")] == [5 * 9**2 // 2, 5 * 3**2 // 2]


@pytest.mark.parametrize(("draws", "at_once", "tiles"), [(1, 7, 15), (1, 8, 15), (1, 16, 6), (2, 32, 6), (2, 80, 1)])
def test_a_gram_matrix_forms_the_gradients_of_some_samples_at_a_time(draws, at_once, tiles, monkeypatch):
    """Five samples of two rows; the shared matrix has eight numbers, so at_once // (8 draws) samples are a tile."""
    net, _ = NETS["rows"]
    theta, x = problem(net, (2, 3), n=5)
    r, J = linearize(lambda theta: net.apply(theta, x), theta)
    P = SampleGradients(J, [r * (k + 1) for k in range(draws)])
    expected, counts = host(P.dense()), []
    monkeypatch.setattr(samples, "_AT_ONCE", at_once)
    close(P.gram(), expected @ expected.T)
    monkeypatch.setattr(samples, "parallel", lambda f, items: counts.append(len(items)))
    P.gram()
    assert counts == [tiles]
