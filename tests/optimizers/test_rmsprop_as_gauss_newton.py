"""RMSProp as a diagonal Gauss-Newton (George, section 3.6.1, "WIP"): what holds exactly, and what does not.

The thesis' bridge is section 3.1.5: cut at y, the Gauss-Newton matrix of a cross-entropy with labels is the empirical
Fisher information, E[g_i g_i'] over samples i. Its diagonal is the mean of squares; RMSProp squares a batch's mean.
"""

import itertools

import numpy as np
import pytest

from minigrad.curvature import gauss_newton, per_sample_gradients
from minigrad.linalg import Eigenbasis
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.optimizers import RMSProp
from tests.helpers import close, dev, host
from tests.optimizers.problems import LOSSES, Slope, problem, sample_rows


def labelled(loss, sizes=(4, 3, 3), samples=6):
    """(objective, theta, (x, t)) with targets that are labels: zeros and ones under Bernoulli."""
    objective, theta, (x, t) = problem(loss, sizes, samples)
    return objective, theta, (x, (t > 0.5).astype(t.dtype) if isinstance(loss, Bernoulli) else t)


def mean_of_squares(objective, theta, batch):
    """The diagonal of the empirical Fisher information, from the layers' h and delta."""
    return per_sample_gradients(objective, theta, batch).squares() / batch[0].shape[0]


@pytest.mark.parametrize("loss, sizes", [(Bernoulli(), (4, 3, 1)), (Categorical(), (4, 3, 3))])
def test_section_3_1_5_gauss_newton_cut_at_y_has_the_mean_of_squares_on_its_diagonal(loss, sizes):
    objective, theta, batch = labelled(loss, sizes)
    G = host(gauss_newton(objective, theta, batch, at="y").dense())
    close(np.diag(G), mean_of_squares(objective, theta, batch), 1e-10)
    close(np.diag(G), (sample_rows(objective, theta, batch) ** 2).mean(axis=0), 1e-10)


@pytest.mark.parametrize("loss, sizes, at", [
    (Bernoulli(), (4, 3, 2), "y"),  # G is a sum over outputs, gg' has products of different ones
    (Categorical(), (4, 3, 3), "r"),  # the Fisher metric, which no label enters
    (Gaussian(), (4, 3, 2), "y"),  # J'J, which no residual enters
])  # fmt: skip
def test_it_has_not_for_several_binary_outputs_nor_cut_at_r_nor_for_squared_error(loss, sizes, at):
    objective, theta, batch = labelled(loss, sizes)
    G = host(gauss_newton(objective, theta, batch, at=at).dense())
    squares = host(mean_of_squares(objective, theta, batch))
    assert abs(np.diag(G) - squares).max() > 0.1 * squares.max()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_section_3_6_1_with_batches_of_one_rmsprop_averages_that_diagonal(loss):
    objective, theta, (x, t) = labelled(loss)
    optimizer, expected = RMSProp(0.05, decay=0.8), 0.0
    state = optimizer.init(objective, theta)
    for i in range(6):
        one = x[i : i + 1], t[i : i + 1]
        expected = 0.8 * expected + 0.2 * host(mean_of_squares(objective, theta, one))
        theta, state, _ = optimizer.step(theta, state, objective, one)
        close(state["squares"], expected, 1e-10)


@pytest.mark.parametrize("B", [1, 2, 3])
def test_larger_batches_see_less_of_the_gradients_scatter(B):
    """E[(batch's mean)^2] = E[g]^2 + Var(g) / B, where the diagonal is E[g]^2 + Var(g): over all batches drawn with
    replacement. Without, that variance has the factor (N - B) / (N - 1)."""
    objective, theta, batch = labelled(Categorical())
    rows = sample_rows(objective, theta, batch)
    mean, diagonal = rows.mean(axis=0), host(mean_of_squares(objective, theta, batch))
    mean_square = lambda batches: np.mean([rows[list(i)].mean(axis=0) ** 2 for i in batches], axis=0)
    close(mean_square(itertools.product(range(6), repeat=B)), diagonal / B + (1 - 1 / B) * mean**2, 1e-10)
    expected = mean**2 + (6 - B) / 5 * (diagonal - mean**2) / B
    close(mean_square(itertools.combinations(range(6), B)), expected, 1e-10)


def test_at_a_minimum_the_batchs_mean_vanishes_and_the_diagonal_does_not():
    """Newton's method finds it: logistic regression on 12 samples that no line separates."""
    objective, theta, (x, t) = labelled(Bernoulli(), (3, 1), 12)
    t = dev(np.tile([0.0, 1.0], 6)[:, None])
    for _ in range(30):
        G = gauss_newton(objective, theta, (x, t)).dense()
        theta = theta - dev(np.linalg.solve(host(G), host(objective.value_and_grad(theta, (x, t))[1])))
    assert abs(host(objective.value_and_grad(theta, (x, t))[1])).max() < 1e-12
    assert host(mean_of_squares(objective, theta, (x, t))).min() > 1e-3


def test_the_root_makes_it_blind_to_the_losss_unit_and_dependent_on_the_parameters(rng):
    """Loss times c: g / sqrt(s) stays, g / s is divided by c. theta = c phi: gradients in phi are c g too, a step in
    theta is c times one in phi; so g / s takes the same step, g / sqrt(s) one that is c times as long."""
    c, g = 7.0, dev(rng.standard_normal(5))

    def steps(g):
        state = {"update": 0, "squares": g * g}  # as after many equal gradients
        new, _, _ = RMSProp(1.0, eps=1e-300).step(dev(np.zeros(5)), state, Slope(), g)
        return -new, Eigenbasis(None, None, (g * g)[None]).damped_inverse(0.0) @ g

    (rms, diagonal), (rms_c, diagonal_c) = steps(g), steps(c * g)
    close(rms_c, rms)
    close(c * diagonal_c, diagonal)


def test_gauss_newtons_diagonal_is_blind_to_both_units():
    """Cut at r: G is linear in the loss, here times 16, and quadratic in J, here too: inputs times 16 are weights in
    units of 1 / 16."""
    found, weights = [], slice(0, 6)
    for beta, scale in ((1.0, 1.0), (0.25, 1.0), (1.0, 16.0)):
        objective, theta, (x, t) = problem(Gaussian(beta), (3, 2))
        start = host(theta).copy()
        start[weights] /= scale
        batch = x * scale, t
        g = objective.value_and_grad(dev(start), batch)[1]
        d = np.diag(host(gauss_newton(objective, dev(start), batch).dense()))
        found.append(scale * host(g)[weights] / d[weights])
    close(found[1], found[0], 1e-10)
    close(found[2], found[0], 1e-10)
