"""hcgd-mnist-cnn: quick runs on random images, the paper's parameters, resumed runs, what findings and captions say."""

import os
import signal

import numpy as np
import pytest

from minigrad import Objective, backend
from minigrad.experiments import classifiers, hcgd_mnist_cnn, parts
from minigrad.losses import Categorical
from minigrad.nets import BatchNorm, MaxPool, convnet
from minigrad.nets.convnet import Dense
from minigrad.optimizers import HCGD, SGD, Adam
from minigrad.training import records
from tests.experiments.noise import options, shades


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Random images of ten shades, two epochs of five updates."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    x, t = shades(60, 784)
    monkeypatch.setattr(hcgd_mnist_cnn, "images", lambda count: ((x[:40], t[:40]), (x[40:], t[40:]), "noise"))
    monkeypatch.setattr(hcgd_mnist_cnn, "BATCH", 8)
    monkeypatch.setattr(hcgd_mnist_cnn, "VALIDATION", 16)
    monkeypatch.setattr(hcgd_mnist_cnn, "objective", objective)
    monkeypatch.setitem(hcgd_mnist_cnn.SCALES, "quick", hcgd_mnist_cnn.Scale(2, 1, None, 30, 1))


def objective():
    """A small net, with batch normalization as the paper's."""
    net = convnet((28, 28, 1), [MaxPool(14), Dense(6), Dense(10)], normalization=BatchNorm())
    return Objective(net, Categorical())


def test_run_plot_and_resume(tmp_path):
    record = hcgd_mnist_cnn.run(options(tmp_path, seeds=2))
    loaded = records.load(tmp_path / "record.json", hcgd_mnist_cnn.NAME)
    assert loaded["results"] == record["results"] and record["results"]["complete"]
    assert set(record["results"]["runs"]) == set(hcgd_mnist_cnn.METHODS)
    for runs in record["results"]["runs"].values():
        assert set(runs) == {"0", "1"} and runs["0"] != runs["1"]
    (path,) = hcgd_mnist_cnn.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    assert hcgd_mnist_cnn.run(options(tmp_path, seeds=2, resume=True))["results"] == record["results"]


def test_a_run_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    """Ctrl-C in the middle of the second method's run; resumed, all curves but seconds are those of an unbroken run."""
    pressed, measure = [], classifiers.share_wrong

    def press(*args):
        pressed.append(args)
        if len(pressed) == 9:  # the second run's evaluation after its first epoch: two calls each, three a run
            os.kill(os.getpid(), signal.SIGINT)
        return measure(*args)

    (tmp_path / "whole").mkdir()
    whole = hcgd_mnist_cnn.run(options(tmp_path / "whole"))["results"]["runs"]
    with monkeypatch.context() as patch:
        patch.setattr(classifiers, "share_wrong", press)
        broken = hcgd_mnist_cnn.run(options(tmp_path))
    assert not broken["results"]["complete"] and [len(of) for of in broken["results"]["runs"].values()] == [1, 0, 0]
    assert hcgd_mnist_cnn.caption(broken).endswith("unfinished.")
    hcgd_mnist_cnn.plot(broken, tmp_path)
    assert (parts.checkpoints(options(tmp_path), ("Adam", 0)) / "run").exists()
    found = hcgd_mnist_cnn.run(options(tmp_path, resume=True))["results"]["runs"]
    assert not (parts.checkpoints(options(tmp_path), ("Adam", 0)) / "run").exists()
    for name in hcgd_mnist_cnn.METHODS:
        ours, theirs = found[name]["0"]["curves"], whole[name]["0"]["curves"]
        assert ours | {"seconds": 0} == theirs | {"seconds": 0}


def test_errors_are_the_settled_nets(tmp_path, monkeypatch):
    """Those of a curve's last row, counted here: normalized with the first training images' statistics."""
    histories, train = [], hcgd_mnist_cnn.train_classifier
    monkeypatch.setattr(
        hcgd_mnist_cnn, "train_classifier", lambda *a, **b: histories.append(train(*a, **b)) or histories[-1]
    )
    monkeypatch.setattr(classifiers, "POPULATION", 20)
    run = hcgd_mnist_cnn.outcome(hcgd_mnist_cnn.SCALES["quick"], options(tmp_path), ("SGD", 0))
    (history,), (train, test, _) = histories, hcgd_mnist_cnn.images(None)
    assert run["curves"]["update"] == [0, 5, 10] and run["curves"]["gradients"] == [0, 5, 10]
    the = objective().settled(history.theta, backend.asarray(train[0][:20]))
    for name, (x, t) in {"train_error": (train[0][:30], train[1][:30]), "test_error": test}.items():
        y = backend.to_host(the.predict(history.theta, backend.asarray(x)))
        assert run["curves"][name][-1] == pytest.approx(np.mean(y.argmax(axis=1) != t), rel=1e-4)


def test_the_papers_parameters():
    sgd = SGD(0.04, 0.9)
    assert hcgd_mnist_cnn.optimizer("SGD") == sgd and hcgd_mnist_cnn.optimizer("Adam") == Adam()
    assert hcgd_mnist_cnn.optimizer("HCGD, n = 1") == HCGD(sgd, 1, 0.02, lam=0.5, penalty="root", validation=16)


def test_a_correction_costs_what_the_docstring_says(tmp_path):
    run = hcgd_mnist_cnn.outcome(hcgd_mnist_cnn.SCALES["quick"], options(tmp_path), ("HCGD, n = 1", 0))
    assert run["curves"]["gradients"] == pytest.approx([0, 5 * 11 / 3, 10 * 11 / 3], rel=1e-4)


def made(errors):
    """A record of runs that end with these {method: [test error of each seed]}; an update of HCGD costs 4 gradients."""
    cost = {"HCGD, n = 1": 4}
    runs = {
        method: {
            str(seed): {
                "curves": {
                    "update": [0, 5, 10],
                    "gradients": [cost.get(method, 1) * update for update in (0, 5, 10)],
                    "test_error": [0.9, 2 * e, e],
                    "train_error": [0.9, e, e / 2],
                }
            }
            for seed, e in enumerate(each)
        }
        for method, each in errors.items()
    }
    settings = {"data": "noise", "epochs": 2, "epoch": 5, "measured": 30, "scale": "usual"}
    return {
        "settings": settings,
        "seeds": list(range(len(errors["SGD"]))),
        "results": {"complete": True, "runs": runs},
    }


def test_findings_and_caption():
    """Changes of -1, -2, -3 % of SGD and none of Adam; Student's t of two degrees of freedom is 4.3027."""
    record = made({"SGD": [0.04, 0.05, 0.06], "Adam": [0.03, 0.03, 0.03], "HCGD, n = 1": [0.03, 0.03, 0.03]})
    sgd, adam, cost = hcgd_mnist_cnn.findings(record)
    assert sgd["numbers"] == "test error -2.00 ± 2.48 %" and not sgd["held"]
    assert adam["numbers"] == "test error +0.00 ± 0.00 %" and not adam["held"]
    # SGD ends at 10 gradients, where HCGD is half way from 90 % to 6 %
    assert not cost["held"] and cost["numbers"].startswith("48.00 against 4.00 %, 48.00 against 5.00 %")
    text = hcgd_mnist_cnn.caption(record)
    assert "against SGD -2.00 ± 2.48 in test and -1.00 ± 1.24 in training error, against Adam +0.00 ± 0.00 in" in text
    assert "95 % interval" in text and "reduced form" in text and text.count("diverged") == 0


def test_findings_that_hold():
    record = made({"SGD": [0.8, 0.81], "Adam": [0.8, 0.8], "HCGD, n = 1": [0.1, 0.11]})
    assert [each["held"] for each in hcgd_mnist_cnn.findings(record)] == [True, True, True]
    assert "95 %" not in hcgd_mnist_cnn.caption(made({"SGD": [0.8], "Adam": [0.8], "HCGD, n = 1": [0.1]}))


def test_a_run_that_diverged_is_left_out_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(hcgd_mnist_cnn, "RATE", 1e38)
    record = hcgd_mnist_cnn.run(options(tmp_path))
    assert "diverged: SGD (1 seed), HCGD, n = 1 (1 seed)" in hcgd_mnist_cnn.caption(record)
    assert hcgd_mnist_cnn.findings(record)[2]["numbers"] == "no seed ended"
    hcgd_mnist_cnn.plot(records.load(tmp_path / "record.json"), tmp_path)
