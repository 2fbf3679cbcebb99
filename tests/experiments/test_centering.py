"""centering: quick runs on random images, who trains what, the choice of learning rates, and what the caption says."""

import os
import signal

import numpy as np
import pytest

from minigrad import Objective, backend
from minigrad.experiments import centering as experiment
from minigrad.experiments import parts
from minigrad.losses import Bernoulli
from minigrad.nets import MeanOnly
from minigrad.optimizers import SGD, CentredGD
from minigrad.training import records
from tests.experiments.noise import options
from tests.helpers import close, dev

RATES = (0.1, 1.0)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Random images, a small net, two learning rates, a few updates."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    x = np.random.default_rng(0).random((240, 784), dtype="float32")
    monkeypatch.setattr(experiment, "images", lambda count: (x[:count], x[200:], "noise"))
    monkeypatch.setitem(experiment.SCALES, "quick", experiment.Scale(3, 2, 200, 1))
    monkeypatch.setattr(experiment, "RATES", RATES)
    monkeypatch.setattr(experiment, "SIZES", (784, 6, 3))
    monkeypatch.setattr(experiment, "BATCH", 20)
    monkeypatch.setattr(experiment, "PROBE", 40)


def test_run_and_plot(tmp_path):
    record = experiment.run(options(tmp_path, seeds=2))
    loaded = records.load(tmp_path / "record.json", experiment.NAME)
    results = loaded["results"]
    assert results == record["results"] and results["complete"]
    for method in experiment.METHODS:
        trials = [results[experiment.trial(method, lr)] for lr in RATES]
        assert [run["lr"] for run in trials] == list(RATES)
        assert [run["curves"]["update"] for run in trials] == [[0, 2], [0, 2]]
        best = RATES[int(np.argmin([run["curves"]["test_error"][-1] for run in trials]))]
        for seed in (0, 1):
            found = results[experiment.final(method, seed)]
            assert found["lr"] == best and found["curves"]["update"] == [0, 1, 2, 3]
            assert set(found["means"]) == {"enc0", "enc1", "dec0", "dec1"}
            assert ("cosine" in found["curves"]) == (method != "mean-only BN")
        one, other = (results[experiment.final(method, seed)]["curves"]["loss"] for seed in (0, 1))
        assert one != other
    (path,) = experiment.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    text = experiment.caption(loaded)
    assert "median and range of 2 seeds" in text and "after 3 updates" in text and text.endswith(" long.")
    assert experiment.run(options(tmp_path, seeds=2, resume=True))["results"] == results  # nothing is repeated


def test_all_start_alike_and_see_the_same_batches(tmp_path):
    record = experiment.run(options(tmp_path))["results"]
    starts = [record[experiment.final(method, 0)]["curves"]["loss"][0] for method in ("SGD", "centred GD")]
    assert starts[0] == starts[1]


def test_who_trains_what(tmp_path, monkeypatch):
    """Trials see five sixths of the training images and are judged by the rest; runs by the test images."""
    calls = []

    def fake(method, lr, train, test, updates, seed, options, **given):
        calls.append((method, lr, len(train), len(test), updates, seed))
        error = 1.0 if lr == RATES[0] else float("nan")
        curves = {name: [2.0, error] for name in ("update", "seconds", "test_error", "cosine")}
        return {"lr": lr, "curves": curves, "means": {"enc0": 1.0}}

    monkeypatch.setattr(experiment, "train_one", fake)
    experiment.run(options(tmp_path, seeds=2))
    trials = [(method, lr, 167, 33, 2, 0) for method in experiment.METHODS for lr in RATES]
    assert calls == trials + [(method, RATES[0], 200, 40, 3, seed) for seed in (0, 1) for method in experiment.METHODS]


def test_methods():
    assert experiment.METHODS == {
        "SGD": (SGD, None), "centred GD": (CentredGD, None), "mean-only BN": (SGD, MeanOnly())
    }  # fmt: skip
    for _, normalization in experiment.METHODS.values():
        the = experiment.objective(normalization)
        assert isinstance(the, Objective) and the.loss == Bernoulli() and the.net.normalization == normalization
        assert the.net.activations == ("sigmoid", "linear", "sigmoid", "linear")


def test_batch_normalized_nets_are_judged_with_the_means_of_training_images(tmp_path, monkeypatch):
    x, settled = experiment.images(200)[0], []
    original = Objective.settled

    def noting(self, theta, images):
        settled.append(backend.to_host(images))
        return original(self, theta, images)

    monkeypatch.setattr(Objective, "settled", noting)
    experiment.train_one("mean-only BN", 0.1, x, x[:30], 1, 0, options(tmp_path))
    assert sum(len(images) == 40 and np.array_equal(images, x[:40]) for images in settled) >= 2


def test_cosine(rng):
    the = experiment.objective(None)
    theta, x = the.net.init(rng, "float64"), dev(rng.random((30, 784)))
    g = the.value_and_grad(theta, (x, x))[1]
    centred = theta - CentredGD(1.0).step(theta, {"update": 0}, the, (x, x))[0]
    expected = g @ centred / np.sqrt((g @ g) * (centred @ centred))
    close(np.array(experiment.cosine(the, theta, (x, x))), np.array(backend.item(expected)), 1e-10)


def test_a_diverged_trial_is_not_chosen_and_a_diverged_run_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "RATES", (1e38, 0.1))
    record = experiment.run(options(tmp_path))
    assert record["results"][experiment.trial("SGD", 1e38)]["means"] == {}
    assert record["results"][experiment.final("SGD", 0)]["lr"] == 0.1
    monkeypatch.setattr(experiment, "RATES", (1e38,))
    record = experiment.run(options(tmp_path))
    experiment.plot(records.load(tmp_path / "record.json"), tmp_path)
    assert "; SGD diverged; centred GD diverged" in experiment.caption(record)


def test_interrupted_then_resumed(tmp_path, monkeypatch):
    """Ctrl-C in a trial, or in a run: that part is begun again."""
    (tmp_path / "whole").mkdir()
    whole = experiment.run(options(tmp_path / "whole"))["results"]
    measure = experiment.reconstruction_error
    for call in (3, 15):
        folder, calls = tmp_path / str(call), []
        folder.mkdir()

        def pressed(*args, calls=calls, call=call):
            calls.append(0)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGINT)
            return measure(*args)

        with monkeypatch.context() as patch:
            patch.setattr(experiment, "reconstruction_error", pressed)
            record = experiment.run(options(folder))
        assert not record["results"]["complete"]
        experiment.plot(records.load(folder / "record.json"), folder)
        assert experiment.caption(record).endswith("unfinished.")
        results = experiment.run(options(folder, resume=True))["results"]
        for part, found in whole.items():
            if part != "complete":
                assert results[part]["curves"]["test_error"] == found["curves"]["test_error"]


def test_a_part_that_gives_none_was_interrupted(tmp_path):
    steps = {"a": lambda results: {"x": 1}, "b": lambda results: None, "c": lambda results: {"x": 3}}
    record = parts.run_parts("centering", options(tmp_path), {}, [0], steps)
    assert record["results"] == {"complete": False, "a": {"x": 1}}
