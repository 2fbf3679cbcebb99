"""TONGA against dense solves, and where it differs from natural gradient."""

import numpy as np
import pytest

from minigrad.losses import Categorical
from minigrad.optimizers import TONGA, ConjugateGradient, FixedDamping, NaturalGradient, SampleSpace, Unlabeled
from tests.helpers import close, dev, host
from tests.optimizers.problems import draw_of, each_loss, problem, sample_rows, take


def covariance(rows, centred):
    return np.cov(rows.T, bias=True) if centred else rows.T @ rows / len(rows)


@each_loss
@pytest.mark.parametrize("metric", ["covariance", "empirical"])
@pytest.mark.parametrize("lam", [0.1, 3.0])
def test_pascanu_bengio_equations_12_and_13_step_is_the_dense_solution(loss, metric, lam):
    objective, theta, batch = problem(loss, samples=12, weight_decay=0.05)  # fewer samples than parameters
    new, _, log = take(TONGA(0.7, FixedDamping(lam), metric=metric), objective, theta, batch)
    C = covariance(sample_rows(objective, theta, batch), metric == "covariance")
    g = host(objective.value_and_grad(theta, batch)[1])
    close(new - theta, -0.7 * np.linalg.solve(C + lam * np.eye(len(g)), g), rtol=1e-10)
    assert log["taken"] == 1.0


@pytest.mark.parametrize("lam", [1e-3, 0.1, 10.0])
def test_centred_and_uncentred_directions_are_one(lam):
    """Sherman and Morrison: on the gradient's own batch U = C + g g', so only the length differs."""
    objective, theta, batch = problem(Categorical(), samples=12)
    centred = take(TONGA(damping=FixedDamping(lam)), objective, theta, batch)[1]["d"]
    uncentred = take(TONGA(damping=FixedDamping(lam), metric="empirical"), objective, theta, batch)[1]["d"]
    g = objective.value_and_grad(theta, batch)[1]
    close(host(uncentred), host(centred) / (1 - host(g) @ host(centred)), rtol=1e-9)


def test_it_depends_on_targets_where_natural_gradient_does_not():
    """Other targets in the metric's batch: another TONGA step, the same natural-gradient step."""
    objective, theta, batch = problem(Categorical())
    x, t = problem(Categorical(), samples=15, seed=9)[2]
    steps = {}
    for name, optimizer in {
        "TONGA": TONGA(metric_batch=15),
        "natural": NaturalGradient(damping=FixedDamping(0.1), metric_batch=15),
    }.items():
        steps[name] = [take(optimizer, objective, theta, batch, draw_of((x, targets))[0])[0] for targets in (t, 1 - t)]
    assert abs(host(steps["TONGA"][0] - steps["TONGA"][1])).max() > 1e-3
    close(*steps["natural"], rtol=0)


def test_any_solver_will_do():
    objective, theta, batch = problem(Categorical())
    exact = take(TONGA(), objective, theta, batch)[0]
    truncated = take(TONGA(solver=ConjugateGradient(200, 1e-13, None)), objective, theta, batch)[0]
    close(truncated, exact, rtol=1e-9)


def test_defaults_are_pascanu_and_bengios():
    optimizer = TONGA()
    assert optimizer.damping == FixedDamping(0.1) and optimizer.solver == SampleSpace()
    assert optimizer.metric == "covariance" and optimizer.metric_batch is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_follows_theta(dtype):
    objective, theta, batch = problem(Categorical(), dtype=dtype)
    new, state, log = take(TONGA(), objective, theta, batch, steps=3)
    assert new.dtype == state["d"].dtype == dtype and log["loss"] < objective.value(theta, batch)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TONGA(metric="exact"), "unknown TONGA metric 'exact'"),
        (lambda: TONGA(metric="mc"), "unknown TONGA metric 'mc'"),
        (lambda: TONGA(metric_batch=0), "TONGA: metric_batch must be a whole number"),
        (lambda: TONGA(metric_batch=Unlabeled(dev(np.zeros((3, 2))), 2)), "TONGA: metric 'covariance' needs targets"),
    ],
)
def test_bad_hyper_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
