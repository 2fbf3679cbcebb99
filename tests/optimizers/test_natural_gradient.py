"""Natural gradient against dense solves, for every metric, solver and batch; its invariance; its cost."""

import itertools
import math

import numpy as np
import pytest

from minigrad import Objective, backend
from minigrad.curvature import fisher
from minigrad.linalg import MartensStop
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.optimizers import (
    ConjugateGradient,
    FixedDamping,
    LevenbergMarquardt,
    Minres,
    MinresQLP,
    NaturalGradient,
    SampleSpace,
    Unlabeled,
)
from tests.helpers import close, dev, host
from tests.optimizers.problems import draw_of, each_loss, no_draw, problem, reparametrized, sample_rows, take

EXACT = ConjugateGradient(maxiter=400, rtol=1e-12, stop=None)
SOLVERS = [EXACT, Minres(400, 1e-12, None), MinresQLP(400, 1e-12, None), SampleSpace()]


def dense_metric(kind, samples, objective, theta, batch):
    """The metric as a matrix, by other means than the optimizer's: rows one at a time, or an explicit expectation."""
    if kind == "exact":
        return host(fisher(objective, theta, batch[0]).dense())
    if kind == "mc":
        return host(fisher(objective, theta, batch[0], "mc", rng=np.random.default_rng(5), samples=samples).dense())
    rows = sample_rows(objective, theta, batch)
    return rows.T @ rows / len(rows) if kind == "empirical" else np.cov(rows.T, bias=True)


# --- the direction -------------------------------------------------------------------------------------------


@each_loss
@pytest.mark.parametrize("lr", [1.0, 0.3])
def test_step_is_the_damped_dense_solution(loss, lr):
    objective, theta, batch = problem(loss)
    lam = 0.05
    optimizer = NaturalGradient(lr=lr, damping=FixedDamping(lam), solver=EXACT, warm_start=0.0)
    new, state, log = take(optimizer, objective, theta, batch)
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
    assert log["gradient_norm"] == pytest.approx(np.linalg.norm(g)) and log["lr"] == lr


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("metric, samples", [("exact", 1), ("mc", 1), ("mc", 3), ("empirical", 1), ("covariance", 1)])
def test_metrics_and_solvers_combine(metric, samples, solver):
    """Every pair gives the dense solution, and rho has the model's promise, from phi and no further product."""
    if metric == "exact" and isinstance(solver, SampleSpace):
        return  # refused, see below
    objective, theta, batch = problem(Bernoulli())
    lam, lr = 0.05, 0.4
    optimizer = NaturalGradient(lr, FixedDamping(lam), solver, metric, samples)
    _, state, log = take(optimizer, objective, theta, batch, rng=np.random.default_rng(5))
    G = dense_metric(metric, samples, objective, theta, batch)
    g = host(objective.value_and_grad(theta, batch)[1])
    d = -np.linalg.solve(G + lam * np.eye(len(g)), g)
    np.testing.assert_allclose(host(state["d"]), d, rtol=1e-7, atol=1e-9)
    actual = objective.value(theta + lr * dev(d), batch) - log["loss"]
    assert log["rho"] == pytest.approx(actual / (lr * g @ d + 0.5 * lr * lr * d @ G @ d), rel=1e-6)


@pytest.mark.parametrize("solver", [ConjugateGradient(3, stop=None), Minres(3, stop=None), MinresQLP(3, stop=None)])
def test_rho_of_a_truncated_solve(solver):
    """phi belongs to the d that is returned, however far from the solution, and wherever the solve started."""
    objective, theta, batch = problem(Categorical(), sizes=(4, 6, 3))
    optimizer = NaturalGradient(1.0, FixedDamping(0.01), solver, warm_start=0.7)
    state = optimizer.init(objective, theta)
    for _ in range(3):
        before, last = theta, state["d"]
        theta, state, log = optimizer.step(theta, state, objective, batch, no_draw, None)
    F, d = host(fisher(objective, before, batch[0]).dense()), host(state["d"])
    g = host(objective.value_and_grad(before, batch)[1])
    assert np.linalg.norm((F + 0.01 * np.eye(len(d))) @ d + g) > 1e-4 * np.linalg.norm(g)
    assert host(last).any() and log["iterations"] == 3
    actual = objective.value(before + dev(d), batch) - log["loss"]
    assert log["rho"] == pytest.approx(actual / (g @ d + 0.5 * d @ F @ d), rel=1e-8)


def test_one_step_solves_a_linear_least_squares_problem():
    objective, theta, (x, t) = problem(Gaussian(), sizes=(5, 2))
    new, _, log = take(NaturalGradient(damping=FixedDamping(1e-12), solver=EXACT), objective, theta, (x, t))
    rows = np.hstack([host(x), np.ones((len(x), 1))])
    best = np.linalg.lstsq(rows, host(t), rcond=None)[0]
    np.testing.assert_allclose(host(new), best.ravel(), rtol=1e-6, atol=1e-8)
    assert log["rho"] == pytest.approx(1.0, abs=1e-6)  # there the model is the function


def test_without_damping_minres_qlp_takes_the_shortest_solution():
    """More parameters than rows of J: G is singular, and lam = 0 leaves it so. The exact G's range holds g."""
    objective, theta, batch = problem(Categorical(), samples=3)
    optimizer = NaturalGradient(damping=FixedDamping(0.0), solver=MinresQLP(200, 1e-12, None), warm_start=0.0)
    _, state, _ = take(optimizer, objective, theta, batch)
    F, g = host(fisher(objective, theta, batch[0]).dense()), host(objective.value_and_grad(theta, batch)[1])
    assert np.linalg.matrix_rank(F) < len(g)
    close(state["d"], -np.linalg.pinv(F, rcond=1e-10, hermitian=True) @ g, rtol=1e-7)


@pytest.mark.parametrize("metric", ["exact", "mc", "empirical", "covariance"])
def test_invariant_under_affine_reparametrization(metric):
    """DESIGN 7, rung 6: the same function after a step of any length, however theta is written (damping aside)."""
    objective, theta, batch = problem(Bernoulli(), samples=200)
    other, phi = reparametrized(objective, theta)
    optimizer = NaturalGradient(0.5, FixedDamping(1e-11), EXACT, metric)
    new = take(optimizer, objective, theta, batch, rng=np.random.default_rng(5))[0]
    new_phi = take(optimizer, other, phi, batch, rng=np.random.default_rng(5))[0]
    moved = host(objective.predict(new, batch[0]) - objective.predict(theta, batch[0]))
    gap = host(objective.predict(new, batch[0]) - other.predict(new_phi, batch[0]))
    assert abs(moved).max() > 1e-2
    assert abs(gap).max() < 1e-5 * abs(moved).max()


# --- rejected steps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric, solver", [("exact", EXACT), ("mc", SampleSpace())])
def test_a_step_that_raises_the_loss_is_not_taken(metric, solver):
    """theta comes back bit for bit; each retry is damped by the state's lam alone, so that nothing accumulates."""
    objective, theta, batch = problem(Categorical())
    optimizer = NaturalGradient(1e4, LevenbergMarquardt(lam=1.0), solver, metric, warm_start=0.0)
    before, state = host(theta).copy(), optimizer.init(objective, theta)
    for update in range(3):
        rng = np.random.default_rng(5)
        new, state, log = optimizer.step(theta, state, objective, batch, no_draw, rng)
        lam = 1.5**update
        assert log["taken"] == 0.0 and not log["rho"] >= 0
        assert log["damping"] == lam and state["lam"] == 1.5 * lam
        assert new is theta and np.array_equal(host(theta), before)  # bit for bit
        G = dense_metric(metric, 1, objective, theta, batch)
        g = host(objective.value_and_grad(theta, batch)[1])
        np.testing.assert_allclose(host(state["d"]), -np.linalg.solve(G + lam * np.eye(len(g)), g), rtol=1e-7)


def test_with_fixed_damping_every_step_is_taken():
    """Pascanu & Bengio's algorithm 1 has no test: a retry with the same lam would be the same step."""
    objective, theta, batch = problem(Categorical())
    new, state, log = take(NaturalGradient(1e3, FixedDamping(1.0), EXACT), objective, theta, batch)
    assert log["taken"] == 1.0 and objective.value(new, batch) > log["loss"] and state["lam"] == 1.0
    close(new, theta + 1e3 * state["d"], rtol=0)


def test_a_step_that_overflows_is_not_taken():
    objective, theta, batch = problem(Gaussian(), sizes=(4, 2))
    optimizer = NaturalGradient(lr=1e300, damping=LevenbergMarquardt(lam=2.0), solver=EXACT)
    with np.errstate(over="ignore", invalid="ignore"):
        new, state, log = take(optimizer, objective, theta, batch)
    assert new is theta and math.isnan(log["rho"]) and state["lam"] == 3.0


# --- whose batch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["exact", "empirical", "covariance"])
def test_metric_on_its_own_batch(metric):
    """The direction uses G of the drawn samples; gradient and acceptance stay with the batch."""
    objective, theta, batch = problem(Categorical())
    other = problem(Categorical(), samples=15, seed=9)[2]
    asked = []

    def draw(size=None):
        asked.append(size)
        return other

    lam = 0.1
    optimizer = NaturalGradient(damping=FixedDamping(lam), solver=EXACT, metric=metric, metric_batch=15)
    _, state, log = take(optimizer, objective, theta, batch, draw)
    G = dense_metric(metric, 1, objective, theta, other)
    g = host(objective.value_and_grad(theta, batch)[1])
    np.testing.assert_allclose(host(state["d"]), -np.linalg.solve(G + lam * np.eye(len(g)), g), rtol=1e-7, atol=1e-9)
    assert asked == [15]
    assert log["gradients"] == pytest.approx(4 / 3 + 15 / 40 * (1 + 4 * log["iterations"]) / 3)


class Poison:
    """Targets that nobody may look at."""

    shape = (15,)

    def __getattr__(self, name):
        raise AssertionError(f"somebody asked the labels for {name}")

    __getitem__ = __len__ = __getattr__


@pytest.mark.parametrize("metric", ["exact", "mc"])
def test_labels_of_the_metrics_batch_are_not_used(metric):
    objective, theta, batch = problem(Categorical())
    x = problem(Categorical(), samples=15, seed=9)[2][0]
    optimizer = NaturalGradient(damping=FixedDamping(0.1), metric=metric, metric_batch=15)
    poisoned = take(optimizer, objective, theta, batch, lambda size: (x, Poison()), np.random.default_rng(5))[0]
    bare = take(optimizer, objective, theta, batch, lambda size: (x, None), np.random.default_rng(5))[0]
    close(poisoned, bare, rtol=0)


@pytest.mark.parametrize("metric, solver", [("exact", EXACT), ("mc", EXACT), ("mc", SampleSpace())])
def test_metric_on_unlabeled_inputs(metric, solver):
    """The same step as on those rows handed out by draw; the sources differ in nothing but where x comes from."""
    objective, theta, batch = problem(Categorical())
    pool = np.random.default_rng(2).standard_normal((50, 4))
    optimizer = NaturalGradient(0.5, FixedDamping(0.1), solver, metric, metric_batch=Unlabeled(pool, 15))
    found = take(optimizer, objective, theta, batch, rng=np.random.default_rng(5))[0]

    rng = np.random.default_rng(5)
    x = dev(pool[rng.choice(50, 15, replace=False)])
    drawing = NaturalGradient(0.5, FixedDamping(0.1), solver, metric, metric_batch=15)
    close(found, take(drawing, objective, theta, batch, lambda size: (x, None), rng)[0], rtol=0)
    own = NaturalGradient(0.5, FixedDamping(0.1), solver, metric)
    assert abs(host(found - take(own, objective, theta, batch, rng=np.random.default_rng(5))[0])).max() > 1e-3


def test_a_metric_batch_of_another_width_is_refused():
    objective, theta, batch = problem(Categorical())
    for optimizer in (
        NaturalGradient(metric_batch=3),
        NaturalGradient(metric_batch=Unlabeled(np.zeros((7, 5)), 3)),
    ):
        message = r"metric batch: samples must have the gradient batch's shape \(4,\), got \(5,\)"
        with pytest.raises(ValueError, match=message):
            take(
                optimizer, objective, theta, batch, lambda size: (dev(np.zeros((3, 5))), None), np.random.default_rng()
            )


# --- the solve -----------------------------------------------------------------------------------------------


def test_warm_start_begins_at_the_last_direction():
    objective, theta, batch = problem(Bernoulli())
    starts = []

    class Recording(ConjugateGradient):
        def __call__(self, G, lam, b, x0):
            starts.append(host(x0).copy())
            return super().__call__(G, lam, b, x0)

    optimizer = NaturalGradient(solver=Recording(maxiter=3), warm_start=0.5)
    state = optimizer.init(objective, theta)
    for _ in range(2):
        last = host(state["d"]).copy()
        theta, state, _ = optimizer.step(theta, state, objective, batch, no_draw, None)
    assert not starts[0].any()
    np.testing.assert_array_equal(starts[1], 0.5 * last)


class Counting:
    """A net that counts its forward passes."""

    def __init__(self, net):
        self.net, self.layout, self.calls = net, net.layout, 0

    def apply(self, theta, x):
        self.calls += 1
        return self.net.apply(theta, x)


@pytest.mark.parametrize("solver", [ConjugateGradient, Minres, MinresQLP])
def test_forward_passes_do_not_grow_with_iterations(solver):
    """k iterations cost none: the net runs for gradient and metric together, for the new value, and no more."""
    objective, theta, batch = problem(Bernoulli())
    for maxiter in (1, 8):
        net = Counting(objective.net)
        optimizer = NaturalGradient(solver=solver(maxiter=maxiter, stop=None))
        log = take(optimizer, Objective(net, objective.loss), theta, batch)[2]
        assert log["iterations"] == maxiter and net.calls == 2
        assert log["gradients"] == pytest.approx(4 / 3 + 4 / 3 * maxiter)


@pytest.mark.parametrize("metric", ["mc", "empirical", "covariance"])
def test_work_of_a_sample_space_step(metric):
    """Gradient and new value 4/3, the solve two products; a batch of the metric's own costs a third more."""
    objective, theta, batch = problem(Bernoulli())
    for metric_batch, calls, work in ((None, 2, 0), (40, 3, 1 / 3)):
        net = Counting(objective.net)
        optimizer = NaturalGradient(metric=metric, solver=SampleSpace(), metric_batch=metric_batch)
        draw = draw_of(batch)[0]
        log = take(optimizer, Objective(net, objective.loss), theta, batch, draw, np.random.default_rng(0))[2]
        assert net.calls == calls and log["gradients"] == pytest.approx(4 / 3 + work + 8 / 3)


def test_host_reads_a_step():
    """One read an iteration at most, and a few for the scalars of the step."""
    objective, theta, batch = problem(Bernoulli())
    for solver, allowed in ((ConjugateGradient(20), 36), (ConjugateGradient(20, stop=None), 12)):
        optimizer = NaturalGradient(solver=solver)
        state = optimizer.init(objective, theta)
        before = backend.host_reads.count
        optimizer.step(theta, state, objective, batch, no_draw, None)
        assert backend.host_reads.count - before <= allowed


@each_loss
@pytest.mark.parametrize("metric, solver", [("exact", ConjugateGradient()), ("mc", SampleSpace())])
def test_training_reduces_the_loss_in_float32(loss, metric, solver):
    objective, theta, batch = problem(loss, dtype="float32")
    optimizer = NaturalGradient(solver=solver, metric=metric)
    state, losses, rng = optimizer.init(objective, theta), [], np.random.default_rng(5)
    for _ in range(10):
        theta, state, log = optimizer.step(theta, state, objective, batch, no_draw, rng)
        losses.append(log["loss"])
    assert theta.dtype == np.float32 and state["d"].dtype == np.float32
    assert all(b <= a for a, b in itertools.pairwise(losses)) and losses[-1] < losses[0]


# --- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: NaturalGradient(lr=0), "lr must be"),
        (lambda: NaturalGradient(metric_batch=0), "NaturalGradient: metric_batch must be a whole number"),
        (lambda: NaturalGradient(metric_batch=2.5), "metric_batch must be a whole number of at least 1, got 2.5"),
        (lambda: NaturalGradient(metric_batch=True), "metric_batch must be a whole number of at least 1, got True"),
        (lambda: NaturalGradient(warm_start=1.5), "warm_start must lie"),
        (lambda: NaturalGradient(warm_start=-0.1), "warm_start must lie"),
        (lambda: NaturalGradient(metric="empiric"), "unknown metric 'empiric'; did you mean 'empirical'"),
        (lambda: NaturalGradient(metric="mc", samples=0), "samples must be a whole number of at least 1, got 0"),
        (lambda: NaturalGradient(samples=2), "samples=2 is for metric 'mc', got metric 'exact'"),
        (
            lambda: NaturalGradient(metric="empirical", metric_batch=Unlabeled(np.zeros((3, 2)), 2)),
            "metric 'empirical' needs targets",
        ),
        (
            lambda: NaturalGradient(metric="covariance", metric_batch=lambda rng: None),
            "metric 'covariance' needs targets",
        ),
        (lambda: NaturalGradient(solver=SampleSpace()), "SampleSpace needs one row a sample: metric 'mc'"),
        (
            lambda: ConjugateGradient(maxiter=0),
            "ConjugateGradient: maxiter must be a whole number of at least 1, got 0",
        ),
        (lambda: Minres(rtol=1.0), r"Minres: rtol must be a number in \[0, 1\), got 1.0"),
        (lambda: MinresQLP(rtol=-1e-3), r"MinresQLP: rtol must be a number in \[0, 1\), got -0.001"),
    ],
)
def test_bad_hyper_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_mc_without_rng_is_refused():
    objective, theta, batch = problem(Categorical())
    with pytest.raises(ValueError, match="mc needs an rng"):
        take(NaturalGradient(metric="mc"), objective, theta, batch)


def test_sample_space_without_damping_is_refused():
    objective, theta, batch = problem(Categorical())
    optimizer = NaturalGradient(damping=FixedDamping(0.0), metric="empirical", solver=SampleSpace())
    with pytest.raises(ValueError, match="lam must be positive"):
        take(optimizer, objective, theta, batch)


def test_default_solver_stops_by_progress():
    assert NaturalGradient().solver == ConjugateGradient(50, 0.0, MartensStop())
