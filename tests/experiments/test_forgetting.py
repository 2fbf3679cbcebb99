"""forgetting: quick runs on random images, what is measured of whom, resuming, and the paper's count of memory."""

import dataclasses
import itertools
import os
import pickle
import signal
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from minigrad.continual import EWC, SI, L2Memory, Plain, Retrain
from minigrad.experiments import forgetting as experiment
from minigrad.losses import Categorical
from minigrad.training import Diverged, records
from tests.experiments.noise import options
from tests.helpers import dev

TINY = dataclasses.replace(experiment.SCALES["quick"], images=200, shown=50, width=4, tasks=3, epochs=2, memory=12)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Random images of 784 pixels, a tiny net."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    rng = np.random.default_rng(0)
    data = tuple((rng.random((n, 784), dtype="float32"), rng.integers(0, 10, n)) for n in (200, 50))
    monkeypatch.setattr(experiment, "mnist", lambda: data)
    monkeypatch.setitem(experiment.SCALES, "quick", TINY)
    experiment.images.cache_clear()
    yield
    experiment.images.cache_clear()


def test_run_and_plot(tmp_path):
    record = experiment.run(options(tmp_path, seeds=2))
    loaded = records.load(tmp_path / "record.json", experiment.NAME)
    runs = loaded["results"]["runs"]
    assert loaded["results"] == record["results"] and record["results"]["complete"]
    assert {name: list(each) for name, each in runs.items()} == {name: ["0", "1"] for name in experiment.METHODS}
    for name, seed in itertools.product(runs, ("0", "1")):
        run = runs[name][seed]
        assert run["epoch"] == [1, 2, 3, 4, 5, 6] and len(run["first"]) == len(run["mean"]) == 6
        assert [len(row) for row in run["final"]] == [1, 2, 3] and len(run["seconds"]) == 3
        assert run["first"][1::2] == [row[0] for row in run["final"]]
        np.testing.assert_allclose(run["mean"][1::2], [np.mean(row) for row in run["final"]], rtol=1e-4)
        assert run["first"][:2] == runs["Adam"][seed]["first"][:2]
    parameters = experiment.objective(TINY).layout.size
    kept = {name: runs[name]["0"]["kept"] for name in experiment.METHODS}
    assert kept == {
        "Adam": [0] * 3, "Adam+retrain": [12 * 785] * 3, "L2 memory": [12 * 794] * 3,
        "L2 memory, squared": [12 * 794] * 3, "EWC": [2 * parameters + 1] * 3, "SI": [2 * parameters] * 3,
    }  # fmt: skip
    extra = {name: runs[name]["0"]["running"] for name in experiment.METHODS}
    assert extra == dict.fromkeys(experiment.METHODS, 0) | {"SI": parameters}  # omega
    assert runs["Adam"]["0"]["first"] != runs["Adam"]["1"]["first"]
    assert not list((tmp_path / "checkpoints").iterdir())
    (path,) = experiment.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    text = experiment.caption(loaded)
    assert "3 tasks of permuted pixels" in text and "median and range of 2 seeds" in text and "EWC" in text
    assert experiment.run(options(tmp_path, seeds=2, resume=True))["results"] == record["results"]


def test_hyper_parameters_are_the_papers():
    assert experiment.METHODS == {
        "Adam": Plain(), "Adam+retrain": Retrain(1024, 10), "L2 memory": L2Memory(1.3, 1024, "root mean square"),
        "L2 memory, squared": L2Memory(1.3, 1024, "mean square"), "EWC": EWC(500.0, "mc", 1), "SI": SI(0.1, 0.1),
    }  # fmt: skip
    full = experiment.SCALES["full"]
    assert (full.width, full.tasks, full.epochs, full.memory, full.seeds) == (400, 8, 10, 1024, 3)
    assert set(full.methods) == set(experiment.METHODS) - {"L2 memory, squared"}
    assert experiment.objective(full).net.sizes == (784, 400, 400, 10)
    assert experiment.objective(full).net.activations == ("relu", "relu", "linear")
    assert experiment.objective(full).loss == Categorical()
    assert experiment.method("L2 memory", TINY) == L2Memory(size=12) and experiment.method("EWC", TINY) == EWC()
    assert experiment.updates(TINY) == 4


def test_runs_can_go_to_other_processes():
    job = pickle.loads(pickle.dumps(partial(experiment.train, experiment.SCALES["full"])))
    assert job.func is experiment.train


def test_accuracy_is_the_share_that_is_right(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "share_wrong", lambda the, theta, task: 0.25)
    run = experiment.train(TINY, options(tmp_path), ("Adam", 0))
    assert run["first"] == run["mean"] == [0.75] * 6


def test_report():
    def lesson(curves, kept):
        history = SimpleNamespace(curves=curves, seconds=0.5, update=4, theta=dev(np.zeros(3)), state=state)
        return SimpleNamespace(history=history, kept=kept)

    state = {"update": 4, "m": np.zeros(3), "v": np.zeros(3), "omega": np.zeros(3), "start": np.zeros(3)}
    first = lesson({"0": [0.1, 0.5, 0.8]}, {"a": np.zeros(5)})
    second = lesson({"0": [0.8, 0.7, 0.6], "1": [0.1, 0.4, 1 / 3]}, {"a": np.zeros(5), "b": 1.0})
    found = experiment.report([first, second])
    assert found == {
        "epoch": [1, 2, 3, 4], "first": [0.5, 0.8, 0.7, 0.6], "mean": [0.5, 0.8, 0.55, 0.46667],
        "final": [[0.8], [0.6, 0.33333]], "seconds": [0.125, 0.125], "kept": [5, 6], "running": 6,
    }  # fmt: skip
    assert experiment.largest([found]) == 12
    assert experiment.seconds([{"seconds": [9.0, 1.0, 2.0]}, {"seconds": [9.0, 4.0, 5.0]}]) == 3.0


def test_the_papers_count_of_ewcs_memory_takes_images_of_32_by_32_pixels():
    """1,148,820 and 15,489 images hold for 1,024 inputs; MNIST has 784, and those are the images it counts in."""
    count = experiment.ewc_numbers
    assert count([1024, 400, 400, 10]) == 1_148_820 and 1_148_820 // 784 == 1465
    assert count([1024, 2000, 2000, 10]) // 784 == 15_489
    assert count([784, 400, 400, 10]) == 956_820 and 956_820 // 784 == 1220
    assert count([784, 2000, 2000, 10]) == 11_184_020 and 11_184_020 // 784 == 14_265
    assert 1_148_820 // 1024 == 1121 and count([1024, 2000, 2000, 10]) // 1024 == 11_859  # in its own images


@pytest.mark.parametrize("name", ["L2 memory", "SI"])
def test_interrupted_in_a_task_then_resumed(name, tmp_path, monkeypatch):
    monkeypatch.setitem(experiment.SCALES, "quick", dataclasses.replace(TINY, methods=(name, "Adam")))
    (tmp_path / "whole").mkdir()
    whole = experiment.run(options(tmp_path / "whole"))["results"]["runs"]
    measure, calls = experiment.share_wrong, []

    def pressed(*args):
        calls.append(0)
        if len(calls) == 6:  # in the second task
            os.kill(os.getpid(), signal.SIGINT)
        return measure(*args)

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "share_wrong", pressed)
        record = experiment.run(options(tmp_path))
    assert record["results"] == {"complete": False, "runs": {name: {}, "Adam": {}}}
    experiment.plot(records.load(tmp_path / "record.json"), tmp_path)
    assert experiment.caption(record).endswith("unfinished.")
    calls.clear()
    monkeypatch.setattr(experiment, "share_wrong", lambda *args: calls.append(0) or measure(*args))
    runs = experiment.run(options(tmp_path, resume=True))["results"]["runs"]
    for method, run in whole.items():
        assert {**runs[method]["0"], "seconds": 0} == {**run["0"], "seconds": 0}
    assert len(calls) < 2 * (3 + 6 + 9)  # the first task's accuracies were in its checkpoint


def test_a_new_run_forgets_old_checkpoints_and_refuses_another_ones_record(tmp_path, monkeypatch):
    monkeypatch.setitem(experiment.SCALES, "quick", dataclasses.replace(TINY, methods=("Adam",)))
    old = tmp_path / "checkpoints" / "Adam, seed 0"
    old.mkdir(parents=True)
    (old / "task-2.npz").write_bytes(b"old")
    assert experiment.run(options(tmp_path))["results"]["complete"] and not old.exists()
    monkeypatch.setitem(experiment.SCALES, "quick", TINY)
    with pytest.raises(ValueError, match="is of another run: methods is"):
        experiment.run(options(tmp_path, resume=True))


def test_a_diverged_run_is_said(tmp_path, monkeypatch):
    learn = experiment.learn

    def failing(objective, method, *args, **given):
        if method == EWC():
            raise Diverged("training diverged at update 3", None)
        return learn(objective, method, *args, **given)

    monkeypatch.setattr(experiment, "learn", failing)
    record = experiment.run(options(tmp_path))
    assert record["results"]["runs"]["EWC"]["0"] == {"diverged": "training diverged at update 3"}
    experiment.plot(records.load(tmp_path / "record.json"), tmp_path)
    assert experiment.caption(record).endswith("; EWC diverged.") and "EWC" not in experiment.finished(record)
