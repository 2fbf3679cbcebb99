"""The layerwise methods where rows of a sample share a matrix, against dense systems made of untied rows.

The nets: one matrix used three times, four rows a sample, and a convolution of 4 x 4 images with stride and padding.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from minigrad import Objective
from minigrad.autodiff import conv, ops
from minigrad.curvature import fisher, martens_preconditioner, per_sample_gradients, scores
from minigrad.losses import Categorical, Gaussian
from minigrad.nets import WhitenedNet, from_whitened
from minigrad.optimizers import (
    ACP,
    EKFAC,
    KFAC,
    PRONG,
    TONGA,
    CentredGD,
    DiagonalFisher,
    FixedDamping,
    NaturalGradient,
    SampleSpace,
    SquaredGradient,
)
from minigrad.optimizers.prong import coefficients
from tests.curvature.cases import cut_into_two_slices
from tests.curvature.test_shared_weights import NETS, WINDOW, Net, untied
from tests.helpers import close, dev, host, host_only
from tests.optimizers.problems import draw_of, sample_rows, take
from tests.optimizers.test_kfac import exact_scores

LAM = 0.03
PLAIN = {"lr": 1.0, "momentum": 0.0, "damping": FixedDamping(LAM)}
EPSILON = 0.05
each_net = pytest.mark.parametrize("name", NETS)
each_way = pytest.mark.parametrize("shared", ["expand", "reduce"])


def setting(name, dtype="float64", n=6, seed=1, weight_decay=0.0, loss=None):
    """(objective, theta, batch): inputs correlated and not centred."""
    net, shape = NETS[name]
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, *shape)) @ rng.standard_normal((shape[-1], shape[-1])) + 0.5
    theta, outputs = 0.6 * rng.standard_normal(net.layout.size), net.layout.shapes["out"][1]
    t = rng.integers(0, outputs, n)
    return Objective(net, loss or Categorical(), weight_decay), dev(theta, dtype), (dev(x, dtype), dev(t))


@dataclass
class Untied:
    """A layer: h1 (T, N, in + 1), delta (K, T, N, out) of K cotangents, and where its matrix lies in theta."""

    name: str
    span: slice
    h1: np.ndarray
    delta: np.ndarray

    T = property(lambda self: len(self.h1))
    N = property(lambda self: self.h1.shape[1])
    gradients = property(lambda self: np.einsum("tni,ktnj->knij", self.h1, self.delta).reshape(*self.kn, -1))
    kn = property(lambda self: (len(self.delta), self.N))
    block = property(lambda self: np.einsum("kni,knj->ij", self.gradients, self.gradients) / np.prod(self.kn))

    def factors(self, shared):
        if shared == "expand":
            A = np.einsum("tni,tnj->ij", self.h1, self.h1) / (self.T * self.N)
            return A, np.einsum("ktni,ktnj->ij", self.delta, self.delta) / np.prod(self.kn)
        h, delta = self.h1.mean(axis=0), self.delta.sum(axis=1)
        return h.T @ h / self.N, np.einsum("kni,knj->ij", delta, delta) / np.prod(self.kn)


def layers_of(name, objective, theta, batch, u=None):
    """[Untied] of both layers for u (K, N, O), by default of the samples' own losses, and the outputs r."""
    layout = objective.layout
    p = {key: host(view).astype("float64") for key, view in layout.views(theta).items()}
    rows = untied(name, dev(host(theta).astype("float64")), dev(host(batch[0]).astype("float64")))
    hidden = [np.tanh(h1 @ p["w"]) for h1, _ in rows]
    join = {"tied": lambda h: h[-1], "rows": lambda h: np.mean(h, axis=0), "images": np.hstack}[name]
    h1 = np.hstack([join(hidden), np.ones((len(hidden[0]), 1))])
    r = h1 @ p["out"]
    if u is None:
        u = (softmax(r) - np.eye(r.shape[1])[host(batch[1])])[None]
    delta = np.stack([np.einsum("kno,noj->knj", u, J) for _, J in rows], axis=1)
    spans = [layout.slices[key] for key in ("w", "out")]
    return [
        Untied("w", spans[0], np.stack([h1 for h1, _ in rows]), delta),
        Untied("out", spans[1], h1[None], u[:, None]),
    ], r


def softmax(r):
    e = np.exp(r - r.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def with_cotangents(name, kind, objective, theta, batch):
    """The layers of the Fisher information of this kind."""
    layers, r = layers_of(name, objective, theta, batch)
    return (
        layers if kind == "empirical" else layers_of(name, objective, theta, batch, exact_scores(Categorical(), r))[0]
    )


def gradient(name, objective, theta, batch):
    """(n,): by untied rows too."""
    layers, _ = layers_of(name, objective, theta, batch)
    g = np.concatenate([layer.gradients[0].mean(axis=0) for layer in layers])
    close(objective.alone.value_and_grad(theta, batch)[1], g + objective.weight_decay * host(theta), rtol=1e-10)
    return g + objective.weight_decay * host(theta)


def solved(name, objective, theta, batch, layers, matrix):
    """-matrix(layer)^-1 g, layer by layer."""
    g = gradient(name, objective, theta, batch)
    return -np.concatenate([np.linalg.solve(matrix(layer), g[layer.span]) for layer in layers])


# --- K-FAC, EKFAC, the diagonal ------------------------------------------------------------------------------


@each_net
@each_way
@pytest.mark.parametrize("kind", ["exact", "empirical"])
@pytest.mark.parametrize("eta", [0.0, 0.05])
def test_kfac_solves_with_A_kron_S(name, shared, kind, eta):
    problem = setting(name, weight_decay=eta)
    layers = with_cotangents(name, kind, *problem)
    new, state, _ = take(KFAC(**PLAIN, kind=kind, factored=False, shared=shared), *problem)
    damped = lambda layer: np.kron(*layer.factors(shared)) + (LAM + eta) * np.eye(layer.span.stop - layer.span.start)
    close(new - problem[1], solved(name, *problem, layers, damped), rtol=1e-9)
    for layer in layers:
        A, S = layer.factors(shared)
        close(state[f"A.{layer.name}"], A, rtol=1e-10)
        close(state[f"S.{layer.name}"], S, rtol=1e-10)


@each_net
@each_way
def test_kfacs_factored_damping(name, shared):
    problem = setting(name)
    new, _, _ = take(KFAC(**PLAIN, kind="exact", shared=shared), *problem)

    def damped(layer):
        A, S = layer.factors(shared)
        pi, root = np.sqrt(np.trace(A) / len(A) * len(S) / np.trace(S)), np.sqrt(LAM)
        return np.kron(A + pi * root * np.eye(len(A)), S + root / pi * np.eye(len(S)))

    close(new - problem[1], solved(name, *problem, with_cotangents(name, "exact", *problem), damped), rtol=1e-9)


@each_net
@each_way
@pytest.mark.parametrize("kind", ["exact", "empirical"])
def test_ekfac_has_the_blocks_own_diagonal_in_kfacs_eigenvectors(name, shared, kind):
    problem = setting(name)
    new, state, _ = take(EKFAC(**PLAIN, kind=kind, shared=shared), *problem)

    def damped(layer):
        Q, R, d = (host(state[f"{letter}.{layer.name}"]) for letter in "QRd")
        for turned in (Q.T @ layer.factors(shared)[0] @ Q, R.T @ layer.factors(shared)[1] @ R):
            close(turned, np.diag(np.diag(turned)), rtol=1e-9)
        basis = np.kron(Q, R)
        close(d.ravel(), np.diag(basis.T @ layer.block @ basis), rtol=1e-9)
        return basis @ np.diag(d.ravel() + LAM) @ basis.T

    close(new - problem[1], solved(name, *problem, with_cotangents(name, kind, *problem), damped), rtol=1e-9)


@each_net
@each_way
@pytest.mark.parametrize("seed", range(4))
def test_ekfac_is_no_farther_from_the_true_block_than_kfac(name, shared, seed):
    """In Frobenius norm, in the very basis of the factors; and here truly nearer."""
    objective, theta, batch = setting(name, seed=seed)
    options = {"kind": "exact", "shared": shared}
    _, ekfac, _ = take(EKFAC(**PLAIN, **options), objective, theta, batch)
    _, kfac, _ = take(KFAC(**PLAIN, factored=False, **options), objective, theta, batch)
    F = host(fisher(objective, theta, batch[0]).dense())
    for layer, where in objective.layout.slices.items():
        basis = np.kron(host(ekfac[f"Q.{layer}"]), host(ekfac[f"R.{layer}"]))
        mine, theirs = (
            np.linalg.norm(F[where, where] - basis @ np.diag(host(state[f"d.{layer}"]).ravel()) @ basis.T)
            for state in (ekfac, kfac)
        )
        A, S = (host(kfac[f"{letter}.{layer}"]) for letter in "AS")
        close(theirs, np.linalg.norm(F[where, where] - np.kron(A, S)), rtol=1e-9)
        assert mine < 0.999 * theirs


@each_net
def test_the_diagonal_method_has_the_blocks_diagonal(name):
    problem = setting(name)
    new, _, _ = take(DiagonalFisher(**PLAIN, kind="exact"), *problem)
    damped = lambda layer: np.diag(np.diag(layer.block) + LAM)
    close(new - problem[1], solved(name, *problem, with_cotangents(name, "exact", *problem), damped), rtol=1e-9)


EXACT = {
    "expand": (
        Net({"w": (4, 2)}, lambda p, x: ops.reshape(ops.affine(x, p["w"], name="w"), (x.shape[0], -1))),
        (3, 3),
        6,
    ),
    "reduce": (
        Net({"w": (19, 2)}, lambda p, x: conv.global_average(conv.convolution(x, p["w"], WINDOW, name="w"))),
        (4, 4, 2),
        2,
    ),
}


@pytest.mark.parametrize("shared", EXACT)
def test_kfacs_step_is_natural_gradients_where_theory_says_so(shared):
    """Linear nets under squared error: rows with losses of their own for expand, averaged rows for reduce."""
    net, shape, outputs = EXACT[shared]
    rng = np.random.default_rng(0)
    theta = dev(rng.standard_normal(net.layout.size))
    batch = dev(rng.standard_normal((5, *shape))), dev(rng.standard_normal((5, outputs)))
    objective = Objective(net, Gaussian(0.6))
    F, (_, g) = host(fisher(objective, theta, batch[0]).dense()), objective.value_and_grad(theta, batch)
    expected = -np.linalg.solve(F + LAM * np.eye(len(F)), host(g))
    for optimizer in (KFAC, EKFAC):
        options = {"factored": False} if optimizer is KFAC else {}
        steps = {
            way: host(take(optimizer(**PLAIN, kind="exact", shared=way, **options), objective, theta, batch)[0] - theta)
            for way in EXACT
        }
        close(steps[shared], expected, rtol=1e-9)
        other = steps["reduce" if shared == "expand" else "expand"]
        assert optimizer is EKFAC or np.abs(other - expected).max() > 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("method", [KFAC, EKFAC])
def test_ways_to_share_are_known_by_name(method):
    with pytest.raises(ValueError, match="unknown way to share 'reduced'; did you mean 'reduce'"):
        method(shared="reduced")
    assert method().shared == "expand"


@host_only
@each_net
@pytest.mark.parametrize(
    "optimizer",
    [
        KFAC(kind="exact", shared="reduce"),
        KFAC(kind="exact"),
        EKFAC(kind="exact", shared="reduce"),
        DiagonalFisher(kind="exact"),
        ACP(samples=None),
        ACP(samples=None, form="printed"),
        CentredGD(1.0),
        PRONG(samples=25, diagonal=True, signal=0.1),
    ],
    ids=str,
)
def test_slices_of_a_batch_add_up(name, optimizer, monkeypatch):
    objective, theta, batch = setting(name, n=25)  # so that A has no null space, whose eigenvectors are anybody's
    draw = lambda size=None: batch
    whole, state, _ = take(optimizer, objective, theta, batch, draw, np.random.default_rng(0), steps=2)
    cut_into_two_slices(monkeypatch)
    cut, other, _ = take(optimizer, objective, theta, batch, draw, np.random.default_rng(0), steps=2)
    if isinstance(optimizer, PRONG):
        whole, cut = (optimizer.canonical(*pair) for pair in ((whole, state), (cut, other)))
    close(cut, whole, rtol=1e-8)


# --- ACP and centred descent ---------------------------------------------------------------------------------


def alpha_of(alpha, layer):
    """SquaredGradient's: over samples and outputs the largest sum over rows."""
    return (layer.delta[0] ** 2).sum(axis=0).max() if isinstance(alpha, SquaredGradient) else alpha


@each_net
@pytest.mark.parametrize("form", ["damped", "printed"])
@pytest.mark.parametrize("alpha", [0.3, SquaredGradient()], ids=["fixed", "squared gradient"])
def test_acp_solves_with_the_mean_over_rows(name, form, alpha):
    objective, theta, batch = setting(name)
    new, _, _ = take(ACP(1.0, alpha=alpha, damping=LAM, samples=None, form=form), objective, theta, batch)
    for layer in layers_of(name, objective, theta, batch)[0]:
        G = layer.gradients[0].mean(axis=0).reshape(layer.h1.shape[2], -1)
        A, a = layer.factors("expand")[0], alpha_of(alpha, layer)
        if form == "damped":
            step = np.linalg.solve(np.kron(A, a * np.eye(G.shape[1])) + LAM * np.eye(G.size), G.ravel())
        else:
            mu = A[-1, :-1]
            C = A[:-1, :-1] - np.outer(mu, mu)
            weights = np.linalg.solve(C + LAM / a * np.eye(len(C)), G[:-1] - np.outer(mu, G[-1]))
            step = np.vstack([weights, G[-1:]]).ravel()
        close(host(theta - new)[layer.span], step, rtol=1e-9)


@each_net
def test_alpha_bounds_the_diagonal_of_S(name):
    """So it does with one row a sample; and S is E[sum_t delta_t' delta_t]."""
    objective, theta, batch = setting(name)
    x, t = batch
    r, J = objective.linearize(theta, x)
    alphas = SquaredGradient()(J, objective.loss.gradient(r, t, 1))
    for layer, alpha in zip(layers_of(name, objective, theta, batch)[0], alphas, strict=True):
        close(alpha, alpha_of(SquaredGradient(), layer), rtol=1e-10)
        assert np.diag(layer.factors("expand")[1]).max() <= host(alpha) * (1 + 1e-12)


@each_net
def test_centred_descent_subtracts_the_mean_over_rows(name):
    """G - mu' g_b for the weights, g_b for the bias, which is E[sum_t (h_t - mu)' delta_t] and E[sum_t delta_t]."""
    objective, theta, batch = setting(name)
    new, _, _ = take(CentredGD(1.0), objective, theta, batch)
    for layer in layers_of(name, objective, theta, batch)[0]:
        h, delta = layer.h1[:, :, :-1], layer.delta[0]
        weights = np.einsum("tni,tnj->ij", h - h.mean(axis=(0, 1)), delta) / layer.N
        close(host(theta - new)[layer.span], np.vstack([weights, delta.sum(axis=(0, 1)) / layer.N]).ravel(), rtol=1e-9)


# --- samples' gradients --------------------------------------------------------------------------------------


@each_net
def test_martens_preconditioner_and_sample_space(name):
    objective, theta, batch = setting(name)
    rows = sample_rows(objective, theta, batch)
    M = martens_preconditioner(per_sample_gradients(objective, theta, batch), LAM)
    close(M @ dev(np.ones(theta.size)), ((rows**2).mean(axis=0) + LAM) ** -0.75, rtol=1e-10)
    g, n = rows.mean(axis=0), theta.size
    new, _, _ = take(TONGA(1.0, FixedDamping(LAM)), objective, theta, batch)
    close(new - theta, -np.linalg.solve(np.cov(rows.T, bias=True) + LAM * np.eye(n), g), rtol=1e-9)
    optimizer = NaturalGradient(1.0, FixedDamping(LAM), SampleSpace(), metric="empirical")
    new, _, _ = take(optimizer, objective, theta, batch)
    close(new - theta, -np.linalg.solve(rows.T @ rows / len(rows) + LAM * np.eye(n), g), rtol=1e-9)


# --- PRONG ---------------------------------------------------------------------------------------------------


def pixels_of(name, objective, theta, x):
    """{layer: (the rows whose moments whiten it, (rows, C), how many of them meet the matrix at once)}."""
    w, out = layers_of(name, objective, theta, (x, dev(np.zeros(len(x), int))))[0]
    found = {"w": (w.h1[:, :, :-1].reshape(-1, w.h1.shape[2] - 1), 1), "out": (out.h1[0, :, :-1], 1)}
    if name == "images":
        found["w"] = np.pad(host(x).astype("float64"), [(0, 0), (1, 1), (1, 1), (0, 0)]).reshape(-1, 2), 9
    return found


def metric(name, objective, theta, x, S=None):
    """The inverse of the metric that PRONG's step has in theta, dense: for every layer of

        [[ I kron (C + epsilon I) + m'm, m' ], [ m, 1 ]] kron S,    m = (c ... c),

    patches as if their pixels were uncorrelated, each with the covariance C and the mean c of all."""
    P = np.zeros((theta.size, theta.size))
    for key, (pixels, count) in pixels_of(name, objective, theta, x).items():
        where, (n_in, n_out) = objective.layout.slices[key], objective.layout.shapes[key]
        C = np.cov(pixels.T, bias=True).reshape(pixels.shape[1], -1) + EPSILON * np.eye(pixels.shape[1])
        m = np.append(np.tile(pixels.mean(axis=0), count), 1.0)
        A = np.outer(m, m)
        A[:-1, :-1] += np.kron(np.eye(count), C)
        assert len(A) == n_in
        P[where, where] = np.kron(np.linalg.inv(A), np.eye(n_out) if S is None else np.linalg.inv(S[key]))
    return P


def stepped(optimizer, objective, theta, batches, draws, rng=None):
    """theta after each step, and the state."""
    point, state, path = theta, optimizer.init(objective, theta), []
    draw, _ = draw_of(*draws)
    for batch in batches:
        point, state, _ = optimizer.step(point, state, objective, batch, draw, rng)
        path.append(host(optimizer.canonical(point, state)))
    return path, point, state


@each_net
@pytest.mark.parametrize("eta", [0.0, 0.05])
def test_a_step_of_prong_is_a_preconditioned_step(name, eta):
    objective, theta, batch = setting(name, weight_decay=eta)
    sample = setting(name, n=20, seed=2)[2]
    (found,), _, _ = stepped(PRONG(0.1, samples=20, epsilon=EPSILON), objective, theta, [batch], [sample])
    P = metric(name, objective, theta, sample[0])
    close(found, host(theta) - 0.1 * P @ gradient(name, objective, theta, batch), rtol=1e-9)


@each_net
def test_momentum_is_carried_through_a_change_of_coordinates(name):
    objective, theta, _ = setting(name)
    batches, draws = (
        [setting(name, n=n, seed=s)[2] for s in seeds] for n, seeds in ((6, range(5)), (20, range(7, 10)))
    )
    optimizer = PRONG(0.05, momentum=0.8, interval=2, samples=20, epsilon=EPSILON)
    path, _, _ = stepped(optimizer, objective, theta, batches, draws)
    expected, v = host(theta), np.zeros(theta.size)
    for t, (batch, found) in enumerate(zip(batches, path, strict=True)):
        if t % 2 == 0:
            P = metric(name, objective, dev(expected), draws[t // 2][0])
        v = 0.8 * v - 0.05 * P @ gradient(name, objective, dev(expected), batch)
        expected = expected + v
        close(found, expected, rtol=1e-9)


@each_net
@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-12), ("float32", 2e-5)])
def test_whitening_changes_neither_function_nor_theta(name, dtype, rtol):
    """Rounding: 1e-16 or 1e-7 times the condition of U, about 10 with this epsilon, and some ten operations."""
    objective, theta, batch = setting(name, dtype)
    optimizer, rng = PRONG(0.3, momentum=0.5, samples=20, epsilon=EPSILON, signal=0.1), np.random.default_rng(0)
    xs = [setting(name, dtype, n=20, seed=s)[2][0] for s in (2, 3)]
    point, state = theta, optimizer.init(objective, theta)
    r = objective.net.apply(theta, batch[0])
    for x in xs:
        point, state = optimizer.reparametrized(point, state, objective, x, rng)
        assert point.dtype == np.dtype(dtype)
        close(optimizer.canonical(point, state), theta, rtol=rtol)
        whitened = WhitenedNet(objective.net, coefficients(state))
        assert np.abs(host(point - theta)).max() > 0.1
        close(whitened.apply(point, batch[0]), r, rtol=rtol)


@each_net
@pytest.mark.parametrize("epsilon", [0.0, 0.05])
def test_whitened_pixels_have_the_identity_for_covariance(name, epsilon):
    """diag(lam / (lam + epsilon)), and mean 0; on the tape of the whitened net itself, where padding is part of x."""
    objective, theta, _ = setting(name)
    x = setting(name, n=20, seed=2)[2][0]
    optimizer = PRONG(samples=20, epsilon=epsilon)
    point, state = optimizer.reparametrized(theta, optimizer.init(objective, theta), objective, x)
    _, J = Objective(WhitenedNet(objective.net, coefficients(state)), Categorical()).linearize(point, x)
    seen = {key: [] for key in objective.layout.names}
    for node in J.nodes:
        for i, linear in node.inputs:
            if i in J.parameters:
                h, window = linear.factor
                assert window is None or window.padding == (0, 0)
                seen[J.parameters[i].name].append(host(h).reshape(-1, h.shape[-1]))
    for key, (pixels, _) in pixels_of(name, objective, theta, x).items():
        white = np.vstack(seen[key])
        lam = np.linalg.eigvalsh(np.cov(pixels.T, bias=True).reshape(pixels.shape[1], -1))
        close(white.mean(axis=0), np.zeros(white.shape[1]), atol=1e-12)
        close(white.T @ white / len(white), np.diag(lam / (lam + epsilon)), rtol=1e-9)


@each_net
def test_the_diagonal_variant_is_one_more_change_of_coordinates(name):
    """theta -= lr B D^2 B' g, D^2 = 1 / (var(h~) + epsilon |u|^2) over the batch's pixels, and 1 for the bias."""
    objective, theta, batch = setting(name)
    sample = setting(name, n=20, seed=2)[2]
    optimizer = PRONG(0.1, samples=20, epsilon=EPSILON, diagonal=True)
    (found,), _, state = stepped(optimizer, objective, theta, [batch], [sample])
    B, D2 = host(from_whitened(coefficients(state), theta.size).dense()), []
    for layer in coefficients(state):
        pixels, count = pixels_of(name, objective, theta, batch[0])[layer.name]
        U, c = host(layer.U), host(layer.c)
        d2 = 1 / (((pixels - c) @ U.T).var(axis=0) + EPSILON * (U**2).sum(axis=1))
        D2.append(np.repeat(np.append(np.tile(d2, count), 1.0), objective.layout.shapes[layer.name][1]))
    D2 = np.concatenate(D2)
    close(found, host(theta) - 0.1 * B @ (D2 * (B.T @ gradient(name, objective, theta, batch))), rtol=1e-9)
    assert np.abs(D2 - 1).max() > 0.1


@each_net
def test_the_diagonal_variant_on_the_samples_themselves_changes_nothing(name):
    objective, theta, batch = setting(name)
    options = {"samples": 6, "epsilon": EPSILON, "momentum": 0.9}
    plain, variant = (
        stepped(PRONG(0.1, **options, diagonal=diagonal), objective, theta, [batch], [batch])[0][0]
        for diagonal in (False, True)
    )
    close(variant, plain, rtol=1e-10)


@each_net
def test_before_the_first_measurement_the_diagonal_variant_divides_by_the_inputs_variance(name):
    objective, theta, batch = setting(name)
    (found,), _, _ = stepped(PRONG(0.1, first=1, epsilon=EPSILON, diagonal=True), objective, theta, [batch], [])
    g = gradient(name, objective, theta, batch)
    for key, (pixels, count) in pixels_of(name, objective, theta, batch[0]).items():
        where, (n_in, n_out) = objective.layout.slices[key], objective.layout.shapes[key]
        g[where] /= np.repeat(np.append(np.tile(pixels.var(axis=0) + EPSILON, count), 1.0), n_out)
        assert where.stop - where.start == n_in * n_out
    close(found, host(theta) - 0.1 * g, rtol=1e-9)


@each_net
def test_a_whitened_signal_divides_by_S_of_expand(name):
    objective, theta, batch = setting(name)
    sample = setting(name, n=20, seed=2)[2]
    optimizer = PRONG(0.1, samples=20, epsilon=EPSILON, signal=0.2)
    (found,), _, _ = stepped(optimizer, objective, theta, [batch], [sample], np.random.default_rng(4))
    r, _ = objective.linearize(theta, sample[0])
    u = np.stack([host(one) for one in scores(objective.loss, r, kind="mc", rng=np.random.default_rng(4))])
    layers = layers_of(name, objective, theta, sample, u)[0]
    S = {layer.name: layer.factors("expand")[1] + 0.2 * np.eye(layer.delta.shape[3]) for layer in layers}
    P = metric(name, objective, theta, sample[0], S)
    close(found, host(theta) - 0.1 * P @ gradient(name, objective, theta, batch), rtol=1e-9)


def normalized(p, x):
    """A convolution with batch normalization over samples and places, then an output layer."""
    a = conv.convolution(x, p["w"], WINDOW, name="w")
    mu = ops.mean(a, axis=(0, 1, 2))
    a = (a - mu) * ops.power(ops.mean((a - mu) * (a - mu), axis=(0, 1, 2)) + 0.1, -0.5)
    h = ops.tanh(a * p["scale"] + p["shift"])
    return ops.affine(ops.reshape(h, (h.shape[0], -1)), p["out"], name="out")


class Normalized(Net):
    couples_samples = True


def test_prong_plus_is_the_same_on_a_net_with_batch_normalization():
    """Scale and shift follow their gradient; the convolution is whitened by the pixels of x as ever."""
    shapes = {"w": (19, 2), "scale": (2,), "shift": (2,), "out": (9, 3)}
    net, rng = Normalized(shapes, normalized), np.random.default_rng(0)
    theta = dev(0.6 * rng.standard_normal(net.layout.size))
    batch, sample = ((dev(rng.standard_normal((n, 4, 4, 2)) + 0.5), dev(rng.integers(0, 3, n))) for n in (6, 20))
    objective = Objective(net, Categorical())
    (found,), _, _ = stepped(PRONG(0.1, samples=20, epsilon=EPSILON), objective, theta, [batch], [sample])
    step = (host(theta) - found) / 0.1
    g = host(objective.value_and_grad(theta, batch)[1])
    p = {key: host(view) for key, view in net.layout.views(theta).items()}
    a = conv.convolution(sample[0], dev(p["w"]), WINDOW)
    a = (host(a) - host(a).mean(axis=(0, 1, 2))) / np.sqrt(host(a).var(axis=(0, 1, 2)) + 0.1)
    hidden = np.tanh(a * p["scale"] + p["shift"]).reshape(20, -1)
    pixels = np.pad(host(sample[0]), [(0, 0), (1, 1), (1, 1), (0, 0)]).reshape(-1, 2)
    for key, (rows, count) in {"w": (pixels, 9), "out": (hidden, 1)}.items():
        m = np.append(np.tile(rows.mean(axis=0), count), 1.0)
        A = np.outer(m, m)
        A[:-1, :-1] += np.kron(np.eye(count), np.cov(rows.T, bias=True) + EPSILON * np.eye(rows.shape[1]))
        where = net.layout.slices[key]
        close(step[where], np.linalg.solve(A, g[where].reshape(len(A), -1)).ravel(), rtol=1e-8)
    for key in ("scale", "shift"):
        close(step[net.layout.slices[key]], g[net.layout.slices[key]], rtol=1e-8)


# --- refusals ------------------------------------------------------------------------------------------------

BATCH = dev(np.ones((2, 3))), dev(np.zeros((2, 2)))
LAYERWISE = [KFAC(), EKFAC(), DiagonalFisher(), ACP(samples=None)]
shifted = Net({"w": (4, 2), "shift": (2,)}, lambda p, x: ops.affine(x, p["w"], name="w") + p["shift"])
twice = Net({"w": (4, 2)}, lambda p, x: ops.affine(x, p["w"], name="w") + ops.sum(p["w"]))
wrong_rows = Net(
    {"w": (4, 2)}, lambda p, x: ops.mean(ops.affine(ops.transpose(x, (1, 0, 2)), p["w"], name="w"), axis=0)
)
product = Net({"w": (3, 2)}, lambda p, x: x @ p["w"])
constant = Net({"w": (4, 2)}, lambda p, x: x[:, :2])
REFUSALS = {
    "other parameters": (shifted, BATCH[0], "'shift' is used by add"),
    "another use": (twice, BATCH[0], "'w' is used by affine, sum"),
    "no affine layer": (product, BATCH[0], "'w' is used by matmul"),
    "no use": (constant, BATCH[0], "the net has no affine layer"),
    "rows of no sample": (wrong_rows, dev(np.ones((2, 5, 3))), r"'w' is applied to rows \(5, 2\), of no sample each"),
}


@pytest.mark.parametrize("optimizer", LAYERWISE, ids=str)
@pytest.mark.parametrize(("net", "x", "message"), REFUSALS.values(), ids=REFUSALS)
def test_nets_without_factors_are_refused(optimizer, net, x, message):
    if isinstance(optimizer, ACP):  # it asks for every layer's input before any delta
        message = f"ACP: '(w|shift)' is not the matrix of an affine layer|{message}"
    theta = dev(np.ones(net.layout.size))
    with pytest.raises(NotImplementedError, match=message):
        take(optimizer, Objective(net, Gaussian()), theta, (x, BATCH[1]), rng=np.random.default_rng(0))


def test_coupled_samples_are_refused():
    net = Normalized({"w": (19, 2), "scale": (2,), "shift": (2,), "out": (9, 3)}, normalized)
    batch = dev(np.random.default_rng(0).standard_normal((4, 4, 4, 2))), dev(np.zeros(4, int))
    with pytest.raises(NotImplementedError, match="couples the samples"):
        take(KFAC(), Objective(net, Categorical()), dev(np.ones(net.layout.size)), batch, rng=np.random.default_rng(0))
