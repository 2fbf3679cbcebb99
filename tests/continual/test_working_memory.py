"""The working memory by counting; the penalty on it by complex steps; further steps where they are due."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from minigrad import Objective
from minigrad.continual import L2Memory, Retrain, numbers_kept
from minigrad.continual.methods import Penalized
from minigrad.losses import Categorical, Gaussian
from minigrad.nets import mlp
from minigrad.optimizers import SGD, Adam, Waterfall
from tests.helpers import close, dev, host
from tests.nets.reference import complex_jacobian, distribution, forward
from tests.optimizers.problems import LOSSES, each_loss, problem

each_method = pytest.mark.parametrize("method", [Retrain(10), L2Memory(size=10)], ids=["Retrain", "L2Memory"])


def learned(method, tasks=4, samples=12):
    """(kept after each task, the objective, the thetas); the first column of x is 100 task + number of the sample."""
    objective, rng, kept, stages, thetas = Objective(mlp([3, 2]), Categorical()), np.random.default_rng(0), {}, [], []
    for k in range(tasks):
        x = np.column_stack([100 * k + np.arange(samples), *rng.standard_normal((2, samples))]) / 1000
        thetas.append(dev(rng.standard_normal(8)))
        task = dev(x), dev(np.arange(samples) % 2)
        kept = method.keep(kept, objective, SimpleNamespace(theta=thetas[-1]), task, rng)
        stages.append(kept)
    return stages, objective, thetas


def numbers(kept):
    """[{sample numbers}] of each task in the memory, from x's first column."""
    return np.round(1000 * host(kept["x"])[:, :, 0]).astype(int).tolist()


@each_method
def test_memory_holds_equally_many_examples_of_each_task(method):
    """10 hold 10 of one task, 5 of two, 3 of three (one place is empty), 2 of four (two are)."""
    stages, _, _ = learned(method)
    for tasks, (kept, each) in enumerate(zip(stages, (10, 5, 3, 2), strict=True), 1):
        found = numbers(kept)
        assert [len(set(row)) for row in found] == [each] * tasks  # no example twice
        assert all(number // 100 == task for task, row in enumerate(found) for number in row)


@each_method
def test_later_tasks_take_the_place_of_the_last_examples_of_former_ones(method):
    stages, _, _ = learned(method)
    for before, after in itertools.pairwise(stages):
        for old, new in zip(numbers(before), numbers(after)):
            assert new == old[: len(new)]


@each_method
def test_examples_are_drawn_at_random(method):
    stages, _, _ = learned(method)
    (first,) = numbers(stages[0])
    assert sorted(first) != first
    rows = [[number % 100 for number in row] for row in numbers(stages[-1])]
    assert len({tuple(row) for row in rows}) > 1  # by draws of their own


def test_labels_stay_with_their_images():
    for kept in learned(Retrain(10))[0]:
        assert (np.array(numbers(kept)) % 2 == host(kept["t"])).all()


def test_outputs_are_those_at_the_end_of_the_examples_own_task():
    stages, objective, thetas = learned(L2Memory(size=10))
    for kept in stages:
        for x, y, theta in zip(kept["x"], kept["y"], thetas):
            close(y, objective.predict(theta, x), rtol=1e-14)


def test_numbers_kept_are_counted():
    for (ours, theirs), each in zip(zip(learned(L2Memory(size=10))[0], learned(Retrain(10))[0]), (10, 10, 9, 8)):
        assert numbers_kept(ours) == each * (3 + 2)  # pixels and outputs
        assert numbers_kept(theirs) == each * (3 + 1)  # pixels and a label
    assert numbers_kept({}) == 0


# --- the penalty ---------------------------------------------------------------------------------------------


@each_loss
@pytest.mark.parametrize("distance", ["root mean square", "mean square"])
def test_penalty_is_half_lam_times_the_distance_on_the_whole_memory(loss, distance):
    objective, theta, (x, t) = problem(loss)
    rng, method = np.random.default_rng(1), L2Memory(lam=0.7, size=12, distance=distance)
    kept = {}
    for _ in range(3):
        kept = method.keep(kept, objective, SimpleNamespace(theta=dev(rng.standard_normal(23))), (x, t), rng)
    rows, y = host(kept["x"]).reshape(12, -1), host(kept["y"]).reshape(12, -1)

    def by_hand(theta):
        square = ((distribution(loss, forward(objective.net, theta, rows)) - y) ** 2).sum() / 12
        return 0.35 * (square**0.5 if distance == "root mean square" else square)

    value, g = method.penalty_and_grad(objective, theta, kept)
    assert value == pytest.approx(by_hand(host(theta)), rel=1e-13)
    close(g, complex_jacobian(by_hand, host(theta)), rtol=1e-12)


def test_root_as_printed_is_the_default():
    assert L2Memory() == L2Memory(lam=1.3, size=1024, distance="root mean square")
    assert Retrain() == Retrain(size=1024, interval=10)


@pytest.mark.parametrize("method", [L2Memory(size=8), L2Memory(size=8, distance="mean square")], ids=["root", "mean"])
def test_at_the_end_of_the_only_task_nothing_pulls(method):
    objective, theta, batch = problem(LOSSES[-1])
    kept = method.keep({}, objective, SimpleNamespace(theta=theta), batch, np.random.default_rng(0))
    value, g = method.penalty_and_grad(objective, theta, kept)
    assert value == 0 and not host(g).any()


def test_near_the_remembered_outputs_the_root_pulls_as_hard_as_far_away_and_the_square_lets_go():
    objective, theta, batch = problem(LOSSES[-1])
    rng, away = np.random.default_rng(0), dev(np.random.default_rng(1).standard_normal(23))
    pulls = {}
    for distance in ("root mean square", "mean square"):
        method = L2Memory(size=8, distance=distance)
        kept = method.keep({}, objective, SimpleNamespace(theta=theta), batch, rng)
        lengths = [
            np.linalg.norm(host(method.penalty_and_grad(objective, theta + h * away, kept)[1])) for h in (1e-3, 1e-4)
        ]
        pulls[distance] = lengths[1] / lengths[0]
    assert pulls["root mean square"] == pytest.approx(1, rel=1e-2)
    assert pulls["mean square"] == pytest.approx(0.1, rel=1e-2)


def test_an_update_costs_a_sweep_over_the_memory():
    objective, theta, batch = problem(LOSSES[-1])
    method = L2Memory(size=30)
    kept = method.keep({}, objective, SimpleNamespace(theta=theta), batch, np.random.default_rng(0))
    optimizer = method.optimizer(SGD(0.1), kept)
    assert optimizer == Penalized(SGD(0.1), method, kept)
    small = tuple(part[:20] for part in batch)
    _, _, log = optimizer.step(theta, optimizer.init(objective, theta), objective, small)
    assert log["gradients"] == 1 + 30 / 20


# --- retraining ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [1, 3])
def test_after_every_interval_updates_there_is_one_on_the_memory(interval):
    objective, theta, batch = problem(Categorical())
    small, method = tuple(part[:20] for part in batch), Retrain(8, interval)
    kept = method.keep({}, objective, SimpleNamespace(theta=theta), batch, np.random.default_rng(0))
    base, memory = Adam(0.01), (kept["x"].reshape(8, -1), kept["t"].reshape(8))
    optimizer = method.optimizer(base, kept)
    state, by_hand, plain = optimizer.init(objective, theta), theta, base.init(objective, theta)
    for update in range(1, 8):
        theta, state, log = optimizer.step(theta, state, objective, small)
        by_hand, plain, expected = base.step(by_hand, plain, objective, small)
        if update % interval == 0:
            expected["memory_loss"] = objective.value(by_hand, memory)
            by_hand, plain, _ = base.step(by_hand, plain, objective, memory)
            expected["gradients"] = 1 + 8 / 20
        close(theta, by_hand, rtol=0)
        assert log == pytest.approx(expected, rel=1e-12)


def test_before_the_first_tasks_end_there_is_nothing_to_retrain_on():
    objective, theta, batch = problem(Categorical())
    optimizer = Retrain(8, 1).optimizer(Adam(), {})
    found, _, log = optimizer.step(theta, optimizer.init(objective, theta), objective, batch)
    expected, _, plain = Adam().step(theta, Adam().init(objective, theta), objective, batch)
    close(found, expected, rtol=0)
    assert log == plain


def test_schedules_are_told_the_validation_loss():
    base = SGD(Waterfall(0.1))
    optimizer = Retrain().optimizer(base, {})
    state = optimizer.init(None, dev(np.zeros(3)))
    assert optimizer.observe(state, 2.0) == base.observe(state, 2.0) != state


# --- what they refuse ----------------------------------------------------------------------------------------


REFUSED = {
    "larger than the first task": (10, [9, 20], "10 examples are 10 of each of 1 tasks, but the last has 9 samples"),
    "larger than a share": (10, [20, 4], "10 examples are 5 of each of 2 tasks, but the last has 4 samples"),
    "more tasks than places": (2, [20, 20, 20], "2 examples are less than one of each of 3 tasks"),
}


@each_method
@pytest.mark.parametrize(("size", "samples", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_a_memory_that_cannot_be_filled(method, size, samples, message):
    method = type(method)(size=size)
    with pytest.raises(ValueError, match=message):
        method.check(samples)
    type(method)(size=2).check([2, 1])


@each_method
def test_refuses_it_when_it_comes_to_it_too(method):
    objective, theta, batch = problem(Gaussian())
    with pytest.raises(ValueError, match="41 of each of 1 tasks, but the last has 40 samples"):
        type(method)(size=41).keep({}, objective, SimpleNamespace(theta=theta), batch, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Retrain(size=0), "Retrain: size must be a whole number of at least 1, got 0"),
        (lambda: Retrain(interval=0), "Retrain: interval must be a whole number of at least 1, got 0"),
        (lambda: L2Memory(size=1.5), "L2Memory: size must be a whole number of at least 1, got 1.5"),
        (lambda: L2Memory(lam=0), "L2Memory: lam must be a positive finite number, got 0"),
        (lambda: L2Memory(distance="mean"), "unknown distance 'mean'. Known: root mean square, mean square"),
    ],
)
def test_refuses_hyper_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
