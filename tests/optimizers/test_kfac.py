"""K-FAC, EKFAC and the diagonal method against dense matrices, built sample by sample from complex steps."""

from dataclasses import dataclass

import numpy as np
import pytest

from minigrad import Objective, backend
from minigrad.autodiff import ops
from minigrad.curvature import fisher, scores
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import Layout, mlp
from minigrad.optimizers import (
    EKFAC,
    KFAC,
    SGD,
    DiagonalFisher,
    FixedDamping,
    InverseTime,
    LevenbergMarquardt,
    RMSProp,
    Waterfall,
    stopwatch,
)
from minigrad.optimizers.quadratic_model import Model
from tests.curvature.cases import cut_into_two_slices
from tests.helpers import close, dev, host, host_only
from tests.nets.reference import ACTIVATIONS, complex_jacobian, distribution, forward
from tests.optimizers.problems import each_loss, no_draw, problem, sample_rows, take

LAM = 0.03
PLAIN = {"lr": 1.0, "momentum": 0.0, "damping": FixedDamping(LAM)}
METHODS = [KFAC, EKFAC, DiagonalFisher]
each_method = pytest.mark.parametrize("method", METHODS)
each_kind = pytest.mark.parametrize("kind, samples", [("exact", 1), ("mc", 1), ("mc", 3), ("empirical", 1)])


# --- the same in plain NumPy ---------------------------------------------------------------------------------


@dataclass
class Dense:
    """One layer: h1 (N, in + 1), deltas (K, N, out) and rows (K, N, n), all as a mean over K draws and N samples."""

    name: str
    span: slice
    h1: np.ndarray
    deltas: np.ndarray
    rows: np.ndarray

    mean = staticmethod(lambda v: np.einsum("kni,knj->ij", v, v) / (v.shape[0] * v.shape[1]))
    A = property(lambda self: self.h1.T @ self.h1 / len(self.h1))
    S = property(lambda self: self.mean(self.deltas))
    block = property(lambda self: self.mean(self.rows))


def dense(objective, theta, batch, kind="exact", samples=1, seed=5):
    """The layers, with rows whose mean outer product is the Fisher information of this kind."""
    net, loss, z, x = objective.net, objective.loss, host(theta), host(batch[0])
    r = forward(net, z, x)
    if kind == "exact":
        u = exact_scores(loss, r)
    else:
        rng = np.random.default_rng(seed)
        u = np.array([host(u) for u in scores(loss, dev(r), batch[1], kind, rng=rng, samples=samples)])
    rows = np.einsum("kno,noi->kni", u, complex_jacobian(lambda z: forward(net, z, x), z))
    layers, h, start = [], x, 0
    for name, (n_in, n_out), activation in zip(net.names, net.layout.shapes.values(), net.activations, strict=True):
        span, h1 = slice(start, start + n_in * n_out), np.hstack([h, np.ones((len(h), 1))])
        start = span.stop
        mine = rows[:, :, span]
        layers.append(Dense(name, span, h1, mine[:, :, -n_out:], mine))  # d r / d bias is d r / d a
        h = ACTIVATIONS[activation](h1 @ z[span].reshape(n_in, n_out))
    return layers


def exact_scores(loss, r):
    """(O, N, O): the columns of a root of O times each sample's metric."""
    y, outputs = distribution(loss, r), r.shape[1]
    diagonal = lambda c: c[:, :, None] * np.eye(outputs)
    M = {
        "Gaussian": lambda: diagonal(np.ones_like(y)) / getattr(loss, "beta", 1) ** 2,
        "Bernoulli": lambda: diagonal(y * (1 - y)),
        "Categorical": lambda: diagonal(y) - y[:, :, None] * y[:, None, :],
    }[type(loss).__name__]()
    e, Q = np.linalg.eigh(M)
    return np.moveaxis(Q * np.sqrt(outputs * e.clip(0))[:, None, :], 2, 0)


def gradient(objective, theta, batch):
    return host(objective.value_and_grad(theta, batch)[1])


def solved(objective, theta, batch, layers, matrix):
    """-matrix(layer)^-1 g, layer by layer."""
    g = gradient(objective, theta, batch)
    return -np.concatenate([np.linalg.solve(matrix(layer), g[layer.span]) for layer in layers])


def draws(seed=5):
    return np.random.default_rng(seed)


# --- one step ------------------------------------------------------------------------------------------------


@each_loss
@each_kind
@pytest.mark.parametrize("eta", [0.0, 0.05])
def test_kfac_with_exact_damping_solves_with_A_kron_S_plus_lam(loss, kind, samples, eta):
    objective, theta, batch = problem(loss, weight_decay=eta)
    optimizer = KFAC(**PLAIN | {"lr": 0.3}, kind=kind, samples=samples, factored=False)
    new, state, log = take(optimizer, objective, theta, batch, rng=draws())
    layers = dense(objective, theta, batch, kind, samples)
    damped = lambda layer: np.kron(layer.A, layer.S) + (LAM + eta) * np.eye(layer.A.shape[0] * layer.S.shape[0])
    close(new - theta, 0.3 * solved(objective, theta, batch, layers, damped), rtol=1e-10)
    for layer in layers:
        close(state[f"A.{layer.name}"], layer.A)
        close(state[f"S.{layer.name}"], layer.S)
    assert log["lr"] == 0.3 and log["momentum"] == 0.0 and log["taken"] == 1.0 and log["damping"] == LAM
    assert log["gradient_norm"] == pytest.approx(np.linalg.norm(gradient(objective, theta, batch)))


@each_loss
@pytest.mark.parametrize("eta", [0.0, 0.05])
def test_factored_damping_is_that_of_section_6_3(loss, eta):
    objective, theta, batch = problem(loss, weight_decay=eta)
    new, _, _ = take(KFAC(**PLAIN, kind="exact"), objective, theta, batch)

    def damped(layer):
        (m, _), (n, _) = layer.A.shape, layer.S.shape
        pi, root = np.sqrt(np.trace(layer.A) / m * n / np.trace(layer.S)), np.sqrt(LAM + eta)
        return np.kron(layer.A + pi * root * np.eye(m), layer.S + root / pi * np.eye(n))

    close(new - theta, solved(objective, theta, batch, dense(objective, theta, batch), damped), rtol=1e-10)


@each_loss
@each_kind
def test_ekfac_solves_with_its_diagonal_in_the_eigenvectors(loss, kind, samples):
    objective, theta, batch = problem(loss, weight_decay=0.05)
    new, state, _ = take(EKFAC(**PLAIN, kind=kind, samples=samples), objective, theta, batch, rng=draws())
    layers = dense(objective, theta, batch, kind, samples)

    def damped(layer):
        Q, R, d = (host(state[f"{letter}.{layer.name}"]) for letter in "QRd")
        basis = np.kron(Q, R)
        close(basis.T @ basis, np.eye(len(basis)))
        for rotated in (Q.T @ layer.A @ Q, R.T @ layer.S @ R):
            close(rotated, np.diag(np.diag(rotated)), rtol=1e-10)
        close(d.ravel(), np.diag(basis.T @ layer.block @ basis), rtol=1e-10)
        return basis @ np.diag(d.ravel() + LAM + 0.05) @ basis.T

    close(new - theta, solved(objective, theta, batch, layers, damped), rtol=1e-10)


@each_loss
@each_kind
def test_the_diagonal_method_solves_with_the_diagonal(loss, kind, samples):
    objective, theta, batch = problem(loss, weight_decay=0.05)
    new, _, _ = take(DiagonalFisher(**PLAIN, kind=kind, samples=samples), objective, theta, batch, rng=draws())
    layers = dense(objective, theta, batch, kind, samples)
    damped = lambda layer: np.diag(np.diag(layer.block) + LAM + 0.05)
    close(new - theta, solved(objective, theta, batch, layers, damped), rtol=1e-10)


def test_rmsprop_on_single_samples_has_the_empirical_diagonal_under_its_root():
    """Of one sample the mean's square is the mean of squares; of more it is not, and then the methods part."""
    objective, theta, (x, t) = problem(Bernoulli())
    one = x[:1], t[:1]
    _, state, _ = take(DiagonalFisher(**PLAIN, kind="empirical"), objective, theta, one)
    d = np.concatenate([host(state[f"d.{name}"]).ravel() for name in objective.net.names])
    _, theirs, _ = take(RMSProp(decay=0.9), objective, theta, one)
    close(theirs["squares"], 0.1 * d)
    _, state, _ = take(DiagonalFisher(**PLAIN, kind="empirical"), objective, theta, (x, t))
    d = np.concatenate([host(state[f"d.{name}"]).ravel() for name in objective.net.names])
    close(d, (sample_rows(objective, theta, (x, t)) ** 2).mean(axis=0))
    assert (d > gradient(objective, theta, (x, t)) ** 2).all()


# --- where K-FAC is exact --------------------------------------------------------------------------------------


@each_loss
@pytest.mark.parametrize("kind", ["exact", "mc", "empirical"])
def test_kfac_is_exact_for_one_sample(loss, kind):
    objective, theta, (x, t) = problem(loss, sizes=(4, 5, 3, 2))
    one = x[:1], t[:1]
    new, _, _ = take(KFAC(**PLAIN, kind=kind, factored=False), objective, theta, one, rng=draws())
    damped = lambda layer: layer.block + LAM * np.eye(len(layer.block))
    close(new - theta, solved(objective, theta, one, dense(objective, theta, one, kind), damped), rtol=1e-10)
    if kind == "exact":  # and the block is the library's exact Fisher information's
        F = host(fisher(objective, theta, one[0]).dense())
        for layer in dense(objective, theta, one):
            close(layer.block, F[layer.span, layer.span], rtol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.05])
def test_kfac_is_exact_for_linear_nets_with_squared_error(eta):
    """delta does not depend on the sample: the exact block-diagonal natural gradient, at any depth."""
    rng = np.random.default_rng(0)
    objective = Objective(mlp([4, 3, 5, 2], activation="linear"), Gaussian(0.6), eta)
    theta, batch = objective.net.init(rng, "float64"), (dev(rng.normal(size=(40, 4))), dev(rng.normal(size=(40, 2))))
    new, _, _ = take(KFAC(**PLAIN, kind="exact", factored=False), objective, theta, batch)
    F = host(fisher(objective, theta, batch[0]).dense())
    damped = lambda layer: F[layer.span, layer.span] + (LAM + eta) * np.eye(layer.rows.shape[2])
    close(new - theta, solved(objective, theta, batch, dense(objective, theta, batch), damped), rtol=1e-10)


@pytest.mark.parametrize("options", [{"factored": True}, {"factored": False}, None], ids=str)
def test_one_step_solves_a_linear_least_squares_problem(options):
    """One linear layer: the Fisher information is the Hessian, A kron I / beta^2, and the step is Newton's."""
    objective, theta, (x, t) = problem(Gaussian(0.6), sizes=(5, 2))
    undamped = {"lr": 1.0, "momentum": 0.0, "damping": FixedDamping(0.0), "kind": "exact"}
    optimizer = EKFAC(**undamped) if options is None else KFAC(**undamped, **options)
    new, _, _ = take(optimizer, objective, theta, (x, t))
    rows = np.hstack([host(x), np.ones((len(x), 1))])
    close(new, np.linalg.lstsq(rows, host(t), rcond=None)[0].ravel(), rtol=1e-10)


def frobenius(matrix, state, layer, d):
    Q, R = host(state[f"Q.{layer.name}"]), host(state[f"R.{layer.name}"])
    basis = np.kron(Q, R)
    return np.linalg.norm(matrix - basis @ np.diag(d.ravel()) @ basis.T)


@pytest.mark.parametrize("seed", range(20))
def test_ekfac_is_no_farther_from_the_true_block_than_kfac(seed):
    """George et al. 2018, in Frobenius norm; equal where K-FAC is exact. 20 nets of random widths, losses and kinds."""
    rng = np.random.default_rng(seed)
    loss = [Gaussian(0.6), Bernoulli(), Categorical()][seed % 3]
    kind = ["exact", "mc", "empirical"][rng.integers(3)]
    sizes, samples = rng.integers(2, 6, rng.integers(2, 5)), int(rng.integers(1, 30))
    objective, theta, batch = problem(loss, sizes, samples, seed)
    _, ekfac, _ = take(EKFAC(**PLAIN, kind=kind), objective, theta, batch, rng=draws())
    _, kfac, _ = take(KFAC(**PLAIN, kind=kind, factored=False), objective, theta, batch, rng=draws())
    nearer = False
    for layer in dense(objective, theta, batch, kind):
        mine = frobenius(layer.block, ekfac, layer, host(ekfac[f"d.{layer.name}"]))
        theirs = frobenius(layer.block, ekfac, layer, host(kfac[f"d.{layer.name}"]))
        close(theirs, np.linalg.norm(layer.block - np.kron(layer.A, layer.S)), rtol=1e-10, atol=1e-12)
        assert mine <= theirs + 1e-10
        nearer |= bool(mine < 0.99 * theirs)
    assert nearer or samples == 1 or (len(sizes) == 2 and isinstance(loss, Gaussian))


# --- from update to update ---------------------------------------------------------------------------------------


def run_on(optimizer, objective, theta, batches):
    """[(theta before, state after, log)] of steps on batches, each with an rng of its own, and the last theta."""
    state, seen = optimizer.init(objective, theta), []
    for k, batch in enumerate(batches):
        before = theta
        theta, state, log = optimizer.step(theta, state, objective, batch, no_draw, draws(k))
        seen.append((before, state, log))
    return seen, theta


def batches_of(loss, count=5, samples=12):
    """(objective, theta, batches)."""
    objective, theta, (x, t) = problem(loss, samples=count * samples)
    return objective, theta, [(x[i : i + samples], t[i : i + samples]) for i in range(0, count * samples, samples)]


def plain_averages(values, decay):
    """Section 5: epsilon_k = min(1 - 1/k, decay)."""
    total, found = 0, []
    for k, value in enumerate(values, start=1):
        keep = min(1 - 1 / k, decay)
        total = keep * total + (1 - keep) * value
        found.append(total)
    return found


@pytest.mark.parametrize("method", [KFAC, EKFAC])
@pytest.mark.parametrize("decay", [0.0, 0.6, 0.95])
def test_A_and_S_are_running_averages(method, decay):
    """With decay 0.6 the means of the first two updates are plain, those of the later ones weigh 0.4 each."""
    objective, theta, batches = batches_of(Categorical())
    seen, _ = run_on(method(**PLAIN | {"lr": 0.2}, decay=decay, interval=2), objective, theta, batches)
    layers = [dense(objective, seen[k][0], batch, "mc", seed=k) for k, batch in enumerate(batches)]
    for letter in "AS":
        for i, name in enumerate(objective.net.names):
            expected = plain_averages([getattr(at[i], letter) for at in layers], decay)
            for (_, state, _), average in zip(seen, expected, strict=True):
                close(state[f"{letter}.{name}"], average)


def test_the_diagonal_is_a_running_average():
    objective, theta, batches = batches_of(Bernoulli())
    seen, _ = run_on(DiagonalFisher(**PLAIN | {"lr": 0.2}, decay=0.6), objective, theta, batches)
    layers = [dense(objective, seen[k][0], batch, "mc", seed=k) for k, batch in enumerate(batches)]
    for i, name in enumerate(objective.net.names):
        expected = plain_averages([np.diag(at[i].block) for at in layers], 0.6)
        for (_, state, _), average in zip(seen, expected, strict=True):
            close(state[f"d.{name}"].reshape(-1), average)


def same(before, after, letter, name):
    return np.array_equal(*(host(state[f"{letter}.{name}"]) for state in (before, after)))


KEPT = {
    "factored": (KFAC(**PLAIN, interval=3), ("A_inverse", "S_inverse")),
    "exact": (KFAC(**PLAIN, interval=3, factored=False), ("Q", "R", "d")),
    "EKFAC": (EKFAC(**PLAIN, interval=3), ("Q", "R")),
}


@pytest.mark.parametrize("optimizer, letters", KEPT.values(), ids=KEPT)
def test_inverses_are_refreshed_at_updates_1_4_7_and_statistics_at_every_one(optimizer, letters):
    objective, theta, batches = batches_of(Bernoulli(), count=7)
    states = [state for _, state, _ in run_on(optimizer, objective, theta, batches)[0]]
    always = ("A", "S", "d") if isinstance(optimizer, EKFAC) else ("A", "S")
    for k in range(1, 7):
        for name in objective.net.names:
            kept = [same(states[k - 1], states[k], letter, name) for letter in letters]
            assert kept == [k not in (3, 6)] * len(letters)
            assert not any(same(states[k - 1], states[k], letter, name) for letter in always)


def test_an_inverse_between_refreshes_is_that_of_the_older_statistics():
    """Factored damping keeps the lam of the refresh, too; exact damping takes today's."""
    objective, theta, batches = batches_of(Gaussian(0.6), count=2)
    damping = LevenbergMarquardt(0.5, factor=3.0, low=100.0, high=200.0)  # lam trebles at every update
    for factored in (True, False):
        optimizer = KFAC(1.0, 0.0, damping, "exact", factored=factored)
        seen, last = run_on(optimizer, objective, theta, batches)
        (_, first, _), (before, _, log) = seen
        assert log["damping"] == 1.5

        def damped(layer, factored=factored):
            (m, _), (n, _) = layer.A.shape, layer.S.shape
            if not factored:
                return np.kron(layer.A, layer.S) + 1.5 * np.eye(m * n)
            pi = np.sqrt(np.trace(layer.A) / m * n / np.trace(layer.S))
            return np.kron(layer.A + pi * 0.5**0.5 * np.eye(m), layer.S + 0.5**0.5 / pi * np.eye(n))

        expected = solved(objective, before, batches[1], dense(objective, theta, batches[0]), damped)
        close(last - before, expected, rtol=1e-10)


def test_when_ekfacs_basis_turns_d_goes_on_as_what_it_said_in_the_old_one():
    objective, theta, batches = batches_of(Categorical(), count=3)
    seen, _ = run_on(EKFAC(**PLAIN | {"lr": 0.3}, interval=2, decay=0.6), objective, theta, batches)
    (_, old, _), (before, new, _) = seen[1:]
    for layer in dense(objective, before, batches[2], "mc", seed=2):
        turned, basis = (np.kron(*(host(state[f"{letter}.{layer.name}"]) for letter in "QR")) for state in (old, new))
        said = turned @ np.diag(host(old[f"d.{layer.name}"]).ravel()) @ turned.T
        assert abs(turned - basis).max() > 0.1
        expected = np.diag(basis.T @ (0.6 * said + 0.4 * layer.block) @ basis)
        close(new[f"d.{layer.name}"].reshape(-1), expected, rtol=1e-10)


# --- the exact quadratic model -------------------------------------------------------------------------------------


def model_of(objective, theta, batch, lam):
    """g and the matrix of the model, (G + (eta + lam) I)."""
    G = host(fisher(objective, theta, batch[0]).dense())
    return gradient(objective, theta, batch), G + (lam + objective.weight_decay) * np.eye(len(G))


@each_loss
@pytest.mark.parametrize("lr, momentum", [(None, None), (None, 0.0), (None, 0.7), (0.2, None)])
def test_alpha_and_mu_are_least_in_the_exact_model(loss, lr, momentum):
    """Sections 6.4 and 7, by SciPy's least squares on the 2 x 2 system of dense matrices; the first update has no d."""
    objective, theta, (x, t) = problem(loss, weight_decay=0.02, samples=60)
    batches = [(x[i : i + 20], t[i : i + 20]) for i in (0, 20, 40)]
    optimizer = KFAC(lr, momentum, FixedDamping(LAM), "exact", factored=False)
    seen, last = run_on(optimizer, objective, theta, batches)
    points, steps = [before for before, _, _ in seen] + [last], [0 * theta] + [state["d"] for _, state, _ in seen]
    statistics = [dense(objective, point, batch) for point, batch in zip(points, batches)]
    for k, (before, state, log) in enumerate(seen):
        g, B = model_of(objective, before, batches[k], LAM)
        damped = lambda layer: np.kron(layer.A, layer.S) + (LAM + 0.02) * np.eye(layer.rows.shape[2])
        V = np.array([solved(objective, before, batches[k], statistics[0], damped), host(steps[k])]).T
        c = np.array([np.nan if lr is None else lr, np.nan if momentum is None else momentum])
        free = np.isnan(c) & (np.abs(V).sum(axis=0) > 0)
        c = np.where(np.isnan(c), 0.0, c)
        if free.any():
            rest = g + B @ V @ np.where(free, 0.0, c)
            c[free] = -np.linalg.solve(V[:, free].T @ B @ V[:, free], V[:, free].T @ rest)
        assert [log["lr"], log["momentum"]] == pytest.approx(list(c), rel=1e-8, abs=1e-12)
        close(state["d"], V @ c, rtol=1e-8)
        close(points[k + 1], host(before) + V @ c, rtol=1e-8)


@host_only
def test_no_other_combination_promises_more():
    """By a search that knows no gradient of the model."""
    from scipy.optimize import minimize

    objective, theta, batch = problem(Categorical(), weight_decay=0.02)
    optimizer = EKFAC(damping=FixedDamping(LAM))
    theta, state, _ = take(optimizer, objective, theta, batch, rng=draws())
    _, after, log = optimizer.step(theta, state, objective, batch, no_draw, draws())
    g, B = model_of(objective, theta, batch, LAM)
    D, before = (host(after["d"]) - log["momentum"] * host(state["d"])) / log["lr"], host(state["d"])
    promise = lambda d: g @ d + d @ B @ d / 2
    found = minimize(lambda c: promise(c[0] * D + c[1] * before), [0, 0], method="Nelder-Mead", options={"xatol": 1e-7})
    assert promise(after["d"]) <= found.fun + 1e-12
    assert found.x == pytest.approx([log["lr"], log["momentum"]], rel=1e-4)


def test_the_reduction_ratio_is_with_the_undamped_model():
    """As of the other methods; weight decay is curvature of the objective, and belongs to it."""
    objective, theta, batch = problem(Categorical(), weight_decay=0.02)
    for options in ({}, {"lr": 0.3, "momentum": 0.5}, {"lr": 0.3, "momentum": 0.0}):
        optimizer = KFAC(damping=LevenbergMarquardt(0.4), **options)
        (_, state, _), (before, after, log) = run_on(optimizer, objective, theta, [batch] * 2)[0]
        g, B = model_of(objective, before, batch, 0.0)
        d = host(after["d"])
        change = objective.value(before + after["d"], batch) - objective.value(before, batch)
        assert log["rho"] == pytest.approx(change / (g @ d + d @ B @ d / 2), rel=1e-8)
        assert after["lam"] == optimizer.damping.adapt(state["lam"], log["rho"])


def test_model_of_vectors_that_are_zero_or_parallel():
    """No direction, no step; of two parallel vectors the first does it alone."""
    zeros = [[0.0, 0.0], [0.0, 0.0]]
    assert Model([0.0, 0.0], zeros, zeros, 1e-12).minimum([None, None], 1.0) == [0.0, 0.0]
    assert Model([-2.0, 0.0], [[4.0, 0.0], [0.0, 0.0]], zeros, 1e-12).minimum([None, None], 0.0) == [0.5, 0.0]
    assert Model([-2.0, -4.0], [[4.0, 8.0], [8.0, 16.0]], zeros, 1e-12).minimum([None, None], 0.0) == [0.5, 0.0]
    for p, q in [(1.0, 1.0), (1e3, 1e-3), (1e-3, 1e3), (1e3, 1e2), (1e-3, 1e-2)]:  # lengths, at an angle of sin^2 1e-6
        nearly = [[p * p, p * q * (1 - 1e-6) ** 0.5], [p * q * (1 - 1e-6) ** 0.5, q * q]]
        assert Model([-p, -q], nearly, zeros, 1e-5).minimum([None, None], 0.0) == [pytest.approx(1 / p), 0.0]
        c = Model([-p, -q], nearly, zeros, 1e-7).minimum([None, None], 0.0)
        close(np.array(nearly) @ c, np.array([p, q]), rtol=1e-6)
    assert Model([-2.0], [[4.0]], [[2.0]], 1e-12).minimum([None, 0.0], 0.5) == [0.4, 0.0]


def test_without_a_model_d_is_the_velocity_of_sgd_with_momentum():
    """On the identity as curvature, by a damping that drowns all else: lr / lam is SGD's rate."""
    objective, theta, batch = problem(Bernoulli(), weight_decay=0.1)
    huge = 1e9
    theirs, state, _ = take(SGD(0.5, momentum=0.8), objective, theta, batch, steps=4)
    mine, found, _ = take(
        KFAC(0.5 * huge, 0.8, FixedDamping(huge), factored=False), objective, theta, batch, rng=draws(), steps=4
    )
    close(mine, theirs, rtol=1e-8)
    close(found["d"], state["v"], rtol=1e-8)


def test_lr_may_be_a_schedule():
    objective, theta, batch = problem(Bernoulli())
    seen, _ = run_on(KFAC(InverseTime(0.4, 1.0), 0.0, FixedDamping(LAM)), objective, theta, [batch] * 3)
    assert [log["lr"] for _, _, log in seen] == pytest.approx([0.4, 0.2, 0.4 / 3])
    watching = KFAC(Waterfall(0.4, patience=1), 0.0, FixedDamping(LAM))
    state = watching.init(objective, theta)
    for loss in (1.0, 2.0):
        state = watching.observe(state, loss)
    assert watching.lr.rate(state) < 0.4
    assert KFAC().observe(state, 3.0) is state


# --- invariance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factored", [True, False])
@pytest.mark.parametrize("options", [{}, {"lr": 0.5, "momentum": 0.3}], ids=["model", "fixed"])
def test_sigmoid_units_follow_the_path_of_tanh_units(factored, options):
    """Martens & Grosse 2015, theorem 1: undamped K-FAC sees no affine map of a layer's inputs or pre-activations.

    sigmoid(a) = (1 + tanh(a / 2)) / 2, and data may be shifted and mixed as well: one function in two parametrizations.
    """
    rng = np.random.default_rng(3)
    x, t = rng.normal(size=(60, 3)), rng.normal(size=(60, 2))
    mix, shift = np.eye(3) + 0.3 * rng.normal(size=(3, 3)), rng.normal(size=3)
    one = Objective(mlp([3, 4, 2], activation="sigmoid"), Gaussian())
    two = Objective(mlp([3, 4, 2], activation="tanh"), Gaussian())
    theta = one.net.init(rng, "float64")
    W = one.layout.views(theta)
    T = np.block([[mix, np.zeros((3, 1))], [shift, np.ones(1)]])  # (x' 1) = (x 1) T
    halves = np.block([[np.eye(4) / 2, np.zeros((4, 1))], [np.full(4, 0.5), np.ones(1)]])  # (h 1) = (h' 1) halves
    phi = two.layout.pack(
        {"layer0": dev(np.linalg.solve(T, host(W["layer0"])) / 2), "layer1": dev(halves @ host(W["layer1"]))}
    )
    x1, x2, t = dev(x), dev(x @ mix + shift), dev(t)
    optimizer = KFAC(damping=FixedDamping(0.0), kind="exact", factored=factored, interval=2, **options)
    start = host(one.predict(theta, x1))
    close(two.predict(phi, x2), start)
    new, moved = (take(optimizer, f, z, (x, t), steps=5)[0] for f, z, x in ((one, theta, x1), (two, phi, x2)))
    end = host(one.predict(new, x1))
    assert abs(end - start).max() > 0.1
    close(two.predict(moved, x2), end, rtol=1e-7)
    descent, apart = (take(SGD(0.1), f, z, (x, t), steps=5)[0] for f, z, x in ((one, theta, x1), (two, phi, x2)))
    assert abs(host(two.predict(apart, x2)) - host(one.predict(descent, x1))).max() > 1e-2


# --- damping, dead units, failures -----------------------------------------------------------------------------------


@each_method
def test_a_step_that_raises_the_loss_is_not_taken_and_momentum_starts_anew(method):
    objective, theta, batch = problem(Categorical())
    optimizer = method(1e-3, 0.9, LevenbergMarquardt(1.0))
    theta, state, log = take(optimizer, objective, theta, batch, rng=draws())
    assert log["taken"] == 1.0 and host(state["d"]).any()
    before = host(theta).copy()
    reckless = method(1e5, 0.9, LevenbergMarquardt(1.0))
    new, after, log = reckless.step(theta, state, objective, batch, no_draw, draws())
    assert log["taken"] == 0.0 and new is theta and np.array_equal(host(theta), before)
    assert after["lam"] == 1.5 * state["lam"] and not host(after["d"]).any() and after["update"] == 2


@each_method
def test_fixed_damping_evaluates_nothing(method):
    """No forward pass for a ratio that nobody needs."""
    objective, theta, batch = problem(Categorical())

    class Watched(Objective):
        def value(self, theta, batch):
            raise AssertionError("evaluated")

    _, state, log = take(method(**PLAIN), Watched(objective.net, objective.loss), theta, batch, rng=draws())
    assert "rho" not in log and log["taken"] == 1.0 and state["lam"] == LAM


COSTS = [  # sweeps and values 1/3, R-ops 2/3, a product for statistics 1/3
    (KFAC(**PLAIN), 2, 1 + 1 / 3 + 2 / 3),
    (KFAC(**PLAIN, samples=3), 2, 1 + 1 / 3 + 3 * 2 / 3),
    (KFAC(**PLAIN, kind="exact"), 2, 1 + 1 / 3 + 2 * 2 / 3),
    (KFAC(damping=FixedDamping(LAM)), 2, 2 + 2 * 2 / 3),
    (KFAC(momentum=0.0), 2, 2 + 2 / 3 + 1 / 3),
    (KFAC(), 2, 2 + 2 * 2 / 3 + 1 / 3),
    (EKFAC(**PLAIN, samples=2), 2, 1 + 1 / 3 + 2 * 5 / 3),
    (DiagonalFisher(**PLAIN, samples=2), 2, 1 + 2 * 2 / 3),
]


@pytest.mark.parametrize("optimizer, outputs, expected", COSTS)
def test_what_an_update_costs_in_gradients(optimizer, outputs, expected):
    objective, theta, batch = problem(Categorical(), sizes=(4, 3, outputs))
    assert take(optimizer, objective, theta, batch, rng=draws())[2]["gradients"] == pytest.approx(expected)


def dead(objective, theta, unit=1):
    """theta with a hidden unit that is 0 for every input, and passes nothing on: its rows of S and A are zero."""
    parts = {name: host(view).copy() for name, view in objective.layout.views(theta).items()}
    parts["layer0"][:, unit] = 0
    parts["layer1"][unit] = 0
    return objective.layout.pack({name: dev(part) for name, part in parts.items()})


UNDAMPED = {"lr": 1.0, "momentum": 0.0, "damping": FixedDamping(0.0), "kind": "exact"}
SINGULAR = [
    (KFAC(**UNDAMPED), r"S of layer 'layer0' \(3 x 3\) is not positive definite in float64: add damping"),
    (KFAC(**UNDAMPED, factored=False), "the curvature of layer 'layer0' is singular in float64: add damping"),
    (EKFAC(**UNDAMPED), "the curvature of layer 'layer0' is singular in float64: add damping"),
    (DiagonalFisher(**UNDAMPED), "the curvature of layer 'layer0' is singular in float64: add damping"),
]


@pytest.mark.parametrize("optimizer, message", SINGULAR)
def test_dead_units_need_damping(optimizer, message):
    objective, theta, batch = problem(Gaussian(0.6))
    theta = dead(objective, theta)
    with pytest.raises(ArithmeticError, match=message):
        take(optimizer, objective, theta, batch)
    damped = type(optimizer)(**UNDAMPED | {"damping": FixedDamping(0.1)})
    new, _, _ = take(damped, objective, theta, batch)
    assert objective.value(new, batch) < objective.value(theta, batch)
    close(new, dead(objective, new))  # nothing moves a dead unit
    decayed = Objective(objective.net, objective.loss, 0.1)
    take(optimizer, decayed, theta, batch)  # weight decay is curvature too


@pytest.mark.parametrize("method", [EKFAC, DiagonalFisher])
def test_whether_curvature_is_singular_does_not_depend_on_the_unit_of_the_loss(method):
    for beta in (1e-9, 1e9):  # curvature of 1e18 and of 1e-18
        objective, theta, batch = problem(Gaussian(beta))
        take(method(**UNDAMPED), objective, theta, batch)
        with pytest.raises(ArithmeticError, match="singular"):
            take(method(**UNDAMPED), objective, dead(objective, theta), batch)


def test_the_paper_inverts_every_20_updates_and_keeps_95_hundredths():
    """The defaults of Martens & Grosse 2015."""
    assert KFAC().interval == EKFAC().interval == 20 and KFAC().decay == 0.95


def test_a_layer_without_any_signal_works_with_damping():
    """All weights zero: S of the first layer is zero, and pi is 1."""
    objective, theta, batch = problem(Gaussian(0.6))
    new, _, _ = take(KFAC(**PLAIN, kind="exact"), objective, 0 * theta, batch)
    assert np.isfinite(host(new)).all() and objective.value(new, batch) < objective.value(0 * theta, batch)


@each_method
def test_statistics_that_overflow_are_named_with_update_and_layer(method):
    """delta^2 of 1e40 is beyond float32, the loss of 1e20 is not."""
    objective, theta, (x, t) = problem(Gaussian(), sizes=(3, 2), dtype="float32")
    optimizer = method(**PLAIN, kind="empirical")
    theta, state, _ = take(optimizer, objective, theta, (x, t))
    letter = "d" if method is DiagonalFisher else "S"
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(FloatingPointError, match=f"update 2: the statistics {letter} of layer 'layer0' are not finite"),
    ):
        optimizer.step(theta, state, ExplodingScores(objective), (x, t), no_draw, None)


class ExplodingScores(Objective):
    """The objective, with scores that are far too large."""

    def __init__(self, objective):
        super().__init__(objective.net, _Exploding(), objective.weight_decay)


class _Exploding(Gaussian):
    def gradient(self, r, t, n=None):
        return super().gradient(r, t, n) * 1e30


@pytest.mark.parametrize("what, name", [("gradient", "layer1"), ("direction", "layer1"), ("step", "layer0")])
def test_a_vector_that_is_not_finite_is_named_with_update_and_layer(what, name):
    objective, theta, batch = problem(Gaussian())
    optimizer, start = KFAC(0.5, 0.9, FixedDamping(LAM), "exact"), objective.layout.slices[name].start
    theta, state, _ = take(optimizer, objective, theta, batch)
    if what == "step":
        bad = state["d"].copy()
        bad[start + 2] = np.inf
        state = state | {"d": bad}
    if what == "direction":
        state = state | {f"A_inverse.{name}": state[f"A_inverse.{name}"] * np.nan}

    class Broken(Objective):
        def value_grad_and_linearize(self, theta, batch):
            loss, g, r, J = super().value_grad_and_linearize(theta, batch)
            g[start + 1] = np.nan if what == "gradient" else g[start + 1]
            return loss, g, r, J

    with (
        np.errstate(invalid="ignore"),
        pytest.raises(FloatingPointError, match=f"update 2: the {what} is not finite, first in '{name}'"),
    ):
        optimizer.step(theta, state, Broken(objective.net, objective.loss), batch, no_draw, None)


def test_a_step_too_long_for_its_dtype_is_an_error():
    objective, theta, batch = problem(Gaussian(), dtype="float32")
    with (
        np.errstate(over="ignore"),
        pytest.raises(FloatingPointError, match="update 1: the gradient or the step is too long for float32"),
    ):
        take(KFAC(1e25, 0.0, FixedDamping(LAM), "exact"), objective, theta, batch)


class Shifted:
    """A net with a parameter that is no affine layer's matrix."""

    layout = Layout({"layer0": (4, 2), "shift": (2,)})

    def apply(self, theta, x):
        p = self.layout.views(theta)
        return ops.affine(x, p["layer0"], name="layer0") + p["shift"]


@each_method
def test_other_parameters_than_affine_layers_are_refused(method):
    objective = Objective(Shifted(), Gaussian())
    with pytest.raises(NotImplementedError, match="must be one affine layer's matrix; 'shift' is used by"):
        take(method(), objective, dev(np.ones(10)), (dev(np.ones((2, 3))), dev(np.ones((2, 2)))), rng=draws())


@each_method
@pytest.mark.parametrize(
    "options, message",
    [
        ({"lr": 0.0}, "optimizer: lr must be a positive finite number, got 0.0"),
        ({"momentum": 1.0}, r"momentum must be a number in \[0, 1\), got 1.0"),
        ({"kind": "fisher"}, "unknown Fisher kind 'fisher'"),
        ({"samples": 0}, "samples must be a whole number of at least 1, got 0"),
        ({"kind": "exact", "samples": 2}, "samples=2 is for kind 'mc', got kind 'exact'"),
        ({"decay": 1.0}, r"decay must be a number in \[0, 1\), got 1.0"),
        ({"interval": 0}, "interval must be a whole number of at least 1, got 0"),
        ({"factored": 1}, "factored must be True or False, got 1"),
    ],
)
def test_bad_hyper_parameters(method, options, message):
    if not set(options) <= set(method.__dataclass_fields__):
        return
    with pytest.raises(ValueError, match=message) as caught:
        method(**options)
    assert method.__name__ in str(caught.value) or "kind 'fisher'" in message or "optimizer" in message


@each_method
def test_mc_needs_an_rng(method):
    with pytest.raises(ValueError, match="Fisher kind mc needs an rng"):
        take(method(), *problem(Gaussian()))


# --- slices, precision, phases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exact", "mc"])
@each_method
def test_slices_of_a_batch_add_up(method, kind, monkeypatch):
    objective, theta, batch = problem(Categorical(), sizes=(4, 6, 5, 3), samples=41)
    optimizer = method(kind=kind)
    whole, state, _ = take(optimizer, objective, theta, batch, rng=draws(), steps=2)
    cut_into_two_slices(monkeypatch)
    cut, other, _ = take(optimizer, objective, theta, batch, rng=draws(), steps=2)
    close(cut, whole, rtol=1e-9)
    assert set(other) == set(state)


@each_method
def test_float32_is_float64_to_its_precision(method):
    """Three steps: 1e-4 of the largest number."""
    objective, start, data = problem(Bernoulli())
    steps = {}
    for dtype in ("float32", "float64"):
        theta, batch = start.astype(dtype), tuple(part.astype(dtype) for part in data)
        new, state, _ = take(method(**PLAIN, kind="exact"), objective, theta, batch, steps=3)
        assert {value.dtype for value in state.values() if backend.is_array(value)} == {np.dtype(dtype)}
        steps[dtype] = host(new - theta).astype("float64")
    close(steps["float32"], steps["float64"], rtol=1e-4)


@pytest.mark.parametrize("optimizer", [KFAC(interval=2), EKFAC(interval=2), DiagonalFisher()])
def test_phases(optimizer):
    objective, theta, batch = problem(Bernoulli())
    state, always = optimizer.init(objective, theta), {"gradient", "statistics", "direction", "step", "damping"}
    for update in (1, 2, 3):
        with stopwatch() as seconds:
            theta, state, _ = optimizer.step(theta, state, objective, batch, no_draw, draws())
        assert set(seconds) == always | ({"inversion"} if hasattr(optimizer, "interval") and update != 2 else set())
