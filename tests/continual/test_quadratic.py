"""EWC and SI against plain NumPy: sums over tasks, loops over samples, complex steps, and a path integral."""

from types import SimpleNamespace

import numpy as np
import pytest

from minigrad.continual import EWC, SI, numbers_kept
from minigrad.continual.methods import Penalized
from minigrad.continual.quadratic import quadratic
from minigrad.losses import Categorical, Gaussian
from minigrad.optimizers import SGD, Adam, Waterfall
from tests.helpers import close, dev, host
from tests.optimizers.problems import Quadratic, each_loss, no_draw, problem, sample_rows

LOSS = Gaussian(0.6)
SIZE = 23  # parameters of problem()'s net


def ended(theta, **state):
    """The history of a task that ended in theta."""
    return SimpleNamespace(theta=theta, state=state)


def complex_step(f, theta):
    """The gradient of f at theta."""
    return np.array([f(theta + 1e-30j * e).imag / 1e-30 for e in np.eye(len(theta))])


# --- EWC -----------------------------------------------------------------------------------------------------


def learned(method, tasks=3, loss=LOSS, dtype="float64"):
    """(objective, kept after `tasks` tasks, [(F_k, theta_k)] by loops over samples, on the host)."""
    kept, terms, rng, again = {}, [], np.random.default_rng(7), np.random.default_rng(7)
    for k in range(tasks):
        objective, theta, (x, t) = problem(loss, seed=k, dtype=dtype)
        x[:, 1] = 0  # one input is off: its weights have no Fisher information in any task
        kept = method.keep(kept, objective, ended(theta), (x, t), rng)
        draws = [t] if method.kind == "empirical" else drawn_targets(objective, theta, x, method.samples, again)
        rows = np.concatenate([sample_rows(objective, theta, (x, target)) for target in draws])
        terms.append(((rows**2).mean(axis=0), host(theta)))
    return objective, kept, terms


def drawn_targets(objective, theta, x, samples, rng):
    r = objective.net.apply(theta, x)
    return [objective.loss.sample(r, rng) for _ in range(samples)]


def penalty_by_hand(lam, terms, theta):
    return lam / 2 * sum(F_k @ (theta - theta_k) ** 2 for F_k, theta_k in terms)


@each_loss
@pytest.mark.parametrize(("kind", "samples"), [("mc", 1), ("mc", 2), ("empirical", 1)])
def test_ewc_is_the_sum_of_a_quadratic_penalty_for_each_task(loss, kind, samples):
    method = EWC(lam=20.0, kind=kind, samples=samples)
    objective, kept, terms = learned(method, loss=loss)
    theta = host(problem(loss, seed=9)[1])
    value, g = method.penalty_and_grad(objective, dev(theta), kept)
    by_hand = lambda theta: penalty_by_hand(20.0, terms, theta)
    assert value == pytest.approx(by_hand(theta), rel=1e-12)
    close(g, complex_step(by_hand, theta), rtol=1e-12)
    assert (terms[0][0] == 0).any()


def test_ewc_of_the_exact_fisher_draws_nothing():
    objective, theta, (x, t) = problem(Categorical())
    kept = EWC(kind="exact").keep({}, objective, ended(theta), (x, t), None)
    r = objective.net.apply(theta, x)
    p = host(objective.loss.predict(r))
    labels = [sample_rows(objective, theta, (x, dev(np.full(len(x), k)))) for k in range(2)]
    close(kept["F"], sum((p[:, k : k + 1] * labels[k] ** 2).mean(axis=0) for k in range(2)), rtol=1e-12)


def test_ewc_keeps_two_vectors_and_a_number_however_many_tasks():
    for tasks in (1, 2, 3):
        _, kept, terms = learned(EWC(), tasks)
        assert numbers_kept(kept) == 2 * SIZE + 1
    close(kept["F"], sum(F for F, _ in terms), rtol=1e-14)
    sums = sum(F * theta for F, theta in terms)  # the other form: sum F_k and sum F_k theta_k
    close(host(kept["F"] * kept["centre"]), sums, rtol=1e-12)


def test_at_the_end_of_the_only_task_the_penalty_and_its_gradient_are_zero():
    objective, kept, ((_, theta),) = learned(EWC(), 1)
    value, g = EWC().penalty_and_grad(objective, dev(theta), kept)
    assert value == 0 and not host(g).any()


def test_in_float32_the_squared_form_keeps_digits_that_the_expanded_one_loses():
    """sum F theta^2 - 2 theta sum F_k theta_k + sum F_k theta_k^2 is a small difference of large numbers."""
    objective, kept, ((F, centre),) = learned(EWC(lam=2.0), tasks=1, dtype="float32")
    assert kept["F"].dtype == kept["centre"].dtype == "float32"
    theta = centre + np.float32(1e-3)
    expected = F.astype("float64") @ (theta - centre).astype("float64") ** 2
    expanded = F @ theta**2 - 2 * F @ (theta * centre) + F @ centre**2
    value, g = EWC(lam=2.0).penalty_and_grad(objective, dev(theta), kept)
    assert g.dtype == "float32" and value == pytest.approx(expected, rel=1e-5)
    assert abs(expanded - expected) > 1e-3 * expected


# --- SI ------------------------------------------------------------------------------------------------------


def descend(lr, steps, method=None, kept=None):
    """(start, end, omega, loss at both) of gradient descent on a quadratic; its matrix is diagonal."""
    a, b = np.array([3.0, 1.0, 0.5]), np.array([1.0, -2.0, 0.3])
    objective, start = Quadratic(dev(np.diag(a)), dev(b)), dev(np.array([2.0, 1.0, -1.0]))
    optimizer = Penalized(SGD(lr), method or SI(), kept or {})
    theta, state = start, optimizer.init(objective, start)
    for _ in range(steps):
        theta, state, _ = optimizer.step(theta, state, objective, None)
    return host(start), host(theta), host(state["omega"]), lambda theta: 0.5 * a * theta**2 - b * theta


def test_si_shares_out_the_decrease_of_the_loss_as_the_step_shrinks():
    """On a diagonal quadratic each omega_i tends to its coordinate's own decrease; the error is the step's order."""
    errors = []
    for lr in (0.02, 0.01, 0.005):
        start, end, omega, loss = descend(lr, round(1 / lr))
        decrease = loss(start) - loss(end)
        errors.append(np.abs(omega - decrease).max())
        assert abs(omega.sum() - decrease.sum()) < 3 * errors[-1]
    assert errors[-1] < 0.05
    close(np.array(errors[:2]) / errors[1:], np.array([2.0, 2.0]), rtol=0.03)


def test_si_without_momentum_sums_squares():
    """d = -lr g: omega = lr sum of g^2, never negative, a Fisher information of batches along the way."""
    start, _, omega, _ = descend(0.1, 1)
    a, b = np.array([3.0, 1.0, 0.5]), np.array([1.0, -2.0, 0.3])
    close(omega, 0.1 * (a * start - b) ** 2, rtol=1e-14)


def test_si_takes_the_gradient_of_the_tasks_own_loss_and_the_whole_update():
    kept = {"Omega": dev([1.0, 2.0, -1.0]), "centre": dev([0.0, 0.5, 0.0])}
    start, end, omega, _ = descend(0.1, 1, SI(c=0.4), kept)
    a, b = np.array([3.0, 1.0, 0.5]), np.array([1.0, -2.0, 0.3])
    g, p = a * start - b, 0.8 * host(kept["Omega"]) * (start - host(kept["centre"]))
    close(end, start - 0.1 * (g + p), rtol=1e-14)
    close(omega, 0.1 * g * (g + p), rtol=1e-13)


def test_si_keeps_shares_over_squared_ways_and_the_last_end():
    rng, method, kept, Omega = np.random.default_rng(0), SI(xi=0.3), {}, 0
    end = rng.standard_normal(5)
    for _ in range(3):
        start, end, omega = end, *rng.standard_normal((2, 5))
        state = method.start(dev(start), kept) | {"omega": dev(omega)}
        assert set(state) == ({"omega"} if kept else {"omega", "start"})
        kept = method.keep(kept, None, ended(dev(end), **state), None, None)
        Omega = Omega + omega / ((end - start) ** 2 + 0.3)
        assert numbers_kept(kept) == 10
    close(kept["Omega"], Omega, rtol=1e-14)
    close(kept["centre"], end, rtol=0)
    assert (Omega < 0).any()
    theta = rng.standard_normal(5)
    by_hand = lambda theta: 0.1 * Omega @ (theta - end) ** 2
    value, g = method.penalty_and_grad(None, dev(theta), kept)
    assert value == pytest.approx(by_hand(theta), rel=1e-12)
    close(g, complex_step(by_hand, theta), rtol=1e-12)


# --- the optimizer that both are -----------------------------------------------------------------------------


def penalized(base, loss=LOSS):
    objective, theta, batch = problem(loss)
    rng = np.random.default_rng(3)
    kept = {"F": dev(rng.random(SIZE)), "centre": dev(rng.standard_normal(SIZE)), "rest": 0.25}
    return Penalized(base, EWC(lam=2.0), kept), objective, theta, batch


@pytest.mark.parametrize("base", [SGD(0.1, momentum=0.9), Adam(0.01)], ids=["SGD", "Adam"])
def test_a_penalized_step_is_one_on_the_sum_of_loss_and_penalty(base):
    optimizer, objective, theta, batch = penalized(base)
    state = optimizer.init(objective, theta)
    assert set(state) == set(base.init(objective, theta))
    F, centre = (host(optimizer.kept[name]) for name in ("F", "centre"))
    by_hand, plain = theta, base.init(objective, theta)
    for _ in range(3):
        loss, g = objective.value_and_grad(by_hand, batch)
        at = host(by_hand)
        penalty = F @ (at - centre) ** 2 + 0.25
        by_hand, plain, _ = base.follow(by_hand, plain, loss, g + dev(2 * F * (at - centre)))
        theta, state, log = optimizer.step(theta, state, objective, batch, no_draw)
        close(theta, by_hand, rtol=1e-12)
        assert log["loss"] == pytest.approx(loss, rel=1e-12) and log["penalty"] == pytest.approx(penalty, rel=1e-12)
        assert log["gradients"] == 1.0 and log["lr"] == base.lr.lr


def test_until_something_is_kept_a_step_is_the_bases_own():
    objective, theta, batch = problem(LOSS)
    alone, optimizer = Adam(), Penalized(Adam(), SI(), {})
    state, plain = optimizer.init(objective, theta), alone.init(objective, theta)
    found, state, log = optimizer.step(theta, state, objective, batch)
    expected, plain, plain_log = alone.step(theta, plain, objective, batch)
    close(found, expected, rtol=0)
    assert log == plain_log | {"penalty": 0.0}
    assert set(state) == {*plain, "omega", "start"}


def test_schedules_are_told_the_validation_loss():
    optimizer, objective, theta, _ = penalized(SGD(Waterfall(0.1)))
    state = optimizer.init(objective, theta)
    assert optimizer.observe(state, 2.0) == optimizer.base.observe(state, 2.0) != state


def test_what_is_checked_to_be_finite_is_the_sum():
    """float32 overflows in the penalty's value before it does in its gradient."""

    class Noting(SGD):
        def follow(self, theta, state, loss, g):
            seen.append(loss)
            return super().follow(theta, state, loss, g)

    seen = []
    optimizer, objective, theta, batch = penalized(Noting(0.1))
    _, _, log = optimizer.step(theta, optimizer.init(objective, theta), objective, batch)
    assert seen == [log["loss"] + log["penalty"]] and log["penalty"] > 0


def test_long_vectors_pass_by_in_blocks():
    theta, weights, centre = np.random.default_rng(0).standard_normal((3, 300_000))
    value, g = quadratic(dev(theta), dev(weights), dev(centre), 0.7)
    assert value == pytest.approx(0.7 * weights @ (theta - centre) ** 2, rel=1e-9)
    close(g, 1.4 * weights * (theta - centre), rtol=1e-14)


def test_hyper_parameters_are_those_of_the_papers():
    assert EWC() == EWC(lam=500.0, kind="mc", samples=1) and SI() == SI(c=0.1, xi=0.1)


def test_a_penalty_that_is_not_finite_is_an_error():
    optimizer, objective, theta, batch = penalized(SGD(0.1))
    optimizer.kept["F"][3] = np.inf
    with pytest.raises(FloatingPointError, match="update 1: the gradient's norm is"):
        optimizer.step(theta, optimizer.init(objective, theta), objective, batch)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EWC(lam=0), "EWC: lam must be a positive finite number, got 0"),
        (lambda: EWC(samples=0), "EWC: samples must be a whole number of at least 1, got 0"),
        (lambda: EWC(kind="MC"), "unknown Fisher kind 'MC'. Known: exact, mc, empirical"),
        (lambda: SI(c=-1), "SI: c must be a positive finite number, got -1"),
        (lambda: SI(xi=0), "SI: xi must be a positive finite number, got 0"),
    ],
)
def test_refuses_hyper_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
