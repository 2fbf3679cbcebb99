"""Krylov subspace descent: the basis, CG's iterates inside it, BFGS within it."""

import math

import numpy as np
import pytest

from minigrad import Objective
from minigrad.curvature import gauss_newton
from minigrad.linalg import Matrix, cg, identity
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.optimizers import KrylovSubspaceDescent
from minigrad.optimizers.krylov_subspace_descent import krylov_basis, minimize, rounded
from tests.helpers import close, dev, host, host_only
from tests.optimizers.problems import draw_of, each_loss, no_draw, problem, take


def system(n=12, seed=0, dtype="float64"):
    """(G, g, last): a psd operator of condition 1e3 and two vectors."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    G = (Q * np.logspace(-2, 1, n)) @ Q.T
    return Matrix(dev((G + G.T) / 2, dtype), psd=True), dev(rng.standard_normal(n), dtype), dev(rng.random(n), dtype)


def outside(V, vectors):
    """How much of each vector lies outside the span of V's rows, relative to its length."""
    V = host(V)
    return [np.linalg.norm(v - V.T @ (V @ v)) / np.linalg.norm(v) for v in map(host, vectors)]


# --- the basis -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-13), ("float32", 1e-5)])
def test_basis_is_orthonormal_and_spans_the_krylov_space_and_the_last_direction(dtype, tolerance):
    """The powers of G times g are computed in float64; tolerance: some 100 eps, for they are few."""
    G, g, last = system(dtype=dtype)
    V, T = krylov_basis(G, g, last, 5)
    assert V.shape == (6, 12) and V.dtype == T.dtype == dtype
    np.testing.assert_allclose(host(V) @ host(V).T, np.eye(6), atol=tolerance)
    A, v = host(G.matrix).astype(float), host(g).astype(float)
    powers = [v := v / np.linalg.norm(v)] + [v := A @ v / np.linalg.norm(A @ v) for _ in range(4)]
    assert max(outside(V, [*powers, last])) < 100 * tolerance
    np.testing.assert_allclose(host(T), host(V) @ host(G.matrix) @ host(V).T, atol=10 * tolerance)
    assert G.products == 6


def test_the_first_vector_is_the_gradient_and_the_last_is_not_multiplied_in():
    """The Krylov part has K rows, and is G's alone: without its last row the basis does not know `last`."""
    G, g, last = system()
    V, _ = krylov_basis(G, g, last, 4)
    W, _ = krylov_basis(G, g, 0 * last, 4)
    assert V.shape == (5, 12) and W.shape == (4, 12)
    close(V[:4], W, rtol=0)
    close(V[0], g / np.linalg.norm(host(g)), rtol=1e-14)


def test_an_exhausted_space_ends_the_basis():
    """g in the span of two eigenvectors: two rows, and one of `last`; or none where `last` lies in that span."""
    G = Matrix(dev(np.diag([3.0, 2.0, 1.0, 0.5])), psd=True)
    g, last = dev([1.0, 1.0, 0.0, 0.0]), dev([0.0, 1.0, 1.0, 0.0])
    V, T = krylov_basis(G, g, last, 4)
    assert V.shape == (3, 4) and T.shape == (3, 3)
    assert max(outside(V, [g, last, dev([1.0, 0.0, 0.0, 0.0])])) < 1e-14
    V, T = krylov_basis(G, g, dev([5.0, -1.0, 0.0, 0.0]), 4)
    assert V.shape == (2, 4) and T.shape == (2, 2)
    V, T = krylov_basis(G, 0 * g, 0 * g, 4)
    assert V.shape == (0, 4) and T.shape == (0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_rounding_is_not_taken_for_a_direction(seed):
    """G of rank 3 in 40 dimensions: g, three more, and perhaps one of the errors that they magnify; not six."""
    rng = np.random.default_rng(seed)
    U = rng.standard_normal((40, 3))
    G, g = Matrix(dev(U @ U.T), psd=True), dev(rng.standard_normal(40))
    V, _ = krylov_basis(G, g, 0 * g, 10)
    assert V.shape[0] in (4, 5)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("length", [1e-30, 1e30])
def test_the_basis_does_not_depend_on_scales(scale, length):
    """Of G, and of the vectors."""
    G, g, last = system()
    V, T = krylov_basis(G, g, last, 5)
    W, S = krylov_basis(Matrix(G.matrix * scale, psd=True), g * length, last / length, 5)
    np.testing.assert_allclose(host(W), host(V), atol=1e-10)
    np.testing.assert_allclose(host(S) / scale, host(T), atol=1e-10)


def test_cg_iterates_lie_in_the_subspace():
    """k <= K iterations from zero, for any damping: G + lam I has the Krylov space of G. Distance: rounding."""
    objective, theta, batch = problem(Bernoulli(), sizes=(5, 6, 3))
    g = objective.value_and_grad(theta, batch)[1]
    G = gauss_newton(objective, theta, batch)
    V, _ = krylov_basis(G, g, 0 * g, 8)
    assert V.shape[0] == 8
    for lam in (1e-3, 0.1, 10.0):
        _, info = cg(G + lam * identity(theta.shape[0]), -g, rtol=0, maxiter=8, store=range(1, 9))
        assert max(outside(V, info.iterates.values())) < 1e-11
    beyond = cg(G + 1e-3 * identity(theta.shape[0]), -g, rtol=0, maxiter=12)[0]
    assert outside(V, [beyond])[0] > 1e-5


@pytest.mark.parametrize("u", [[math.nan, 1.0], [math.inf, 1.0]])
def test_a_vector_that_is_not_finite_is_named(u):
    G = Matrix(dev(np.eye(2)), psd=True)
    with pytest.raises(FloatingPointError, match="Krylov subspace: vector 0 is not finite"):
        with np.errstate(invalid="ignore"):
            krylov_basis(G, dev(u), dev([0.0, 0.0]), 2)


# --- the coordinates -----------------------------------------------------------------------------------------


def test_rounded_makes_the_quadratic_model_round():
    """B G B' = I, in the same space."""
    G, g, last = system()
    V, T = krylov_basis(G, g, last, 5)
    B = rounded(V, T, 1e-12)
    np.testing.assert_allclose(host(B) @ host(G.matrix) @ host(B).T, np.eye(6), atol=1e-10)
    assert max(outside(V, list(host(B)))) < 1e-12


def test_rounded_raises_small_eigenvalues_to_the_floor():
    """T = diag(4, 1, 1e-9) with floor 1/16: the last counts as 1/4."""
    V = dev(np.eye(3))
    close(rounded(V, dev(np.diag([4.0, 1.0, 1e-9])), 1 / 16), np.diag([0.5, 1.0, 2.0]))
    close(rounded(V, dev(np.diag([0.04, 0.01, 0.0])), 1 / 16), np.diag([5.0, 10.0, 20.0]))
    close(rounded(V, dev(np.zeros((3, 3))), 1 / 16), np.eye(3))  # no curvature at all: as it is


# --- BFGS in it ----------------------------------------------------------------------------------------------


@host_only
@each_loss
def test_at_least_as_good_as_any_cg_iterate(loss):
    """BFGS on the true objective against truncated Newton in the same subspace, for dampings over five decades."""
    objective, theta, batch = problem(loss, sizes=(5, 6, 3), seed=2)
    new, _, log = take(KrylovSubspaceDescent(8, maxiter=100, rtol=1e-6), objective, theta, batch)
    found = objective.value(new, batch)
    g, G = objective.value_and_grad(theta, batch)[1], gauss_newton(objective, theta, batch)
    for lam in (1e-4, 1e-2, 1e-1, 1.0, 10.0):
        _, info = cg(G + lam * identity(theta.shape[0]), -g, rtol=0, maxiter=8, store=range(1, 9))
        assert all(found <= objective.value(theta + d, batch) for d in info.iterates.values())
    assert found < log["loss"]


def test_the_minimum_of_a_quadratic_in_the_subspace_in_one_step():
    """Linear least squares: f's minimum over theta + span V, by a dense solve in the coefficients."""
    objective, theta, batch = problem(Gaussian(), sizes=(5, 3))
    g, G = objective.value_and_grad(theta, batch)[1], gauss_newton(objective, theta, batch)
    V, T = krylov_basis(G, g, 0 * g, 3)
    best = theta - V.T @ dev(np.linalg.solve(host(T), host(V @ g)))
    new, state, log = take(KrylovSubspaceDescent(3, rtol=1e-9), objective, theta, batch)
    close(new, best, rtol=1e-7)
    close(state["d"], new - theta, rtol=1e-14)
    assert log["dimension"] == 3 and log["taken"] == 1.0 and log["evaluations"] <= 5  # the model is round: one step


def test_the_last_step_is_one_of_the_directions():
    """With K = 1 on a quadratic: the minimum over span(g, last), which is a step of conjugate gradients."""
    objective, theta, batch = problem(Gaussian(), sizes=(4, 2))
    G, g = gauss_newton(objective, theta, batch), objective.value_and_grad(theta, batch)[1]
    new, _, log = take(KrylovSubspaceDescent(1, rtol=1e-10), objective, theta, batch, steps=4)
    close(new, theta + cg(G, -g, rtol=0, maxiter=4)[0], rtol=1e-6)
    assert log["dimension"] == 2


def test_three_batches():
    """G on the first drawn, BFGS on the second; the gradient's batch gives direction and log alone."""
    objective, theta, batch = problem(Categorical())
    metric, search = problem(Categorical(), samples=15, seed=9)[2], problem(Categorical(), samples=21, seed=8)[2]
    draw, asked = draw_of(metric, search)
    optimizer = KrylovSubspaceDescent(3, curvature_batch=15, search_batch=21, maxiter=100, rtol=1e-8)
    new, _, log = take(optimizer, objective, theta, batch, draw)
    assert asked == [15, 21]
    loss, g = objective.value_and_grad(theta, batch)
    V, _ = krylov_basis(gauss_newton(objective, theta, metric), g, 0 * g, 3)
    assert log["loss"] == loss and outside(V, [new - theta])[0] < 1e-12
    at_new = host(objective.value_and_grad(new, search)[1])
    assert abs(host(V) @ at_new).max() < 1e-5 * np.linalg.norm(at_new)  # a minimum of the second batch, within V
    assert log["gradients"] == pytest.approx(1 + 15 / 40 * (1 + 4 * 3) / 3 + 21 / 40 * log["evaluations"])


class Counting(Objective):
    """Counts gradients."""

    def value_and_grad(self, theta, batch):
        self.calls.append(batch[0].shape[0])
        return super().value_and_grad(theta, batch)


@pytest.mark.parametrize("search_batch", [None, 21])
def test_evaluations_are_counted(search_batch):
    objective, theta, batch = problem(Categorical())
    counting = Counting(objective.net, objective.loss)
    object.__setattr__(counting, "calls", [])
    draw = draw_of(problem(Categorical(), samples=21, seed=8)[2])[0] if search_batch else no_draw
    log = take(KrylovSubspaceDescent(3, search_batch=search_batch), counting, theta, batch, draw)[2]
    assert counting.calls == [40] + [search_batch or 40] * log["evaluations"]


class Walled(Objective):
    """Overflows beyond a distance of `wall` from where it starts; there the loss is NaN."""

    def value_and_grad(self, theta, batch):
        if np.linalg.norm(host(theta) - self.start) > self.wall:
            raise FloatingPointError("overflow")
        return super().value_and_grad(theta, batch)


def walled(objective, theta, wall):
    made = Walled(objective.net, objective.loss)
    object.__setattr__(made, "start", host(theta))
    object.__setattr__(made, "wall", wall)
    return made


def test_points_that_overflow_are_not_taken():
    objective, theta, batch = problem(Categorical())
    free = take(KrylovSubspaceDescent(5), objective, theta, batch)[0]
    wall = 0.3 * np.linalg.norm(host(free - theta))
    new, _, log = take(KrylovSubspaceDescent(5), walled(objective, theta, wall), theta, batch)
    assert log["taken"] == 1.0 and objective.value(new, batch) < log["loss"]
    assert np.linalg.norm(host(new - theta)) <= wall


def test_where_nothing_is_better_theta_stays_bit_for_bit():
    objective, theta, batch = problem(Categorical())
    new, state, log = take(KrylovSubspaceDescent(5), walled(objective, theta, 0.0), theta, batch)
    assert new is theta and log["taken"] == 0.0 and not host(state["d"]).any() and state["update"] == 1


def test_a_gradient_of_zero_leaves_theta():
    objective, theta, (x, _) = problem(Gaussian())
    batch = x, objective.predict(theta, x)
    new, state, log = take(KrylovSubspaceDescent(5), objective, theta, batch)
    assert new is theta and log["dimension"] == log["evaluations"] == 0 and state["d"].shape == theta.shape


def test_minimize_returns_the_best_point_it_met():
    """A function that punishes all but its first try: the best is neither the start nor the end."""
    met = []

    def f(a):
        met.append(a.copy())
        return (-1.0 if len(met) == 1 else 5.0 + len(met)), np.array([1.0, -1.0])

    a, calls = minimize(f, (0.0, np.array([1.0, -1.0])), 10, 1e-4)
    np.testing.assert_array_equal(a, met[0])
    assert calls == len(met) > 1


def test_minimize_stops_at_the_relative_gradient():
    """f = |a - c|^2 / 2 + (a - c)^4: looser rtol, fewer calls, a larger gradient left, within what was asked."""
    c = np.array([1.0, -2.0, 0.5])
    f = lambda a: (0.5 * ((a - c) ** 2).sum() + ((a - c) ** 4).sum(), (a - c) + 4 * (a - c) ** 3)
    first = f(np.zeros(3))
    spent = []
    for rtol in (1e-1, 1e-3, 1e-7):
        a, calls = minimize(f, first, 100, rtol)
        assert abs(f(a)[1]).max() <= rtol * abs(first[1]).max()
        spent.append(calls)
    assert spent == sorted(spent) and spent[0] < spent[-1]


def test_minimize_tells_bfgs_when_to_stop(monkeypatch):
    """From zero, even where the gradient has zeros; gtol relative to the gradient's largest entry there."""
    told = {}
    monkeypatch.setattr("scipy.optimize.minimize", lambda f, x0, **options: told.update(options, x0=x0))
    a, calls = minimize(None, (1.0, np.array([0.0, -50.0, 20.0])), 7, 1e-3)
    assert told["options"] == {"maxiter": 7, "gtol": 0.05} and told["method"] == "BFGS" and told["jac"] is True
    np.testing.assert_array_equal(told["x0"], np.zeros(3))
    np.testing.assert_array_equal(a, np.zeros(3))
    assert calls == 0


def test_defaults():
    assert KrylovSubspaceDescent() == KrylovSubspaceDescent(20, 30, 1e-4, 1e-4, None, None)


# --- all together --------------------------------------------------------------------------------------------


@each_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_lowers_the_loss_in_every_step(loss, dtype):
    objective, theta, batch = problem(loss, sizes=(4, 6, 3), dtype=dtype)
    optimizer, losses = KrylovSubspaceDescent(6), []
    state = optimizer.init(objective, theta)
    for _ in range(6):
        theta, state, log = optimizer.step(theta, state, objective, batch, no_draw)
        losses.append(log["loss"])
    assert theta.dtype == state["d"].dtype == dtype and state["update"] == 6
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.1 * abs(losses[0])


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: KrylovSubspaceDescent(0),
            "KrylovSubspaceDescent: dimension must be a whole number of at least 1, got 0",
        ),
        (lambda: KrylovSubspaceDescent(maxiter=0), "maxiter must be a whole number of at least 1, got 0"),
        (lambda: KrylovSubspaceDescent(rtol=1.0), r"rtol must be a number in \[0, 1\), got 1.0"),
        (lambda: KrylovSubspaceDescent(floor=0.0), "floor must be a positive finite number, got 0.0"),
        (lambda: KrylovSubspaceDescent(curvature_batch=0), "curvature_batch must be a whole number"),
        (lambda: KrylovSubspaceDescent(search_batch=0.5), "search_batch must be a whole number of at least 1, got 0.5"),
    ],
)
def test_bad_hyper_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
