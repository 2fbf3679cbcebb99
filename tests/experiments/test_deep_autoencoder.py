"""The demo: quick runs on random images, its record, its resume, and a caption that says what the numbers say."""

import dataclasses
import os
import signal

import numpy as np
import pytest

from minigrad import backend
from minigrad.experiments import Options, parts
from minigrad.experiments import deep_autoencoder as demo
from minigrad.experiments import tune_deep_autoencoder as tuning
from minigrad.losses import Bernoulli
from minigrad.nets import autoencoder
from minigrad.objective import Objective
from minigrad.training import records
from tests.helpers import close, dev


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Random images, a small net, a fiftieth of a second each."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    rng = np.random.default_rng(0)
    x = rng.random((60, 784), dtype="float32")
    monkeypatch.setattr(demo, "mnist", lambda: ((x, np.zeros(60)), (x[:20], np.zeros(20))))
    monkeypatch.setattr(demo, "objective", lambda initial="sparse": Objective(autoencoder((784, 6, 3)), Bernoulli()))
    monkeypatch.setitem(demo.SCALES, "quick", demo.Scale(0.02, None, 1))
    monkeypatch.setitem(tuning.TRIALS, "quick", (2, 0.01))


def options(folder, **changes):
    return dataclasses.replace(Options(folder, "quick", progress=False), **changes)


def test_run_and_plot(tmp_path):
    record = demo.run(options(tmp_path, seeds=2))
    assert record["results"]["complete"] and record["seeds"] == [0, 1]
    loaded = records.load(tmp_path / "record.json", demo.NAME)
    assert all(len(loaded["results"]["curves"][name]) == 2 for name in demo.METHODS)
    assert np.shape(loaded["results"]["pictures"]["Adam"]) == (demo.PICTURES, 784)
    assert "excerpt of MNIST with 80 images" in loaded["settings"]["data"]
    assert "median and range of 2 seeds" in demo.caption(loaded)
    (path,) = demo.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    assert not (tmp_path / "checkpoints").exists()
    assert demo.run(options(tmp_path, seeds=2, resume=True))["results"] == loaded["results"]  # nothing is repeated


def interrupt_at(monkeypatch, call):
    """Press Ctrl-C in the call-th evaluation of the reconstruction error."""
    calls, measure = [], demo.reconstruction_error

    def pressed(*args):
        calls.append(0)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(*args)

    monkeypatch.setattr(demo, "reconstruction_error", pressed)


def test_interrupted_then_resumed(tmp_path, monkeypatch):
    interrupt_at(monkeypatch, 5)
    record = demo.run(options(tmp_path))
    assert not record["results"]["complete"] and demo.caption(record).endswith("unfinished.")
    demo.plot(record, tmp_path)
    first = record["results"]["curves"]["momentum"][0]
    assert list((tmp_path / "checkpoints").iterdir())
    record = demo.run(options(tmp_path, resume=True))
    assert record["results"]["complete"]
    assert record["results"]["curves"]["momentum"][0]["test_error"][: len(first["update"])] == first["test_error"]


def test_resume_refuses_a_record_of_other_settings(tmp_path):
    demo.run(options(tmp_path))
    with pytest.raises(ValueError, match=r"record\.json is of another run: seeds is \[0\] there, \[0, 1\] here"):
        demo.run(options(tmp_path, resume=True, seeds=2))


def test_divergence_is_in_the_record_and_the_caption(tmp_path, monkeypatch):
    monkeypatch.setitem(demo.SCALES, "quick", demo.Scale(0.2, None, 1))
    parameters = demo.tuned() | {"momentum": {"lr": 1e37, "momentum": 0.9, "batch_size": 10, "init": "sparse"}}
    monkeypatch.setattr(demo, "tuned", lambda: parameters)
    record = demo.run(options(tmp_path))
    assert "momentum diverged (seed 0, update" in demo.caption(record)
    demo.plot(records.load(tmp_path / "record.json"), tmp_path)


def example(ahead_by_updates, ahead_by_seconds):
    """A record in which these methods are ahead."""
    curves = {}
    for name in demo.METHODS:
        early = 10.0 if name == ahead_by_updates else 50.0
        late = 1.0 if name == ahead_by_seconds else 5.0
        few = name == ahead_by_updates != ahead_by_seconds
        columns = {"update": [0, 4] if few else [0, 4, 400], "seconds": [0, 20.0] if few else [0, 0.1, 20.0]}
        curves[name] = [columns | {"test_error": [200.0, early] if few else [200.0, early, late]}]
    parameters = {name: {"batch_size": 10, "lr": 0.1, "init": "sparse"} for name in demo.METHODS}
    return {"settings": {"data": "some images", "parameters": parameters}, "seeds": [0],
            "results": {"curves": curves, "diverged": {}}}  # fmt: skip


@pytest.mark.parametrize("by_updates", ["natural gradient", "momentum"])
@pytest.mark.parametrize("by_seconds", ["Adam", "momentum"])
def test_caption_names_whoever_is_ahead(by_updates, by_seconds):
    text = demo.caption(example(by_updates, by_seconds))
    if by_updates != by_seconds:
        assert f"after 4 updates {by_updates} is ahead, with 10 against 50 for" in text
    assert f"after 20 s of training {by_seconds} is ahead, with 1 against 5 for" in text
    assert text.count(".") == 1


def test_reconstruction_error_is_the_sum_over_pixels():
    the = demo.objective()
    theta = the.net.init(np.random.default_rng(0))
    x = np.random.default_rng(1).random((7, 784), dtype="float32")
    y = backend.to_host(the.predict(theta, dev(x)))
    close(demo.reconstruction_error(the, theta, dev(x)), np.mean([np.sum((a - b) ** 2) for a, b in zip(y, x)]), 1e-5)


def test_tuned_parameters_are_of_every_method():
    best = demo.tuned()
    assert set(best) == set(demo.METHODS)
    assert all(demo.optimizer(name, parameters) and parameters["batch_size"] > 0 for name, parameters in best.items())


def test_tuning_is_fair_and_resumes(tmp_path, monkeypatch):
    interrupt_at(monkeypatch, 5)
    record = tuning.run(options(tmp_path))
    assert not record["results"]["complete"]
    record = tuning.run(options(tmp_path, resume=True))
    assert record["results"]["complete"]
    for name, trials in record["results"]["trials"].items():
        assert [{key: trial[key] for key in tuning.SPACES[name]} for trial in trials] == [
            tuning.draw(name, 0), tuning.draw(name, 1)
        ]  # fmt: skip
    assert set(record["results"]["best"]) == set(demo.METHODS)
    tuning.plot(record, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"record.json", "tune-deep-autoencoder.png"}


def test_best_trial():
    trials = [{"lr": 1, "error": None, "updates": 3}, {"lr": 2, "error": 5.0, "updates": 3}, {"lr": 3, "error": 9.0}]
    assert parts.best(trials) == {"lr": 2}
    assert parts.best(trials[:1]) == {"lr": 1}
