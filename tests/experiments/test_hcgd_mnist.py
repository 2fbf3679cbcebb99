"""hcgd-mnist and distance-travelled: quick runs on random images, passes, comparisons by hand, what captions say."""

import math

import numpy as np
import pytest

from minigrad import backend
from minigrad.experiments import distance_travelled, hcgd_mnist
from minigrad.optimizers import HCGD, SGD
from minigrad.training import records
from tests.experiments.noise import options, shades


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Random images of ten shades, a small net, two epochs of five updates."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    x, t = shades(60, 784)
    images = lambda count: ((x[:40], t[:40]), (x[40:], t[40:]), "noise")
    for module in (hcgd_mnist, distance_travelled):
        monkeypatch.setattr(module, "images", images)
        monkeypatch.setattr(module, "BATCH", 8)
        monkeypatch.setitem(module.SCALES, "quick", hcgd_mnist.Scale(2, None, 1))
    monkeypatch.setattr(hcgd_mnist, "SIZES", (784, 5, 10))
    monkeypatch.setattr(hcgd_mnist, "VALIDATION", 16)


@pytest.mark.parametrize("module", [hcgd_mnist, distance_travelled], ids=lambda module: module.NAME)
def test_run_plot_and_resume(module, tmp_path):
    record = module.run(options(tmp_path, seeds=2))
    loaded = records.load(tmp_path / "record.json", module.NAME)
    assert loaded["results"] == record["results"] and record["results"]["complete"]
    assert set(record["results"]["runs"]) == set(module.RUNS)
    for runs in record["results"]["runs"].values():
        assert set(runs) == {"0", "1"} and runs["0"] != runs["1"]
    (path,) = module.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    again = module.run(options(tmp_path, seeds=2, resume=True))
    assert again["results"] == record["results"]  # nothing is repeated


def test_what_a_run_keeps(tmp_path):
    run = hcgd_mnist.outcome(hcgd_mnist.SCALES["quick"], options(tmp_path), ("HCGD, n = 1, momentum", 0))
    assert run["curves"]["update"] == [0, 5, 10]
    assert all(0 <= error <= 1 for error in run["curves"]["test_error"] + run["curves"]["train_error"])
    assert run["curves"]["train_error"][-1] < run["curves"]["train_error"][0]


def test_the_papers_parameters():
    optimizers = {name: hcgd_mnist.optimizer(*of) for name, of in hcgd_mnist.RUNS.items()}
    assert optimizers["SGD, momentum"] == SGD(0.04, 0.9) and optimizers["SGD, no momentum"] == SGD(0.1)
    assert optimizers["SGD, lr + 9 eta, no momentum"] == SGD(0.1 + 9 * 0.02)
    corrected = optimizers["HCGD, n = 10, momentum"]
    assert corrected == HCGD(SGD(0.04, 0.9), 10, 0.02, lam=0.5, penalty="root", validation=16)
    assert [optimizers[f"{method}, momentum"].n for method in ("HCGD, n = 1", "HCGD, n = 10")] == [1, 10]


def test_passes_are_the_sweeps_that_a_step_takes(monkeypatch):
    """Counted: forward by the net's own calls, backward by L-ops."""
    from minigrad.autodiff import tape

    counts = {"forward": 0, "backward": 0}
    apply, lop = type(hcgd_mnist.objective().net).apply, tape.Jacobian.lop

    def counted(name, function):
        def call(*args):
            counts[name] += 1
            return function(*args)

        return call

    monkeypatch.setattr(type(hcgd_mnist.objective().net), "apply", counted("forward", apply))
    monkeypatch.setattr(tape.Jacobian, "lop", counted("backward", lop))
    the = hcgd_mnist.objective()
    theta = the.net.init(np.random.default_rng(0))
    batch = tuple(backend.asarray(part[:8]) for part in hcgd_mnist.images(None)[0])
    for method in hcgd_mnist.METHODS:
        optimizer = hcgd_mnist.optimizer(method, "momentum")
        counts.update(forward=0, backward=0)
        optimizer.step(theta, optimizer.init(the, theta), the, batch, lambda size: batch, None)
        assert sum(counts.values()) == hcgd_mnist.passes(method), method


def made(errors):
    """A record of runs that end with these {method: [test error of each seed]}, training errors half as large."""
    runs = {
        f"{method}, {base}": {
            str(seed): {"curves": {"update": [0, 5, 10], "test_error": [0.9, 2 * e, e], "train_error": [0.9, e, e / 2]}}
            for seed, e in enumerate(errors[method])
        }
        for method in hcgd_mnist.METHODS
        for base in hcgd_mnist.RATES
    }
    results = {"complete": True, "runs": runs}
    settings = {"data": "noise", "epochs": 2}
    return {"settings": settings, "seeds": list(range(len(errors["SGD"]))), "results": results}


def test_differences_and_their_interval():
    """Changes of -1, -2, -3 %: mean -2, standard error 1/sqrt(3), and Student's t of two degrees of freedom 4.3027."""
    errors = {"SGD": [0.04, 0.05, 0.06], "SGD, lr + 9 eta": [0.04, 0.05, 0.06], "HCGD, n = 1": [0.03, 0.03, 0.03],
              "HCGD, n = 10": [0.05, 0.06, 0.07]}  # fmt: skip
    record = made(errors)
    found = hcgd_mnist.compare(record, "momentum")
    assert found["HCGD, n = 1"]["test_error"] == pytest.approx((-2, 4.30265 / 3**0.5), rel=1e-5)
    assert found["HCGD, n = 1"]["train_error"] == pytest.approx((-1, 4.30265 / 2 / 3**0.5), rel=1e-5)
    assert found["SGD, lr + 9 eta"]["test_error"] == pytest.approx((0, 0), abs=1e-12)
    assert found["HCGD, n = 10"]["test_error"] == pytest.approx((1, 0), abs=1e-12)
    text = hcgd_mnist.caption(record)
    assert "HCGD, n = 1 -2.00 ± 2.48 in test and -1.00 ± 1.24 in training error" in text and "95 %" in text


def test_a_diverged_seed_is_left_out_and_one_seed_has_no_interval():
    record = made({method: [0.04, 0.05] for method in hcgd_mnist.METHODS})
    record["results"]["runs"]["HCGD, n = 1, momentum"]["0"]["diverged"] = 3
    mean, half = hcgd_mnist.compare(record, "momentum")["HCGD, n = 1"]["test_error"]
    assert mean == 0 and math.isnan(half)
    for seed in ("0", "1"):
        record["results"]["runs"]["HCGD, n = 10, momentum"][seed]["diverged"] = 3
    assert math.isnan(hcgd_mnist.compare(record, "momentum")["HCGD, n = 10"]["test_error"][0])
    assert "diverged: HCGD, n = 1, momentum (1 seed), HCGD, n = 10, momentum (2 seeds)" in hcgd_mnist.caption(record)


def test_how_early_a_level_is_reached():
    """SGD's median at the end is 5 %; HCGD has 4 % at its first epoch, five passes an update for SGD's two."""
    errors = {"SGD": [0.05], "SGD, lr + 9 eta": [0.06], "HCGD, n = 1": [0.02], "HCGD, n = 10": [0.05]}
    found = hcgd_mnist.early(made(errors), "no momentum")
    assert found["SGD"] == (2, 2) and found["HCGD, n = 1"] == (1, 2.5)
    assert found["HCGD, n = 10"] == (2, 2 * 23 / 2) and found["SGD, lr + 9 eta"] == (math.inf, math.inf)


def test_findings_of_differences():
    """n = 1 is better by 1 to 2 %, -1.5 +- 1.24 in the mean; ten corrections and the larger rate end alike."""
    errors = {"SGD": [0.05, 0.06, 0.07], "SGD, lr + 9 eta": [0.03, 0.04, 0.05], "HCGD, n = 1": [0.04, 0.045, 0.05],
              "HCGD, n = 10": [0.03, 0.04, 0.05]}  # fmt: skip
    better, faster, passes, alike, plain = hcgd_mnist.findings(made(errors))[:5]
    assert better["held"] and not faster["held"] and not passes["held"] and alike["held"] and plain["held"]
    assert faster["numbers"] == "SGD's last test error is reached in epoch 2 by SGD, 2 for n = 1, 2 for n = 10"
    assert passes["numbers"] == "5 for SGD's 2, in epochs of SGD"
    errors["HCGD, n = 1"] = [0.04, 0.05, 0.06]
    better, _, _, alike, _ = hcgd_mnist.findings(made(errors))[:5]
    assert better["held"] and better["numbers"] == "test error -1.00 ± 0.00 % for n = 1, -2.00 ± 0.00 % for n = 10"
    assert not alike["held"] and alike["numbers"] == "test error -1.00 ± 0.00 % for n = 10"


@pytest.mark.parametrize(
    ("pair", "below", "other"),
    [((-1, 0.5), True, True), ((-1, 1.5), False, False), ((1, 0.5), False, True), ((-1, math.nan), True, True),
     ((0, math.nan), False, False)],
)  # fmt: skip
def test_what_counts_as_a_difference(pair, below, other):
    assert hcgd_mnist.below_zero(pair) == below and hcgd_mnist.differs(pair) == other


def test_findings_of_sums():
    """With momentum HCGD rests, without it drifts as SGD does; momentum halves SGD's way."""
    curves = {
        "SGD, momentum": ([0, 4, 8], [0, 2, 3]), "HCGD, n = 1, momentum": ([0, 1, 1], [0, 2, 3]),
        "SGD, no momentum": ([0, 8, 16], [0, 2, 3]), "HCGD, n = 1, no momentum": ([0, 8, 16], [0, 2, 2]),
    }  # fmt: skip
    runs = {
        name: {"0": {"curves": {"update": [0, 4, 8], "function": f, "parameters": p}}}
        for name, (f, p) in curves.items()
    }
    found = distance_travelled.findings({"results": {"runs": runs}})
    assert [each["held"] for each in found] == [True, True, True, True, True, False, False, False, True]
    assert found[0]["numbers"] == "25 % of the sum came late" and found[3]["numbers"] == "0.12 times SGD's sum"


def test_travelled_sums_are_those_of_the_path(tmp_path):
    """Against a run of the same seed whose every theta is kept."""
    kept, (name, seed) = [], ("HCGD, n = 1, no momentum", 0)
    run = distance_travelled.outcome(distance_travelled.SCALES["quick"], options(tmp_path), (name, seed))
    (x, _), (test, _), _ = hcgd_mnist.images(None)
    the = hcgd_mnist.objective()
    theta = the.net.init(np.random.default_rng(seed), x.dtype)
    kept.append(theta)
    keep = lambda history: kept.append(history.theta)
    hcgd_mnist.train_one(distance_travelled.SCALES["quick"], options(tmp_path), name, seed, theta, (keep,))
    outputs = [backend.to_host(the.predict(theta, backend.asarray(test))).astype("float64") for theta in kept]
    thetas = [backend.to_host(theta).astype("float64") for theta in kept]
    f = np.cumsum([0, *(((a - b) ** 2).sum() / len(test) for a, b in zip(outputs[1:], outputs[:-1], strict=True))])
    p = np.cumsum([0, *(((a - b) ** 2).sum() for a, b in zip(thetas[1:], thetas[:-1], strict=True))])
    assert run["curves"]["update"] == list(range(11))
    np.testing.assert_allclose(run["curves"]["function"], f, rtol=1e-3)  # differences of float32 numbers
    np.testing.assert_allclose(run["curves"]["parameters"], p, rtol=1e-3)


def test_the_last_quarter():
    curves = {"update": [0, 4, 8], "function": [0, 10, 12]}
    assert distance_travelled.last_quarter(curves, "function") == pytest.approx(100 * (12 - 11) / 12)
