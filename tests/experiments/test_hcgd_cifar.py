"""hcgd-cifar: quick runs on random images, the papers' parameters, averages by hand, what findings and captions say."""

import math

import numpy as np
import pytest

from minigrad.experiments import classifiers, hcgd_cifar
from minigrad.optimizers import HCGD, SGD, Steps
from minigrad.training import records
from tests.experiments.noise import options, shades

SMALL = hcgd_cifar.Scale(4, 40, 20, 10, 20, 2, 1, 1, 20, True, 1)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Random images of ten shades, a narrow net, two epochs of four updates, of which the second is slow."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    x, t = shades(70, 3072)
    monkeypatch.setattr(classifiers, "cifar10", lambda: ((x[:50], t[:50]), (x[50:], t[50:])))
    monkeypatch.setitem(hcgd_cifar.SCALES, "quick", SMALL)
    hcgd_cifar.data.cache_clear()
    yield
    hcgd_cifar.data.cache_clear()


def test_run_plot_and_resume(tmp_path, monkeypatch):
    """Also: the rate is divided by 10 after the epoch, eta with it, and crops are drawn."""
    histories, calls, train = {}, [], hcgd_cifar.train_classifier

    def noted(*arguments, **named):
        calls.append(named["augment"])
        histories[arguments[5]] = train(*arguments, **named)
        return histories[arguments[5]]

    monkeypatch.setattr(hcgd_cifar, "train_classifier", noted)
    record = hcgd_cifar.run(options(tmp_path))
    loaded = records.load(tmp_path / "record.json", hcgd_cifar.NAME)
    assert loaded["results"] == record["results"] and record["results"]["complete"]
    for (name, _), history in histories.items():
        rate = hcgd_cifar.METHODS[name]
        np.testing.assert_allclose(history.steps["lr"], [rate] * 4 + [rate / 10] * 4)
        if name != "SGD":
            np.testing.assert_allclose(history.steps["eta"], [0.02] * 4 + [0.002] * 4)
        assert record["results"]["runs"][name]["0"]["curves"]["update"] == [0, 4, 8]
    assert calls == [hcgd_cifar.CROPS] * 3
    (path,) = hcgd_cifar.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    assert hcgd_cifar.run(options(tmp_path, resume=True))["results"] == record["results"] and len(calls) == 3


def test_the_papers_parameters(monkeypatch):
    monkeypatch.setattr(hcgd_cifar, "epoch", lambda scale: 390)
    full = hcgd_cifar.SCALES["full"]
    optimizers = {name: hcgd_cifar.optimizer(name, full) for name in hcgd_cifar.METHODS}
    at = lambda lr: SGD(Steps(lr, 150 * 390, 0.1), 0.9)
    assert optimizers["SGD"] == at(0.1)
    for name, lr in (("HCGD, lr 0.1", 0.1), ("HCGD, lr 0.3", 0.3)):
        assert optimizers[name] == HCGD(at(lr), 1, 0.02, lam=0.5, penalty="root", validation=256)
    assert hcgd_cifar.objective(full).weight_decay == 5e-4
    assert hcgd_cifar.objective(full).net.layout.size == 733_514 and full.late == 40 and full.crops


def test_what_each_scale_reduces():
    usual = hcgd_cifar.SCALES["usual"]
    assert not usual.crops and usual.drop / usual.epochs == 150 / 200
    assert hcgd_cifar.objective(usual).net.matrices["conv0"][1] == 16


def made(errors, train=None, late=2):
    """A record of six epochs, the rate falling after the fourth: {method: [test errors of each seed]}, in percent."""
    runs = {}
    for name, seeds in errors.items():
        runs[name] = {}
        for seed, curve in enumerate(seeds):
            trained = (train or errors)[name][seed]
            test, trained = ([0.9, *(e / 100 for e in each)] for each in (curve, trained))
            curves = {"update": [10 * n for n in range(7)], "test_error": test, "train_error": trained}
            runs[name][str(seed)] = {"curves": curves}
    settings = {"data": "noise", "scale": "usual", "epochs": {"all": 6, "drop": 4, "late": late, "updates": 10},
                "sizes": {"width": 4, "batch_size": 10}}  # fmt: skip
    return {"settings": settings, "seeds": list(range(len(seeds))), "results": {"complete": True, "runs": runs}}


ERRORS = {
    "SGD": [[60, 50, 40, 42, 20, 24], [60, 50, 40, 42, 22, 26]],
    "HCGD, lr 0.1": [[60, 50, 30, 32, 30, 34], [60, 50, 30, 32, 32, 36]],
    "HCGD, lr 0.3": [[70, 60, 50, 40, 16, 20], [70, 60, 50, 40, 18, 22]],
}


def test_averages():
    """The last two epochs of both seeds: 20, 24, 22, 26; the mean curve is 21, 25, of standard error 2."""
    record = made(ERRORS)
    assert hcgd_cifar.level(record, "SGD") == pytest.approx((23, 2))
    found = hcgd_cifar.averaged(record, "SGD", "test_error", drop=True)
    np.testing.assert_allclose(list(found.values()), [[40, 42], [40, 42]])
    assert hcgd_cifar.against(record, "HCGD, lr 0.1", "test_error") == pytest.approx((10, 0), abs=1e-9)
    mean, error = hcgd_cifar.level(made(ERRORS, late=1), "SGD")
    assert mean == pytest.approx(25) and math.isnan(error)
    long = hcgd_cifar.averaged(made(ERRORS, late=5), "SGD", "test_error", drop=True)  # not the start's
    np.testing.assert_allclose(long["0"], [60, 50, 40, 42])


def test_intervals_are_over_seeds():
    """Changes of 9 and 11 %: mean 10, standard error 1, Student's t of one degree of freedom 12.7062."""
    errors = ERRORS | {"HCGD, lr 0.1": [[0, 0, 0, 0, 31, 31], [0, 0, 0, 0, 35, 35]]}
    found = hcgd_cifar.against(made(errors), "HCGD, lr 0.1", "test_error")
    assert found == pytest.approx((10, 12.7062), rel=1e-5)


def test_findings():
    """HCGD as the papers have it; training errors are three times the test errors, so 2018 is right, 2019 is not."""
    train = {name: [[3 * e / 4 for e in seed] for seed in seeds] for name, seeds in ERRORS.items()}
    found = hcgd_cifar.findings(made(ERRORS, train))
    assert [each["held"] for each in found] == [True, True, True, True, False]
    assert found[0]["numbers"] == "test error -10.00 ± 0.00 % against SGD"
    assert found[3]["numbers"] == "training error -3.00 ± 0.00 % against SGD"
    other = ERRORS | {"HCGD, lr 0.1": ERRORS["SGD"], "HCGD, lr 0.3": ERRORS["HCGD, lr 0.1"]}
    assert [each["held"] for each in hcgd_cifar.findings(made(other))] == [False, False, False, False, True]


def test_caption(tmp_path):
    record = made(ERRORS)
    text = hcgd_cifar.caption(record)
    assert "SGD 23.00 ± 2.00; HCGD, lr 0.1 33.00 ± 2.00; HCGD, lr 0.3 19.00 ± 2.00" in text
    assert "reduced form" in text and "width 4" in text and text.endswith("-4.00 ± 0.00 by HCGD, lr 0.3.")
    record["results"]["runs"]["HCGD, lr 0.3"]["0"]["diverged"] = 3
    assert "diverged: HCGD, lr 0.3 (1 seed)" in hcgd_cifar.caption(record)
    record["results"]["complete"] = False
    assert hcgd_cifar.caption(record).endswith("unfinished.") and hcgd_cifar.findings(record) == []
    record["results"]["runs"]["HCGD, lr 0.3"] = {}
    hcgd_cifar.plot(record, tmp_path)
