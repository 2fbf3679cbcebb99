"""prong-cifar: quick runs on random images, its tuning, what the annealing does, what findings and captions say."""

import dataclasses
import os
import signal

import numpy as np
import pytest

from minigrad import backend
from minigrad.experiments import classifiers, prong_cifar
from minigrad.nets import BatchNorm
from minigrad.optimizers import PRONG, SGD, RMSProp, Waterfall
from minigrad.training import records
from tests.experiments.noise import options, shades

SMALL = prong_cifar.Scale(1, 60, 20, None, 10, 4, 2, 1, 30, 2, 2, 20, 1)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Random images of ten shades, a net of 1, 2 and 4 maps, one epoch of four updates."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    x, t = shades(90, 3072)
    monkeypatch.setattr(classifiers, "cifar10", lambda: ((x[:70], t[:70]), (x[70:], t[70:])))
    monkeypatch.setitem(prong_cifar.SCALES, "quick", SMALL)
    prong_cifar.data.cache_clear()
    yield
    prong_cifar.data.cache_clear()


def test_run_plot_and_resume(tmp_path):
    record = prong_cifar.run(options(tmp_path))
    loaded = records.load(tmp_path / "record.json", prong_cifar.NAME)
    assert loaded["results"] == record["results"] and record["results"]["complete"]
    for name, runs in record["results"]["runs"].items():
        curves = runs["0"]["curves"]
        assert curves["update"] == [0, 2, 4] and all(0 <= e <= 1 for e in curves["validation_error"]), name
    assert loaded["settings"]["data"].startswith("40 training, 20 held-out and 20 test images of an excerpt of CIFAR")
    (path,) = prong_cifar.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    again = prong_cifar.run(options(tmp_path, resume=True))
    assert again["results"] == record["results"] and again["settings"] == loaded["settings"]


def test_rates_are_those_with_the_least_held_out_error(tmp_path, monkeypatch):
    """Candidates' errors made up: the second is better but for PRONG, whose second diverged."""
    made, train = [], prong_cifar.trained

    def noted(scale, name, lr, parts, updates, options, job):
        history = train(scale, name, lr, parts, updates, options, job)
        if options.out != tmp_path:  # a trial
            assert updates == 2 and parts[2] is parts[1] is prong_cifar.data(SMALL)[1]
            made.append((name, lr))
            history.curves["test_error"][-1] = 0.5 - 0.1 * prong_cifar.RATES[name].index(lr)
            if (name, lr) == ("PRONG", prong_cifar.RATES["PRONG"][1]):
                history.stopped = "diverged"
        return history

    monkeypatch.setattr(prong_cifar, "trained", noted)
    settings = prong_cifar.run(options(tmp_path))["settings"]
    assert made == [(name, prong_cifar.RATES[name][number]) for number in (0, 1) for name in prong_cifar.METHODS]
    expected = {name: rates[0 if name == "PRONG" else 1] for name, rates in prong_cifar.RATES.items()}
    assert settings["rates"] == expected
    assert settings["optimizers"]["momentum"] == repr(SGD(Waterfall(expected["momentum"], 0.1, 1), 0.9))
    assert [trial["error"] for trial in settings["tuning"]["trials"]["momentum"]] == [0.5, 0.4]


def test_interrupted_while_tuning_then_resumed(tmp_path, monkeypatch):
    pressed, measure = [], classifiers.share_wrong

    def press(*args):
        pressed.append(args)
        if len(pressed) == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(*args)

    monkeypatch.setattr(classifiers, "share_wrong", press)
    record = prong_cifar.run(options(tmp_path))
    assert not record["results"]["complete"] and not any(record["results"]["runs"].values())
    assert prong_cifar.findings(record) == [] and prong_cifar.caption(record).endswith("unfinished.")
    prong_cifar.plot(record, tmp_path)
    assert prong_cifar.run(options(tmp_path, resume=True))["results"]["complete"]


def test_methods():
    """Each with the falling rate, three on one net; PRONG with the paper's 1 x 1 whitening, which is the library's."""
    fall = Waterfall(0.1, factor=0.1, patience=1)
    assert prong_cifar.optimizer("RMSProp", 0.1, SMALL) == RMSProp(fall)
    assert prong_cifar.optimizer("batch norm", 0.1, SMALL) == prong_cifar.optimizer("momentum", 0.1, SMALL)
    assert prong_cifar.optimizer("momentum", 0.1, SMALL) == SGD(fall, 0.9)
    assert prong_cifar.optimizer("PRONG", 0.1, SMALL) == PRONG(fall, 0.9, interval=100, samples=20, epsilon=0.1)
    nets = {name: prong_cifar.objective(name, SMALL).net for name in prong_cifar.METHODS}
    assert nets["batch norm"].normalization == BatchNorm()
    assert nets["momentum"] == nets["RMSProp"] == nets["PRONG"] == dataclasses.replace(
        nets["batch norm"], normalization=None
    )  # fmt: skip


def test_the_rate_falls_with_the_held_out_loss(tmp_path, monkeypatch):
    """A net that no update changes brings no new best: with patience 1 each evaluation divides the rate by 10."""
    histories, train = [], prong_cifar.train_classifier
    monkeypatch.setattr(
        prong_cifar, "train_classifier", lambda *a, **b: histories.append(train(*a, **b)) or histories[-1]
    )
    prong_cifar.outcome(dataclasses.replace(SMALL, updates=6), {"momentum": 1e-30}, options(tmp_path), ("momentum", 0))
    rates = histories[0].steps["lr"]
    np.testing.assert_allclose(rates, [1e-30, 1e-30, 1e-30, 1e-30, 1e-31, 1e-31], rtol=1e-12)


def test_data():
    train, held_out, test, source = prong_cifar.data(SMALL)
    assert [x.shape for x, _ in (train, held_out, test)] == [(40, 32, 32, 3), (20, 32, 32, 3), (20, 32, 32, 3)]
    both = np.concatenate([train[0], held_out[0]]).astype("float64")
    np.testing.assert_allclose(both.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(both.std(axis=(0, 1, 2)), 1, rtol=1e-5)
    (x, _), (unseen, t) = classifiers.cifar10()
    planes = unseen.reshape(-1, 3, 32, 32)  # channel first, as in the file
    shift, scale = (getattr(x[:60].reshape(-1, 3, 32, 32), of)(axis=(0, 2, 3)) for of in ("mean", "std"))
    np.testing.assert_allclose(test[0][5, 3, 7], (planes[5, :, 3, 7] - shift) / scale, rtol=1e-3)
    np.testing.assert_array_equal(test[1], t)
    assert source == "an excerpt of CIFAR-10 with 90 images"
    whole = {row.tobytes() for part in (train[0], held_out[0]) for row in part}
    assert len(whole) == 60  # held out and trained on are disjoint


def test_errors_are_those_of_the_central_crop(tmp_path, monkeypatch):
    histories, train = [], prong_cifar.train_classifier
    monkeypatch.setattr(
        prong_cifar, "train_classifier", lambda *a, **b: histories.append(train(*a, **b)) or histories[-1]
    )
    run = prong_cifar.outcome(SMALL, {"PRONG": 0.01}, options(tmp_path), ("PRONG", 0))
    the, parts = prong_cifar.objective("PRONG", SMALL), prong_cifar.data(SMALL)
    for name, (x, t) in {"train_error": parts[0], "validation_error": parts[1], "test_error": parts[2]}.items():
        x, t = (x[:30], t[:30]) if name == "train_error" else (x, t)
        y = backend.to_host(the.predict(histories[0].theta, backend.asarray(x[:, 4:28, 4:28])))
        assert run["curves"][name][-1] == pytest.approx(np.mean(y.argmax(axis=1) != t), rel=1e-4), name


def made(train, test, seconds=(1, 1, 1, 1)):
    """A record of two seeds: {method: training errors at 100, 200, 300, 400 updates}, test errors at the end."""
    runs = {}
    for name, cost in zip(prong_cifar.METHODS, seconds, strict=True):
        errors = [0.9, *train[name]]
        curves = {"update": [0, 100, 200, 300, 400], "seconds": [cost * n for n in range(5)], "train_error": errors,
                  "validation_error": errors}  # fmt: skip
        runs[name] = {
            str(seed): {"curves": curves | {"test_error": [0.9] * 4 + [test[name] + shift]}}
            for seed, shift in enumerate((0.0, 0.01))
        }
    tuning = {"updates": 5, "trials": {"PRONG": [1, 2, 3]}}
    settings = {"data": "noise", "scale": "usual", "tuning": tuning, "rates": dict.fromkeys(prong_cifar.METHODS, 0.01),
                "sizes": {"width": 1, "batch_size": 10, "updates": 400}}  # fmt: skip
    return {"settings": settings, "seeds": [0, 1], "results": {"complete": True, "runs": runs}}


TRAIN = {
    "momentum": [0.8, 0.7, 0.6, 0.5], "RMSProp": [0.8, 0.7, 0.7, 0.6], "batch norm": [0.6, 0.5, 0.4, 0.3],
    "PRONG": [0.5, 0.4, 0.3, 0.2],
}  # fmt: skip
TEST = {"momentum": 0.5, "RMSProp": 0.6, "batch norm": 0.3, "PRONG": 0.2}


def test_findings_that_hold():
    """PRONG is at momentum's last error after 100 of 400 updates, batch norm after 200; its seconds are three times."""
    better, updates, similar, time = prong_cifar.findings(made(TRAIN, TEST, (1, 1, 1, 3)))
    assert better["held"] and "-30.00 ± 0.00 against momentum" in better["numbers"]
    assert updates["held"] and updates["numbers"].endswith(
        "n = 1 times by momentum, 0 times by RMSProp, 2 times by batch norm, 4 times by PRONG"
    )
    assert not similar["held"] and similar["numbers"] == "4 and 2 times"
    assert not time["held"] and "2 times by batch norm, 1.3 times by PRONG" in time["numbers"]


def test_findings_that_do_not():
    better, updates, similar, _ = prong_cifar.findings(
        made(TRAIN | {"PRONG": TRAIN["batch norm"]}, TEST | {"batch norm": 0.1})
    )
    assert not better["held"] and not updates["held"] and similar["held"]


def test_caption():
    text = prong_cifar.caption(made(TRAIN, TEST))
    assert "50.50 by momentum, 60.50 by RMSProp, 30.50 by batch norm, 20.50 by PRONG." in text
    assert "the best of 3 by held-out error after 5 updates: 0.01 for momentum" in text and "reduced form" in text
