"""Solves in the space of samples against dense ones; what they cost; what they refuse."""

import math
import re

import numpy as np
import pytest

from minigrad import Objective
from minigrad.autodiff import ops
from minigrad.curvature import (
    DirectInfo,
    SampleMetric,
    factored_fisher,
    fisher,
    gradient_covariance,
    per_sample_gradients,
    row_space_solve,
    sample_space_solve,
)
from minigrad.linalg import cg, identity
from minigrad.losses import Gaussian
from minigrad.nets import Layout
from tests.curvature.cases import CASES, N, cut_into_two_slices, each_case, made, on_device, problem
from tests.helpers import close, dev, host, host_only

METRICS = {
    "empirical": lambda J, theta, batch: fisher(J, theta, batch, kind="empirical"),
    "centred": lambda J, theta, batch: gradient_covariance(J, theta, batch, centred=True),
    "one draw": lambda J, theta, batch: fisher(J, theta, batch[0], kind="mc", rng=np.random.default_rng(3)),
    "three draws": lambda J, theta, batch: fisher(
        J, theta, batch[0], kind="mc", rng=np.random.default_rng(3), samples=3
    ),
    "exact": lambda J, theta, batch: factored_fisher(J, theta, batch[0]),
}
each_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def system(metric, net, loss, n=N, dtype="float64", lam=0.1):
    """(G, G + lam I densely, b, c)."""
    theta, x, t = problem(net, loss, n)
    G = made(metric, net, loss, theta, x, t, dtype)
    rng = np.random.default_rng(5)
    b, c = rng.standard_normal(theta.size), rng.standard_normal(G.P.shape[0])
    return G, host(made(metric, net, loss, theta, x, t).dense()) + lam * np.eye(theta.size), b, c


# --- against dense solves ---------------------------------------------------------------------------------


@each_case
@each_metric
def test_solves_for_any_right_hand_side(net, loss, metric):
    G, A, b, _ = system(metric, net, loss)
    x, info = sample_space_solve(G, dev(b), 0.1)
    expected = np.linalg.solve(A, b)
    close(x, expected, rtol=1e-10)
    phi = lambda x: x @ A @ x / 2 - b @ x
    assert isinstance(info, DirectInfo) and info.converged
    assert (info.reason, info.iterations, info.rows) == ("direct", 0, G.P.shape[0])
    np.testing.assert_allclose(info.quadratics, [0.0, phi(expected)], rtol=1e-9)


@each_case
@each_metric
def test_solves_for_right_hand_sides_in_the_span_of_the_rows(net, loss, metric):
    G, A, _, c = system(metric, net, loss)
    b = host(G.P.T @ dev(c))
    x, info = row_space_solve(G, dev(c), 0.1)
    expected = np.linalg.solve(A, b)
    close(x, expected, rtol=1e-10)
    np.testing.assert_allclose(info.quadratics, [0.0, -b @ expected / 2], rtol=1e-9)
    assert info.rows == G.P.shape[0] == len(c)
    other, again = sample_space_solve(G, dev(b), 0.1)
    close(other, x, rtol=1e-10)
    if not G.centred:
        np.testing.assert_allclose(info.condition, again.condition)


@each_case
@each_metric
def test_agrees_with_conjugate_gradients(net, loss, metric):
    G, _, b, _ = system(metric, net, loss)
    x, _ = sample_space_solve(G, dev(b), 0.5)
    close(x, cg(G + 0.5 * identity(len(b)), dev(b), rtol=1e-13)[0], rtol=1e-9)


@each_metric
@pytest.mark.parametrize("lam", [1e-6, 1e-3, 1.0, 1e3])
def test_condition_is_a_bound(metric, lam):
    G, A, b, c = system(metric, *CASES["Categorical"], lam=lam)
    for info in (sample_space_solve(G, dev(b), lam)[1], row_space_solve(G, dev(c), lam)[1]):
        assert np.linalg.cond(A) <= info.condition * (1 + 1e-6)
    rows = host(G.P.dense())
    np.testing.assert_allclose(info.condition, 1 + (rows**2).sum() / len(rows) / lam)
    if G.centred:
        info = sample_space_solve(G, dev(b), lam)[1]
        np.testing.assert_allclose(info.condition, 1 + np.trace(host(G.dense())) / lam, rtol=1e-9)


@pytest.mark.parametrize("lam", [1e-2, 1e-6, 1e-10])
def test_the_precision_that_is_promised(lam):
    """For any b the residual grows as lam falls; within the span of independent rows it does not."""
    net, loss = CASES["Gaussian"]
    G, A, b, c = system(METRICS["empirical"], net, loss, lam=lam)
    residual = lambda x, b: np.linalg.norm(A @ host(x) - b) / np.linalg.norm(b)
    x, info = sample_space_solve(G, dev(b), lam)
    assert residual(x, b) < 1e-15 * info.condition
    assert residual(row_space_solve(G, dev(c), lam)[0], host(G.P.T @ dev(c))) < 1e-13


def test_centring_changes_the_length_of_a_batchs_own_step_alone():
    """Le Roux et al. (2007) drop the centring "up to a constant" (Pascanu & Bengio, section 4.1): here is which."""
    net, loss = CASES["Bernoulli"]
    theta, x, t = problem(net, loss)
    lam, c = 0.01, dev(np.full(N, 1 / N))
    U, C = (made(gradient_covariance, net, loss, theta, x, t, centred=centred) for centred in (False, True))
    uncentred, centred = (host(row_space_solve(G, c, lam)[0]) for G in (U, C))
    g = host(U.P.T @ c)
    close(centred, uncentred / (1 - g @ uncentred), rtol=1e-10)
    assert 1 - g @ uncentred < 0.9


@each_metric
def test_float32(metric):
    net, loss = CASES["Gaussian beta"] if metric is not METRICS["one draw"] else CASES["Gaussian"]
    theta, x, t = problem(net, loss)
    G = made(metric, net, loss, theta, x, t, "float32")
    rng = np.random.default_rng(5)
    b, c = rng.standard_normal(theta.size), rng.standard_normal(G.P.shape[0])
    A = host(G.P.dense()).astype(float)
    A = A - A.mean(axis=0) if G.centred else A
    A = A.T @ A / len(A) + 0.1 * np.eye(theta.size)
    y, _ = sample_space_solve(G, dev(b, "float32"), 0.1)
    z, _ = row_space_solve(G, dev(c, "float32"), 0.1)
    assert y.dtype == z.dtype == "float32"
    close(y, np.linalg.solve(A, b), rtol=1e-5)
    close(z, np.linalg.solve(A, c @ host(G.P.dense()).astype(float)), rtol=1e-4)


def test_a_zero_right_hand_side():
    G, _, b, c = system(METRICS["centred"], *CASES["Bernoulli"])
    for x, info in (sample_space_solve(G, dev(0 * b), 0.1), row_space_solve(G, dev(0 * c), 0.1)):
        np.testing.assert_array_equal(host(x), 0)
        assert info.quadratics == [0.0, 0.0]


def test_one_sample():
    for metric in METRICS.values():
        G, A, b, c = system(metric, *CASES["Categorical"], n=1)
        close(sample_space_solve(G, dev(b), 0.1)[0], np.linalg.solve(A, b), rtol=1e-10)
        close(row_space_solve(G, dev(c), 0.1)[0], np.linalg.solve(A, host(G.P.T @ dev(c))), rtol=1e-10)


# --- what it costs ----------------------------------------------------------------------------------------


def test_products():
    """P b and P' w, no more; within the span of the rows P' z alone. G itself is never multiplied."""
    G, _, b, c = system(METRICS["empirical"], *CASES["Categorical"])
    sample_space_solve(G, dev(b), 0.1)
    assert (G.P.products, G.products) == (2, 0)
    row_space_solve(G, dev(c), 0.1)
    assert (G.P.products, G.products) == (3, 0)


@host_only
@each_metric
def test_slices_on_threads_change_nothing(metric, monkeypatch):
    G, _, b, c = system(metric, *CASES["Bernoulli"], n=5)
    expected = [sample_space_solve(G, dev(b), 0.1)[0], row_space_solve(G, dev(c), 0.1)[0]]
    cut_into_two_slices(monkeypatch)
    G, _, b, c = system(metric, *CASES["Bernoulli"], n=5)
    assert len(G.P.J.parts) == 2
    close(sample_space_solve(G, dev(b), 0.1)[0], expected[0], rtol=1e-10)
    close(row_space_solve(G, dev(c), 0.1)[0], expected[1], rtol=1e-10)


def test_the_device_does_the_same(device):
    for metric in (METRICS["empirical"], METRICS["centred"]):
        G, A, b, c = system(metric, *CASES["Categorical"])
        close(sample_space_solve(G, dev(b), 0.1)[0], np.linalg.solve(A, b), rtol=1e-10)
        close(row_space_solve(G, dev(c), 0.1)[0], np.linalg.solve(A, host(G.P.T @ dev(c))), rtol=1e-10)


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solve", [sample_space_solve, row_space_solve])
def test_bad_input(solve):
    G, _, b, c = system(METRICS["empirical"], *CASES["Categorical"])
    vector = dev(b if solve is sample_space_solve else c)
    name = "b" if solve is sample_space_solve else "c"
    for lam in (0, 0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"sample space: lam must be positive and finite, got {lam}"):
            solve(G, vector, lam)
    for wrong in (G + 0.1 * identity(len(b)), G.dense()):
        with pytest.raises(TypeError, match="sample space: G must be a SampleMetric"):
            solve(wrong, vector, 0.1)
    with pytest.raises(ValueError, match=rf"sample space: {name} must have shape \({len(vector)},\), got \(1,\)"):
        solve(G, vector[:1], 0.1)
    with pytest.raises(TypeError, match=f"sample space: {name} must be an array of the active backend, got list"):
        solve(G, [1.0], 0.1)
    vector[0] = math.nan
    with pytest.raises(FloatingPointError, match="sample space: b'x is nan"):
        solve(G, vector, 0.1)


@pytest.mark.parametrize("solve", [sample_space_solve, row_space_solve])
def test_a_metric_that_is_not_finite(solve):
    net, loss = CASES["Gaussian"]
    theta, x, t = problem(net, loss)
    x[1, 1] = math.nan
    G = made(METRICS["empirical"], net, loss, theta, x, t)
    vector = dev(np.ones(theta.size if solve is sample_space_solve else N))
    with pytest.raises(FloatingPointError, match="the Gram matrix is not finite, its trace is nan"):
        solve(G, vector, 0.1)


@pytest.mark.parametrize("solve", [sample_space_solve, row_space_solve])
def test_a_lam_that_is_lost_in_rounding(solve):
    """Twelve samples, of three kinds: in float32 the Gram matrix is singular only up to 1e-7 of its size."""
    net, loss = CASES["Gaussian"]
    theta, x, t = problem(net, loss)
    x, t = (np.concatenate([a, a + 1e-7, a - 1e-7, a]) for a in (x, t))
    G = made(METRICS["empirical"], net, loss, theta, 30 * x, 30 * t, "float32")
    vector = dev(np.ones(theta.size if solve is sample_space_solve else len(x)), "float32")
    with pytest.raises(
        ArithmeticError, match=r"not positive definite in float32: lam = 1e-12 is lost in the rounding of"
    ):
        solve(G, vector, 1e-12)
    wide = made(METRICS["empirical"], net, loss, theta, 30 * x, 30 * t)
    trace = np.trace(host(wide.dense()))
    with pytest.raises(
        ArithmeticError, match=re.escape(f"whose trace is {trace:.3g}; take a larger lam, or theta in float64")
    ):
        solve(G, vector, 1e-12)
    solve(G, vector, 1e-3 * trace)


@pytest.mark.parametrize("solve", [sample_space_solve, row_space_solve])
def test_other_weights_than_affine_layers_are_refused_with_the_reason(solve):
    class Squared:
        layout = Layout({"w": (3, 2)})

        def apply(self, theta, x):
            w = self.layout.views(theta)["w"]
            return ops.affine(x, w * w)

    rng = np.random.default_rng(0)
    theta, x, t = (dev(rng.standard_normal(shape)) for shape in (6, (3, 2), (3, 2)))
    G = gradient_covariance(Objective(Squared(), Gaussian()), theta, (x, t))
    with pytest.raises(NotImplementedError, match="one affine layer's matrix; 'w' is used by multiply"):
        solve(G, theta if solve is sample_space_solve else theta[:3], 0.1)


def test_the_step_is_that_of_the_gradient_preconditioned():
    """c = 1/N under the empirical Fisher: (U + lam I)^-1 g."""
    net, loss = CASES["Categorical, two layers"]
    theta, x, t = problem(net, loss)
    _, g = Objective(net, loss).value_and_grad(*on_device(loss, theta, x, t))
    G = SampleMetric(made(per_sample_gradients, net, loss, theta, x, t))
    step, _ = row_space_solve(G, dev(np.full(N, 1 / N)), 0.01)
    close(step, np.linalg.solve(host(G.dense()) + 0.01 * np.eye(theta.size), host(g)), rtol=1e-10)
