"""Martens' diagonal preconditioner against its formula, and what it does for conjugate gradients."""

import math

import numpy as np
import pytest

from minigrad import Objective
from minigrad.curvature import fisher, gauss_newton, martens_preconditioner, per_sample_gradients
from minigrad.linalg import cg, identity
from minigrad.losses import Categorical
from minigrad.nets import mlp
from tests.curvature.cases import CASES, N, each_case, made, on_device, problem, scores
from tests.helpers import close, dev, host


@each_case
@pytest.mark.parametrize("lam", [1e-3, 2.0])
def test_martens_2010_section_4_7(net, loss, lam):
    """M^-1 = [diag(sum_i g_i * g_i) / N + lam I]^0.75."""
    theta, x, t = problem(net, loss)
    P = made(per_sample_gradients, net, loss, theta, x, t)
    (g,) = scores(net, loss, theta, x, t[None])
    M = martens_preconditioner(P, lam)
    assert M.psd
    close(M.dense(), np.diag(((g**2).sum(axis=0) / N + lam) ** -0.75))
    close(martens_preconditioner(P, lam, exponent=0.5).diagonal(), ((g**2).sum(axis=0) / N + lam) ** -0.5)


def test_repeating_the_batch_changes_nothing():
    """So it is with the mean over samples, and with the loss, its metric and lam; not with the printed sum."""
    net, loss = CASES["Bernoulli"]
    theta, x, t = problem(net, loss)
    batches = (x, t), (np.tile(x, (2, 1)), np.tile(t, (2, 1)))
    once, twice = (made(per_sample_gradients, net, loss, theta, *batch) for batch in batches)
    close(martens_preconditioner(twice, 0.1).diagonal(), martens_preconditioner(once, 0.1).diagonal())


def test_of_drawn_targets():
    """The diagonal of the mc Fisher in place of the empirical one's."""
    net, loss = CASES["Categorical"]
    theta, x, _ = problem(net, loss)
    G = fisher(Objective(net, loss), dev(theta), dev(x), kind="mc", rng=np.random.default_rng(0), samples=4)
    close(martens_preconditioner(G.P, 0.1).diagonal(), (host(G.diagonal()) + 0.1) ** -0.75)


@pytest.mark.parametrize("seed", range(3))
def test_it_saves_iterations_where_inputs_are_badly_scaled(seed):
    """Counted until the quadratic is within 0.1 % of its minimum, which is what truncated Newton asks of CG. (Until the
    residual is small, it can take more: the residual's norm is not what preconditioned CG makes small.)"""
    rng = np.random.default_rng(seed)
    net, loss = mlp([20, 5]), Categorical()
    theta = 0.3 * rng.standard_normal(net.layout.size)
    x, t = rng.standard_normal((200, 20)) * np.logspace(-1.5, 1.5, 20), rng.integers(5, size=200)
    z, batch = on_device(loss, theta, x, t)
    J, lam = Objective(net, loss), 1e-3
    A = gauss_newton(J, z, batch) + lam * identity(theta.size)
    g = host(J.value_and_grad(z, batch)[1])
    least = -g @ np.linalg.solve(host(A.dense()), g) / 2

    def iterations(M):
        quadratics = cg(A, dev(-g), rtol=1e-12, M=M)[1].quadratics
        return next(i for i, phi in enumerate(quadratics) if phi < 0.999 * least)

    P = per_sample_gradients(J, z, batch)
    plain, martens, whole = map(iterations, (None, *(martens_preconditioner(P, lam, e) for e in (0.75, 1.0))))
    assert martens < 0.5 * plain
    assert martens < whole  # why the exponent is below one


def test_float32_and_the_device(device):
    net, loss = CASES["Gaussian beta"]
    theta, x, t = problem(net, loss)
    M = martens_preconditioner(made(per_sample_gradients, net, loss, theta, x, t, "float32"), 0.1)
    assert M.dtype == (M @ dev(theta, "float32")).dtype == "float32"
    close(
        M.diagonal(), martens_preconditioner(made(per_sample_gradients, net, loss, theta, x, t), 0.1).diagonal(), 1e-5
    )


@pytest.mark.parametrize("lam", [0.0, -1.0, math.nan])
def test_lam_must_be_positive(lam):
    net, loss = CASES["Gaussian"]
    P = made(per_sample_gradients, net, loss, *problem(net, loss))
    with pytest.raises(ValueError, match=f"martens_preconditioner: lam must be positive, got {lam}"):
        martens_preconditioner(P, lam)
