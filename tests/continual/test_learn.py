"""The loop over tasks: what each task starts from, who is asked what when, resuming bit for bit, and bad input."""

import inspect
import os
import signal
import sys

import numpy as np
import pytest

from minigrad import Objective, backend, fit
from minigrad.continual import EWC, SI, L2Memory, Plain, Retrain, learn, numbers_kept
from minigrad.data import Permuted
from minigrad.losses import Categorical, Gaussian
from minigrad.nets import mlp
from minigrad.optimizers import SGD, Adam, NaturalGradient
from minigrad.training import Diverged
from tests.helpers import close, dev, host

METHODS = [Plain(), Retrain(12, 2), L2Memory(size=12), EWC(), SI()]
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
UPDATES = 6
LEARN, FIT = sys.modules["minigrad.continual.learn"], sys.modules["minigrad.training.fit"]  # not the functions


def objective():
    return Objective(mlp([5, 6, 3]), Categorical())


def tasks(count=3, samples=40, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, 5))
    return Permuted(x, (x @ rng.standard_normal((5, 3))).argmax(axis=1), count)


def lessons(method, of=None, **changes):
    options = {"updates": UPDATES, "batch_size": 10, "evaluate_every": 3, "progress": False, "base": Adam(0.05)}
    return learn(objective(), method, of or tasks(), **options | changes)


def same(one, other):
    """Two runs, bit for bit: parameters, curves but for their seconds, logs, and what is kept."""
    assert len(one) == len(other)
    for a, b in zip(one, other):
        close(a.theta, b.theta, rtol=0)
        for table in ("steps", "curves"):
            ours, theirs = (getattr(history, table) for history in (a.history, b.history))
            assert set(ours) == set(theirs)
            for name in set(ours) - {"seconds"}:
                np.testing.assert_array_equal(ours[name], theirs[name])  # NaN where there was nothing to log
        assert set(a.kept) == set(b.kept) and all(np.array_equal(host(a.kept[k]), host(b.kept[k])) for k in a.kept)


# --- one task after another ----------------------------------------------------------------------------------


@each_method
def test_learning_is_one_fit_a_task_from_the_last_ones_end(method):
    theta, kept = None, {}
    for number, ((x, t), lesson) in enumerate(zip(tasks(), lessons(method), strict=True)):
        rng, task = np.random.default_rng([0, number]), (dev(x), dev(t))
        history = fit(objective(), method.optimizer(Adam(0.05), kept), task, theta=theta, updates=UPDATES,
                      batch_size=10, seed=rng, evaluate_every=3, progress=False)  # fmt: skip
        theta, kept = history.theta, method.keep(kept, objective(), history, task, rng)
        assert lesson.number == number and lesson.history.update == UPDATES
        close(lesson.theta, theta, rtol=0)
        assert numbers_kept(lesson.kept) == numbers_kept(kept)
        for name in kept:
            close(lesson.kept[name], host(dev(kept[name])), rtol=0)


def test_the_first_task_is_learned_alike_by_all_methods_and_the_second_by_none():
    thetas = [[host(lesson.theta) for lesson in lessons(method)] for method in METHODS]
    for i, ours in enumerate(thetas):
        for theirs in thetas[:i]:
            assert np.array_equal(ours[0], theirs[0]) and not np.allclose(ours[1], theirs[1], rtol=1e-9)


@each_method
def test_same_seed_same_bits(method):
    same(lessons(method), lessons(method))
    assert not np.allclose(host(lessons(method, seed=1)[-1].theta), host(lessons(method)[-1].theta))


@pytest.mark.parametrize("method", METHODS[2:], ids=lambda method: type(method).__name__)
def test_penalties_make_the_net_remember(method):
    """Of the first task's loss, after three tasks, less is lost than without."""
    of = tasks(samples=200)
    loss = lambda run: objective().value(run[-1].theta, of[0])
    method = type(method)(**{"L2Memory": {"lam": 20.0, "size": 60}, "EWC": {"lam": 100.0}, "SI": {"c": 10.0}}[
        type(method).__name__
    ])  # fmt: skip
    forgot = loss(lessons(Plain(), of, updates=40, evaluate_every=40))
    assert loss(lessons(method, of, updates=40, evaluate_every=40)) < 0.7 * forgot


def test_adam_begins_anew_with_each_task():
    first, second, _ = lessons(Plain())
    assert first.history.state["update"] == second.history.state["update"] == UPDATES
    alone = fit(objective(), Adam(0.05), tasks()[1], theta=first.theta, updates=UPDATES, batch_size=10,
                seed=np.random.default_rng([0, 1]), progress=False)  # fmt: skip
    close(second.theta, alone.theta, rtol=0)


def test_adam_is_the_default():
    close(lessons(Plain(), base=None)[-1].theta, lessons(Plain(), base=Adam())[-1].theta, rtol=0)


def test_theta_is_where_the_first_task_starts():
    start = dev(np.random.default_rng(5).standard_normal(objective().layout.size))
    (first, *_) = lessons(SI(), theta=start)
    close(first.history.state["start"], start, rtol=0)
    assert not np.allclose(host(lessons(SI())[0].history.state["start"]), host(start))


def test_metrics_are_those_of_the_task_and_theta_that_is_learned():
    metrics = lambda number: {f"up to {number}": lambda theta: float(number)}
    for lesson in lessons(Plain(), metrics=metrics):
        assert lesson.history.curves["update"] == [0, 3, 6]
        assert lesson.history.curves[f"up to {lesson.number}"] == [lesson.number] * 3
        assert not any(name.startswith("up to") for name in lessons(Plain())[0].history.curves)


def test_what_is_handed_to_fit(monkeypatch):
    seen = []

    def noting(objective, optimizer, data, **options):
        seen.append(options)
        return fit(objective, optimizer, data, **options | {"progress": False})

    monkeypatch.setattr(LEARN, "fit", noting)
    clock = lambda: 0.0
    lessons(EWC(), train_samples=7, clock=clock, progress=True)
    lessons(EWC(), progress="Fig. 4")
    lessons(EWC())
    assert {options["train_samples"] for options in seen[:3]} == {7} and seen[0]["clock"] is clock
    labels = [options["progress"] for options in seen]
    assert labels == [f"EWC task {k}" for k in range(3)] + [f"Fig. 4 task {k}" for k in range(3)] + [False] * 3


def test_an_autoencoders_target_stays_its_input():
    x = np.random.default_rng(0).random((20, 4)).astype("float32")
    net = Objective(mlp([4, 2, 4]), Gaussian())
    seen, half = [], x[:10]

    class Noting(L2Memory):
        def keep(self, kept, objective, history, task, rng):
            seen.append(task[0] is task[1])
            return super().keep(kept, objective, history, task, rng)

    run = learn(net, Noting(size=6), [(x, x), (half, half)], updates=2, batch_size=5, progress=False)
    assert seen == [True] * 2 and run[-1].theta.dtype == "float32"
    assert numbers_kept(run[-1].kept) == 6 * (4 + 4)


@each_method
def test_on_a_device(method, device):
    run = lessons(method, tasks(2), updates=2)
    assert all(backend.is_array(lesson.theta) for lesson in run)


# --- stopped, and resumed ------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def stop(at, action):
    """metrics whose `at`-th evaluation does something."""
    count = []

    def metric(theta):
        count.append(0)
        if len(count) == at:
            action()
        return 0.0

    return lambda number: {"metric": metric}


def kill():
    raise Killed


KILLED = [(Plain(), 2), (SI(), 2), (EWC(), 8), *((method, at) for method in METHODS[1:] for at in (4, 5))]


@pytest.mark.parametrize(("method", "at"), KILLED, ids=lambda part: part if type(part) is int else type(part).__name__)
def test_killed_and_resumed_bit_for_bit(method, at, tmp_path, monkeypatch):
    """Three evaluations a task, so at 4 between two tasks, at 5 in the second; a checkpoint at every update."""
    monkeypatch.setattr(FIT, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    quiet = lambda number: {"metric": lambda theta: 0.0}
    whole = lessons(method, metrics=quiet)
    with pytest.raises(Killed):
        lessons(method, metrics=stop(at, kill), folder=tmp_path)
    asked = []
    counting = lambda number: {"metric": lambda theta: asked.append(number) or 0.0}
    same(lessons(method, metrics=counting, folder=tmp_path, resume=True), whole)
    assert len(asked) <= 9 - at + 1 + (at > 3)  # what was done is not done again


@each_method
def test_interrupted_and_resumed_bit_for_bit(method, tmp_path):
    press = lambda: os.kill(os.getpid(), signal.SIGINT)
    part = lessons(method, metrics=stop(5, press), folder=tmp_path)
    assert [lesson.number for lesson in part] == [0, 1] and part[1].history.interrupted
    assert part[1].kept is part[0].kept
    quiet = lambda number: {"metric": lambda theta: 0.0}
    same(lessons(method, metrics=quiet, folder=tmp_path, resume=True), lessons(method, metrics=quiet))


def test_interrupted_between_tasks(tmp_path):
    class Pressing(Plain):
        def keep(self, kept, objective, history, task, rng):
            os.kill(os.getpid(), signal.SIGINT)
            return {}

    (lesson,) = lessons(Pressing())
    assert not lesson.history.interrupted


def test_without_resume_old_checkpoints_are_removed(tmp_path):
    whole = lessons(Plain(), folder=tmp_path)
    assert len(list(tmp_path.glob("task-*.npz"))) == 3
    with pytest.raises(Killed):
        lessons(Plain(), seed=1, metrics=stop(4, kill), folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task-0.npz", "task-1.npz"]
    assert not np.allclose(host(whole[0].theta), host(lessons(Plain(), seed=1)[0].theta))


def test_divergence_is_fits_error():
    x = np.random.default_rng(0).random((20, 4))
    with pytest.raises(Diverged):
        learn(Objective(mlp([4, 2, 4]), Gaussian()), EWC(), [(x, x)], updates=99, base=SGD(1e9), progress=False,
              batch_size=5)  # fmt: skip


# --- what it refuses -----------------------------------------------------------------------------------------

X, T = np.zeros((8, 5)), np.zeros(8, int)
REFUSED = {
    "width": (
        [(X, T), (X[:, :4], T)],
        ValueError,
        r"task 1: .* of x must be floating of shape \(5,\) as in task 0, got ",
    ),
    "targets": (
        [(X, T), (X, X)],
        ValueError,
        r"task 1: .* of t must be whole numbers of shape \(\) as in task 0, got ",
    ),
    "lengths": ([(X, T[:7])], ValueError, "task 0: t must hold one target for each of the 8 rows"),
    "no pair": ([(X, T), X], TypeError, "task 1: data must be a pair"),
    "no targets": ([(X, None)], ValueError, "task 0: needs targets"),
    "not finite": ([(X, T), (X + np.nan, T)], ValueError, "task 1: x must be finite"),
    "no task": ([], TypeError, "a sequence of at least one"),
    "no sequence": (iter([(X, T)]), TypeError, "a sequence of at least one"),
}


@pytest.mark.parametrize(("of", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_tasks(of, error, message):
    with pytest.raises(error, match=message):
        learn(objective(), Plain(), of, updates=1, batch_size=2, progress=False)


@pytest.mark.parametrize("method", [Retrain(1024), L2Memory()], ids=["Retrain", "L2Memory"])
def test_refuses_a_memory_larger_than_a_task_before_it_learns_anything(method, monkeypatch):
    monkeypatch.setattr(LEARN, "fit", None)
    with pytest.raises(ValueError, match="1024 examples are 1024 of each of 1 tasks, but the last has 40 samples"):
        lessons(method)


def test_defaults_are_fits():
    ours, theirs = (inspect.signature(function).parameters for function in (learn, fit))
    for name in ("batch_size", "seed", "evaluate_every", "train_samples", "progress", "resume", "clock"):
        assert ours[name].default == theirs[name].default


def test_a_task_may_be_a_single_sample():
    assert len(learn(objective(), Plain(), [(X[:1], T[:1])], updates=1, batch_size=1, progress=False)) == 1


def test_tasks_may_differ_in_the_number_of_samples():
    run = learn(objective(), L2Memory(size=6), [(X, T), (X[:5], T[:5])], updates=1, batch_size=2, progress=False)
    assert run[-1].kept["x"].shape == (2, 3, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": NaturalGradient()}, "base must be a first-order optimizer, such as Adam"),
        ({"base": SGD}, "base must be a first-order optimizer, such as Adam"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"seed": True}, "seed must be a whole number of at least 0, got True"),
        ({"seed": 1.0}, "seed must be a whole number of at least 0, got 1.0"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(TypeError, match=message):
        lessons(Plain(), **options)
