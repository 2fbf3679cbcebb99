"""What the experiments on function space share: the run that is measured, and how numbers are said."""

import dataclasses

import numpy as np
import pytest

from minigrad import Objective
from minigrad.experiments import measured, parts
from minigrad.losses import Categorical
from minigrad.nets import BatchNorm, FanIn, mlp
from minigrad.optimizers import SGD
from tests.experiments.noise import instead_of_mnist
from tests.helpers import close, dev, host


@pytest.fixture
def task(monkeypatch):
    instead_of_mnist(monkeypatch)
    return measured.task_of(measured.SMALL, 80, 30)


def test_the_task(task):
    assert [len(part) for part in (*task.train, *task.test)] == [80, 80, 30, 30]
    assert task.measured == 30 and task.epoch == 4
    assert task.net.sizes == (784, 30, 30, 10) and task.net.activations == ("relu", "relu", "linear")
    assert task.net.initializer == FanIn(1 / 3)
    whole = measured.task_of(measured.SIZES, None, 1000)
    assert (len(whole.train[0]), len(whole.test[0]), whole.measured, whole.epoch) == (100, 60, 60, 5)
    assert "784, 30, 30, 10" in task.settings()["net"] and "80 training and 30 test" in task.settings()["data"]


def test_a_run_is_sgd_and_its_distances_are_measured_on_test_images(task):
    assert task.rate == measured.RATE == 0.1
    task = dataclasses.replace(task, rate=0.01)
    history, recorder = task.run(3, 2, 0.5, every=2, snapshots=lambda update: True)
    assert history.update == 8 and history.curves["update"] == [0, 4, 8]
    assert recorder.tables["update"]["update"] == recorder.tables["start"]["update"] == [2, 4, 6, 8]
    assert recorder.tables["epoch"]["update"] == [4, 8]
    theta = recorder.snapshots["theta"]
    close(theta[0], task.net.init(np.random.default_rng(3), "float32"), rtol=0)
    close(theta[8], history.theta, rtol=0)
    objective = Objective(task.net, Categorical(), weight_decay=0.5)
    y = [host(objective.predict(point, dev(task.test[0]))) for point in theta]
    expected = [np.sqrt(((y[t] - y[t - 1]) ** 2).sum() / 30) for t in (2, 4, 6, 8)]
    close(recorder.tables["update"]["function"], expected, rtol=1e-4)
    wrong = (y[8].argmax(axis=1) != task.test[1]).mean()
    assert history.curves["validation_error"][-1] == pytest.approx(wrong)
    # the second step is momentum's: its velocity holds 0.9 of the first
    optimizer = SGD(0.01, momentum=0.9)
    assert (measured.MOMENTUM, measured.DECAY, optimizer.momentum) == (0.9, 1e-4, 0.9)
    lighter, _ = task.run(3, 2, 0.0)
    assert np.linalg.norm(host(lighter.theta)) > np.linalg.norm(host(history.theta))


def test_batch_normalized_nets_are_compared_with_population_statistics(task):
    net = mlp([784, 8, 10], normalization=BatchNorm())
    normalized = measured.Task(net, task.train, task.test, 10)
    _, recorder = normalized.run(0, 1, snapshots=lambda update: update == 0)
    objective = Objective(net, Categorical())
    theta = recorder.snapshots["theta"][0]
    expected = objective.settled(theta, dev(task.train[0])).predict(theta, dev(task.test[0][:10]))
    close(recorder.snapshots["outputs"][0], expected, rtol=0)


def test_words():
    assert parts.rounded([1.23456789, 1e-9], 3) == [1.23, 1e-9] and parts.rounded([1 / 3]) == [0.33333]
    assert measured.span([0.5, 0.5]) == "0.5" and measured.span([2, 1.04]) == "1 to 2"
    forms = {"quick": "quick form", "usual": "reduced form", "full": "full form"}
    assert {scale: parts.form({"scale": scale}) for scale in forms} == forms
    assert parts.of_seeds(1) == "1 seed" and parts.of_seeds(2) == "2 seeds"
    finding = {"claim": "a", "numbers": "1", "held": True}
    assert parts.verdict(finding) == "a: 1 (held)"
    assert parts.verdict(finding | {"held": False}) == "a: 1 (not held)"
