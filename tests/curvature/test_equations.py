"""Rung 7: the displayed equations of Pascanu & Bengio that the curvature code uses, one test each, by plain NumPy.

y and its Jacobian come from complex steps. What the paper says in words about the matrices stands below the equations.
"""

import numpy as np
import pytest

from minigrad import Objective
from minigrad.curvature import fisher, gauss_newton, gradient_covariance, hessian
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import Layout, mlp
from tests.curvature.cases import CASES, N, each_case, made, on_device, problem, scores, second_derivative
from tests.helpers import close, dev, host
from tests.nets.reference import all_targets, complex_jacobian, distribution, forward, sample_losses


def jacobians(net, loss, theta, x):
    """r, y (N, O), and their Jacobians (N, O, n)."""
    r, y = (lambda theta: forward(net, theta, x)), (lambda theta: distribution(loss, forward(net, theta, x)))
    return r(theta), y(theta), complex_jacobian(r, theta), complex_jacobian(y, theta)


def exact(net, loss, theta, x):
    return host(fisher(Objective(net, loss), dev(theta), dev(x)).dense())


def cases_of(kind):
    chosen = {name: case for name, case in CASES.items() if isinstance(case[1], kind)}
    return pytest.mark.parametrize(("net", "loss"), chosen.values(), ids=chosen)


# --- the natural gradient ---------------------------------------------------------------------------------


def test_eq_2_and_7_no_step_of_equal_divergence_lowers_the_loss_more():
    """A small step along -G^-1 g against steps along -g and at random, each as long as the same divergence allows."""
    net, loss = CASES["Bernoulli"]
    theta, x, t = problem(net, loss, n=12)
    J, (z, batch) = Objective(net, loss), on_device(loss, theta, x, t)
    g = host(J.value_and_grad(z, batch)[1])
    G = exact(net, loss, theta, x) + 1e-6 * np.eye(theta.size)
    rng = np.random.default_rng(0)
    r = J.linearize(z, batch[0])[0]

    def change(direction):
        d = direction * np.sqrt(2e-6 / (direction @ G @ direction))
        new = J.linearize(dev(theta + d), batch[0])[0]
        np.testing.assert_allclose(host(loss.kl(r, new)), 1e-6, rtol=0.05)
        return J.value(dev(theta + d), batch) - J.value(z, batch)

    natural = change(-np.linalg.solve(G, g))
    assert natural < 1.1 * change(-g) < 0
    assert all(natural < change(direction) for direction in rng.standard_normal((20, theta.size)))


@each_case
@pytest.mark.parametrize("backwards", [False, True])
def test_eq_3_and_4_the_divergence_is_half_the_square_of_the_step(net, loss, backwards):
    """KL = d'Fd / 2 + O(d^3), in both directions: what is left falls to an eighth where the step is halved."""
    theta, x, _ = problem(net, loss)
    J, F = Objective(net, loss), exact(net, loss, theta, x)
    d = np.random.default_rng(3).standard_normal(theta.size) / np.sqrt(theta.size)
    r = dev(forward(net, theta, x))

    def rest(h):
        new = J.linearize(dev(theta + h * d), dev(x))[0]
        return host(loss.kl(new, r) if backwards else loss.kl(r, new)) - h * h * d @ F @ d / 2

    for h in (0.02, 0.01):
        assert 7.5 < rest(h) / rest(h / 2) < 8.5
    assert abs(rest(0.02)) < 0.05 * 0.02**2 * d @ F @ d / 2


@each_case
def test_eq_3_and_22_the_expected_hessian_is_the_fisher(net, loss):
    """E_t over p(t | x) of d2(-log p), every target there is, against E_t of the product of scores."""
    theta, x, _ = problem(net, loss, n=1)
    targets, p = all_targets(loss, forward(net, theta, x))
    expected = sum(p_t[0] * host(made(hessian, net, loss, theta, x, t).dense())
                   for t, p_t in zip(targets, p, strict=True))  # fmt: skip
    close(exact(net, loss, theta, x), expected, rtol=1e-10)


def test_eq_5_gives_minus_one_over_lambda():
    """The gradient in d of g'd + lambda/2 d'Gd is zero at -G^-1 g / lambda; the text has a factor of 2/lambda."""
    net, loss = CASES["Gaussian"]
    theta, x, t = problem(net, loss, n=30)
    _, g = Objective(net, loss).value_and_grad(*on_device(loss, theta, x, t))
    g, G, lam = host(g), exact(net, loss, theta, x) + 1e-8 * np.eye(theta.size), 3.0
    lagrangian = lambda d: g @ d + lam / 2 * d @ G @ d
    d = -np.linalg.solve(G, g)
    np.testing.assert_allclose(complex_jacobian(lagrangian, d / lam), 0, atol=1e-10 * abs(g).max())
    np.testing.assert_allclose(lagrangian(2 * d / lam), 0, atol=1e-10 * abs(lagrangian(d / lam)))


@each_case
def test_eq_8_the_metric_is_an_expectation_over_the_models_targets(net, loss):
    theta, x, _ = problem(net, loss)
    targets, p = all_targets(loss, forward(net, theta, x))
    g = scores(net, loss, theta, x, targets)
    close(exact(net, loss, theta, x), np.einsum("kn,kni,knj->ij", p, g, g) / N, rtol=1e-10)


# --- the metrics in y -------------------------------------------------------------------------------------


@cases_of(Gaussian)
def test_eq_9_and_24_linear_outputs(net, loss):
    """E[J'J] / beta^2. The paper prints beta^2 E[J'J], though eq. 23 makes beta a standard deviation."""
    theta, x, _ = problem(net, loss)
    _, _, _, J = jacobians(net, loss, theta, x)
    G = exact(net, loss, theta, x)
    close(G, np.einsum("nki,nkj->ij", J, J) / N / loss.beta**2)
    if loss.beta != 1:
        printed = np.einsum("nki,nkj->ij", J, J) / N * loss.beta**2
        close(G, printed / loss.beta**4)


@cases_of(Bernoulli)
def test_eq_10_and_26_sigmoid_outputs(net, loss):
    theta, x, _ = problem(net, loss)
    _, y, _, J = jacobians(net, loss, theta, x)
    close(exact(net, loss, theta, x), np.einsum("nki,nk,nkj->ij", J, 1 / (y * (1 - y)), J) / N)


@cases_of(Categorical)
def test_eq_11_and_28_softmax_outputs(net, loss):
    theta, x, _ = problem(net, loss)
    _, y, _, J = jacobians(net, loss, theta, x)
    close(exact(net, loss, theta, x), np.einsum("nki,nk,nkj->ij", J, 1 / y, J) / N)


@each_case
def test_eq_12_and_13_covariance_of_gradients(net, loss):
    theta, x, t = problem(net, loss)
    (g,) = scores(net, loss, theta, x, t[None])
    centred = g - g.mean(axis=0)
    close(made(gradient_covariance, net, loss, theta, x, t, centred=True).dense(), centred.T @ centred / N)
    close(made(gradient_covariance, net, loss, theta, x, t).dense(), g.T @ g / N)


# --- the Gauss-Newton matrix ------------------------------------------------------------------------------


@each_case
def test_eq_14_gauss_newton(net, loss):
    """1/N sum J_r' H J_r, H the Hessian of -log p in r; the paper drops the minus."""
    theta, x, t = problem(net, loss)
    r, _, J, _ = jacobians(net, loss, theta, x)
    H = np.stack([second_derivative(lambda r, i=i: sample_losses(loss, r, t[i]), r[i]) for i in range(N)])
    close(made(gauss_newton, net, loss, theta, x, t).dense(), np.einsum("nki,nkl,nlj->ij", J, H, J) / N, rtol=1e-10)


@cases_of(Gaussian)
def test_eq_15_and_16_linear_outputs(net, loss):
    """2 E[J'J] of ||r - t||^2, and so E[J'J] / beta^2 of our ||r - t||^2 / (2 beta^2): the same as eq. 9."""
    theta, x, t = problem(net, loss)
    _, _, J, _ = jacobians(net, loss, theta, x)
    printed = 2 * np.einsum("nki,nkj->ij", J, J) / N
    close(made(gauss_newton, net, loss, theta, x, t).dense(), printed / (2 * loss.beta**2))


@cases_of(Bernoulli)
def test_eq_17_and_18_sigmoid_outputs(net, loss):
    theta, x, t = problem(net, loss)
    _, y, J_r, J_y = jacobians(net, loss, theta, x)
    G = made(gauss_newton, net, loss, theta, x, t)
    close(G.dense(), np.einsum("nki,nk,nkj->ij", J_r, y * (1 - y), J_r) / N)
    close(G.dense(), np.einsum("nki,nk,nkj->ij", J_y, 1 / (y * (1 - y)), J_y) / N)


@cases_of(Categorical)
def test_eq_19_to_21_softmax_outputs(net, loss):
    """M = sum_k (dy_k/dr)' (dy_k/dr) / y_k is diag(y) - y y'; J_r' M J_r is the metric and the Gauss-Newton matrix.

    (The second line of eq. 21 prints dy_k/dy_i for dy_k/dr_i; its result is right.)
    """
    theta, x, t = problem(net, loss)
    r, y, J, _ = jacobians(net, loss, theta, x)
    for r_i, y_i in zip(r, y, strict=True):
        S = complex_jacobian(lambda r: distribution(loss, r), r_i)
        close(np.einsum("k,ki,kj->ij", 1 / y_i, S, S), np.diag(y_i) - np.outer(y_i, y_i))
    M = np.einsum("nk,kl->nkl", y, np.eye(y.shape[1])) - np.einsum("nk,nl->nkl", y, y)
    expected = np.einsum("nki,nkl,nlj->ij", J, M, J) / N
    close(exact(net, loss, theta, x), expected)
    close(made(gauss_newton, net, loss, theta, x, t).dense(), expected)


# --- section 3: an unbalanced metric ----------------------------------------------------------------------


def test_a_metric_batch_with_twice_of_one_class_slows_that_class_down():
    """x is one of two basis vectors, A or B, so each weight is one class's. A moves by 3/4 of before, B by 3/2."""

    class Table:
        layout = Layout({"w": (2, 1)})

        def apply(self, theta, x):
            return x @ self.layout.views(theta)["w"]

    J, theta, A, B = Objective(Table(), Gaussian()), dev([0.0, 0.0]), [1.0, 0.0], [0.0, 1.0]
    _, g = J.value_and_grad(theta, (dev([A, B]), dev([[1.0], [1.0]])))
    steps = (-np.linalg.solve(host(fisher(J, theta, dev(x)).dense()), host(g)) for x in ([A, B], [A, A, B]))
    balanced, unbalanced = steps
    close(balanced, [1.0, 1.0])
    close(unbalanced, [0.75, 1.5])


# --- section 4.1: "at convergence, U, G and the Hessian are very similar" -----------------------------------


def meeting(loss, noise, n):
    """(U, F, H) at the true parameters: x at random, t drawn by noise(rng, r) around the net's own r."""
    net, rng = mlp([2, 2, 1]), np.random.default_rng(7)
    theta, x = rng.standard_normal(net.layout.size), rng.standard_normal((n, 2))
    t = noise(rng, forward(net, theta, x))
    U, H = (host(made(build, net, loss, theta, x, t).dense()) for build in (gradient_covariance, hessian))
    return U, exact(net, loss, theta, x), H


def apart(A, B):
    return np.linalg.norm(A - B) / np.linalg.norm(B)


RIGHT = {
    "Gaussian": (Gaussian(beta=0.5), lambda rng, r: r + 0.5 * rng.standard_normal(r.shape)),
    "Bernoulli": (Bernoulli(), lambda rng, r: (rng.random(r.shape) < 1 / (1 + np.exp(-r))).astype(float)),
}


@pytest.mark.parametrize(("loss", "noise"), RIGHT.values(), ids=RIGHT)
def test_where_the_model_is_right_all_three_meet_as_the_batch_grows(loss, noise):
    """By 1 / sqrt(N): a hundred times the samples, a tenth of the distance."""
    distances = []
    for n in (200, 20_000):
        U, F, H = meeting(loss, noise, n)
        distances.append((apart(U, F), apart(H, F)))
    (u, h), (u_more, h_more) = distances
    assert 0.02 < u < 0.5 and 0.02 < h < 0.5
    assert u_more < 0.25 * u and h_more < 0.25 * h
    assert max(u_more, h_more) < 0.05


def test_with_only_the_mean_right_the_hessian_meets_the_fisher_and_the_covariance_does_not():
    """Noise of deviation sigma where the model says beta: H -> F still, but U -> (sigma / beta)^2 F."""
    beta, sigma = 0.5, 1.0
    U, F, H = meeting(Gaussian(beta), lambda rng, r: r + sigma * rng.standard_normal(r.shape), 20_000)
    assert apart(H, F) < 0.05
    assert apart(U, (sigma / beta) ** 2 * F) < 0.05
    assert apart(U, F) > 2


def test_where_the_residuals_vanish_so_does_the_covariance():
    """At zero training error, a convergence too, H = F to rounding while U = 0: the paper's sentence needs noise."""
    for loss, t in ((Gaussian(beta=0.5), lambda rng, r: r), (Bernoulli(), lambda rng, r: 1 / (1 + np.exp(-r)))):
        U, F, H = meeting(loss, t, 50)
        assert apart(H, F) < 1e-14
        assert abs(U).max() < 1e-25 * abs(F).max()


def test_with_the_mean_wrong_none_meet():
    U, F, H = meeting(Gaussian(), lambda rng, r: r + 1 + rng.standard_normal(r.shape), 20_000)
    assert min(apart(U, F), apart(H, F), apart(U, H)) > 0.15
