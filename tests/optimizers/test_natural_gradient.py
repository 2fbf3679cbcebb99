"""Natural gradient against dense solves, its invariance, its damping, and what it does with a bad step."""

import itertools
import math

import numpy as np
import pytest

from minigrad import Objective, backend
from minigrad.curvature import fisher
from minigrad.linalg import MartensStop
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import Layout, mlp
from minigrad.optimizers import ConjugateGradient, FixedDamping, LevenbergMarquardt, NaturalGradient
from tests.helpers import dev, host

EXACT = ConjugateGradient(maxiter=400, rtol=1e-12, stop=None)


def problem(loss, sizes=(4, 3, 2), samples=40, seed=0):
    rng = np.random.default_rng(seed)
    net = mlp(list(sizes), activation="tanh")
    x = rng.standard_normal((samples, sizes[0]))
    if isinstance(loss, Categorical):
        t = rng.integers(0, sizes[-1], samples)
    else:
        t = rng.random((samples, sizes[-1]))
    return Objective(net, loss), net.init(rng, "float64"), (dev(x), dev(t))


def no_draw(size=None):
    raise AssertionError("no further batch was asked for")


LOSSES = [Gaussian(0.6), Bernoulli(), Categorical()]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("lr", [1.0, 0.3])
def test_step_is_the_damped_dense_solution(loss, lr):
    objective, theta, batch = problem(loss)
    lam = 0.05
    optimizer = NaturalGradient(lr=lr, damping=FixedDamping(lam), solver=EXACT, warm_start=0.0)
    new, state, log = optimizer.step(theta, optimizer.init(objective, theta), objective, batch, no_draw, None)
    F = host(fisher(objective, theta, batch[0]).dense())
    g = host(objective.value_and_grad(theta, batch)[1])
    d = -np.linalg.solve(F + lam * np.eye(len(g)), g)
    np.testing.assert_allclose(host(state["d"]), d, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(host(new - theta), lr * d, rtol=1e-7, atol=1e-9)
    # rho: actual change over the change that the undamped model promises
    step = lr * d
    promised = g @ step + 0.5 * step @ F @ step
    actual = objective.value(theta + dev(step), batch) - log["loss"]
    assert log["rho"] == pytest.approx(actual / promised, rel=1e-6)
    assert log["taken"] == 1.0 and log["damping"] == lam and state["update"] == 1


def test_one_step_solves_a_linear_least_squares_problem():
    objective, theta, (x, t) = problem(Gaussian(), sizes=(5, 2))
    optimizer = NaturalGradient(damping=FixedDamping(1e-12), solver=EXACT)
    new, _, log = optimizer.step(theta, optimizer.init(objective, theta), objective, (x, t), no_draw, None)
    rows = np.hstack([host(x), np.ones((len(x), 1))])
    best = np.linalg.lstsq(rows, host(t), rcond=None)[0]
    np.testing.assert_allclose(host(new), best.ravel(), rtol=1e-6, atol=1e-8)
    assert log["rho"] == pytest.approx(1.0, abs=1e-6)  # there the model is the function


class Reparametrized:
    """The net at theta = B phi + c, as a net in phi."""

    def __init__(self, net, B, c):
        self.net, self.B, self.c = net, B, c
        self.layout = Layout({"phi": (net.layout.size,)})

    def apply(self, phi, x):
        return self.net.apply(self.B @ phi + self.c, x)


def test_invariant_under_affine_reparametrization():
    """DESIGN 7, rung 6: the same function after a step of any length, however theta is written (damping aside)."""
    objective, theta, batch = problem(Bernoulli(), samples=200)
    rng = np.random.default_rng(3)
    n = theta.shape[0]
    B = np.eye(n) + 0.3 * rng.standard_normal((n, n))
    c = rng.standard_normal(n)
    phi = dev(np.linalg.solve(B, host(theta) - c))
    other = Objective(Reparametrized(objective.net, dev(B), dev(c)), objective.loss)
    optimizer = NaturalGradient(lr=0.5, damping=FixedDamping(1e-11), solver=EXACT)
    new = optimizer.step(theta, optimizer.init(objective, theta), objective, batch, no_draw, None)[0]
    new_phi = optimizer.step(phi, optimizer.init(other, phi), other, batch, no_draw, None)[0]
    moved = host(objective.predict(new, batch[0]) - objective.predict(theta, batch[0]))
    gap = host(objective.predict(new, batch[0]) - other.predict(new_phi, batch[0]))
    assert abs(moved).max() > 1e-2
    assert abs(gap).max() < 1e-5 * abs(moved).max()


def test_a_step_that_raises_the_loss_is_not_taken():
    objective, theta, batch = problem(Categorical())
    optimizer = NaturalGradient(lr=1e4, damping=LevenbergMarquardt(lam=1.0), solver=EXACT)
    before = host(theta).copy()
    new, state, log = optimizer.step(theta, optimizer.init(objective, theta), objective, batch, no_draw, None)
    assert log["taken"] == 0.0
    assert np.array_equal(host(new), before) and np.array_equal(host(theta), before)  # bit for bit
    assert state["lam"] == 1.5


def test_a_step_that_overflows_is_not_taken():
    objective, theta, batch = problem(Gaussian(), sizes=(4, 2))
    optimizer = NaturalGradient(lr=1e300, damping=LevenbergMarquardt(lam=2.0), solver=EXACT)
    with np.errstate(over="ignore", invalid="ignore"):
        new, state, log = optimizer.step(theta, optimizer.init(objective, theta), objective, batch, no_draw, None)
    assert new is theta and math.isnan(log["rho"]) and state["lam"] == 3.0


@pytest.mark.parametrize(
    "rho, expected",
    [
        (-1.0, 3.0),
        (0.0, 3.0),
        (0.2499, 3.0),
        (0.25, 2.0),
        (0.75, 2.0),
        (0.7501, 2 / 1.5),
        (9.0, 2 / 1.5),
        (math.nan, 3.0),
    ],
)
def test_levenberg_marquardt(rho, expected):
    """Martens (2010), section 4.1."""
    assert LevenbergMarquardt().adapt(2.0, rho) == pytest.approx(expected)
    assert FixedDamping(2.0).adapt(2.0, rho) == 2.0


def test_damping_stays_in_bounds():
    policy = LevenbergMarquardt(lam=1.0, factor=10, least=0.5, most=3.0)
    assert policy.adapt(1.0, 1.0) == 0.5
    assert policy.adapt(1.0, 0.0) == 3.0


def test_metric_on_its_own_batch():
    """The direction uses F of the drawn samples; gradient and acceptance stay with the batch."""
    objective, theta, batch = problem(Categorical())
    other = problem(Categorical(), samples=15, seed=9)[2]
    asked = []

    def draw(size=None):
        asked.append(size)
        return other

    lam = 0.1
    optimizer = NaturalGradient(damping=FixedDamping(lam), solver=EXACT, metric_batch=15)
    _, state, log = optimizer.step(theta, optimizer.init(objective, theta), objective, batch, draw, None)
    F = host(fisher(objective, theta, other[0]).dense())
    g = host(objective.value_and_grad(theta, batch)[1])
    np.testing.assert_allclose(host(state["d"]), -np.linalg.solve(F + lam * np.eye(len(g)), g), rtol=1e-7, atol=1e-9)
    assert asked == [15]
    assert log["gradients"] == pytest.approx(4 / 3 + 15 / 40 * (1 + 4 * log["iterations"]) / 3)


def test_warm_start_begins_at_the_last_direction():
    objective, theta, batch = problem(Bernoulli())
    starts = []

    class Recording(ConjugateGradient):
        def __call__(self, A, b, x0):
            starts.append(host(x0).copy())
            return super().__call__(A, b, x0)

    optimizer = NaturalGradient(solver=Recording(maxiter=3), warm_start=0.5)
    state = optimizer.init(objective, theta)
    for _ in range(2):
        last = host(state["d"]).copy()
        theta, state, _ = optimizer.step(theta, state, objective, batch, no_draw, None)
    assert not starts[0].any()
    np.testing.assert_array_equal(starts[1], 0.5 * last)


def test_forward_passes_do_not_grow_with_iterations():
    """k CG iterations cost one forward pass: the net runs for gradient, metric and new value, and no more."""
    objective, theta, batch = problem(Bernoulli())
    calls = []

    class Counting:
        layout = objective.net.layout

        def apply(self, theta, x):
            calls.append(1)
            return objective.net.apply(theta, x)

    counted = Objective(Counting(), objective.loss)
    for maxiter in (1, 20):
        calls.clear()
        optimizer = NaturalGradient(solver=ConjugateGradient(maxiter=maxiter, stop=None))
        log = optimizer.step(theta, optimizer.init(counted, theta), counted, batch, no_draw, None)[2]
        assert log["iterations"] == maxiter and len(calls) == 3


def test_host_reads_a_step():
    """One read an iteration at most, and a few for the scalars of the step."""
    objective, theta, batch = problem(Bernoulli())
    for solver, allowed in ((ConjugateGradient(20), 40), (ConjugateGradient(20, stop=None), 16)):
        optimizer = NaturalGradient(solver=solver)
        state = optimizer.init(objective, theta)
        before = backend.host_reads.count
        optimizer.step(theta, state, objective, batch, no_draw, None)
        assert backend.host_reads.count - before <= allowed


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_training_reduces_the_loss_in_float32(loss):
    objective, theta, (x, t) = problem(loss)
    theta, x = theta.astype("float32"), x.astype("float32")
    t = t if t.dtype.kind == "i" else t.astype("float32")
    optimizer = NaturalGradient()
    state, losses = optimizer.init(objective, theta), []
    for _ in range(10):
        theta, state, log = optimizer.step(theta, state, objective, (x, t), no_draw, None)
        losses.append(log["loss"])
    assert theta.dtype == np.float32 and state["d"].dtype == np.float32
    assert all(b <= a for a, b in itertools.pairwise(losses)) and losses[-1] < losses[0]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: NaturalGradient(lr=0), "lr must be"),
        (lambda: NaturalGradient(metric_batch=0), "metric_batch must be"),
        (lambda: NaturalGradient(metric_batch=2.5), "metric_batch must be"),
        (lambda: NaturalGradient(warm_start=1.5), "warm_start must lie"),
        (lambda: NaturalGradient(warm_start=-0.1), "warm_start must lie"),
        (lambda: FixedDamping(0.0), "lam must be"),
        (lambda: LevenbergMarquardt(lam=-1.0), "lam must be"),
        (lambda: LevenbergMarquardt(factor=1.0), "factor must be"),
        (lambda: LevenbergMarquardt(low=0.8), "low must be"),
    ],
)
def test_bad_hyper_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_default_solver_stops_by_progress():
    assert NaturalGradient().solver.stop == MartensStop()
