"""sequential-mnist: a quick run on random images, the sequences, comparisons by hand, what the caption says."""

import dataclasses
import math

import numpy as np
import pytest

from minigrad import backend
from minigrad.experiments import hcgd_mnist, sequential_mnist
from minigrad.optimizers import HCGD, SGD, Adam
from minigrad.training import records
from tests.experiments.noise import options, shades

NOISE = sequential_mnist.Scale(7, 3, None, 8, 16, 10, 20, 1, "reduced from noise")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Random images, three hidden units, ten updates."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    x, t = shades(60, 784)
    monkeypatch.setattr(hcgd_mnist, "images", lambda count: ((x[:40], t[:40]), (x[40:], t[40:]), "noise"))
    monkeypatch.setitem(sequential_mnist.SCALES, "quick", NOISE)
    sequential_mnist.sequences.cache_clear()
    yield
    sequential_mnist.sequences.cache_clear()


def test_run_plot_and_resume(tmp_path):
    record = sequential_mnist.run(options(tmp_path, seeds=2))
    loaded = records.load(tmp_path / "record.json", sequential_mnist.NAME)
    assert loaded["results"] == record["results"] and record["results"]["complete"]
    assert set(record["results"]["runs"]) == set(sequential_mnist.METHODS)
    for method, runs in record["results"]["runs"].items():
        assert set(runs) == {"0", "1"} and runs["0"] != runs["1"]
        assert runs["0"]["curves"]["update"] == [0, 5, 10]
        assert ("pull" in runs["0"]) == method.startswith("SGD+HC")
    assert not list((tmp_path / "checkpoints").iterdir())
    (path,) = sequential_mnist.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    again = sequential_mnist.run(options(tmp_path, seeds=2, resume=True))
    assert again["results"] == record["results"]  # nothing is repeated


def test_a_run_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    job = ("Adam+HC", 0)
    whole = sequential_mnist.outcome(NOISE, options(tmp_path / "whole"), job)
    sequential_mnist.outcome(dataclasses.replace(NOISE, updates=5), options(tmp_path / "half"), job)
    seen = []
    step = HCGD.step
    monkeypatch.setattr(HCGD, "step", lambda *args: seen.append(1) or step(*args))
    assert sequential_mnist.outcome(NOISE, options(tmp_path / "half", resume=True), job) == whole
    assert len(seen) == 5


def test_the_papers_parameters():
    optimizers = {method: sequential_mnist.optimizer(NOISE, method) for method in sequential_mnist.METHODS}
    assert optimizers["SGD"] == SGD(0.01) and optimizers["Adam"] == Adam(0.01)
    assert optimizers["SGD, lr + 4 eta"] == SGD(0.01 + 4 * 0.02)
    for n in (1, 2, 5):
        assert optimizers[f"SGD+HC, n = {n}"] == HCGD(SGD(0.01), n, 0.02, lam=0.5, penalty="root", validation=16)
    assert optimizers["Adam+HC"] == HCGD(Adam(0.01), 1, 0.02, lam=0.5, validation=16)
    for method, base in (("SGD+HC, n = 1", SGD(0.01)), ("Adam+HC", Adam(0.01))):
        assert optimizers[f"{method}, eta = 0.1 lr"] == HCGD(base, 1, 0.001, lam=0.5, validation=16)
    full = sequential_mnist.SCALES["full"]
    assert (full.side, full.hidden, full.images, full.validation, full.reduced) == (28, 128, None, 256, None)
    assert full.updates == 10 * (60_000 // full.batch)
    net = sequential_mnist.objective(full).net
    assert (net.n_in, net.hidden, net.n_out) == (1, 128, 10)


def test_sequences_are_averages_in_one_order():
    """Standardized by the training images; each step of all sequences is one square of 4 x 4 pixels."""
    (x, t), (test, _), _ = sequential_mnist.sequences(NOISE)
    (images, labels), (test_images, _), _ = hcgd_mnist.images(None)
    assert x.shape == (40, 49, 1) and x.dtype == np.float32 and (t == labels).all()
    assert abs(x.mean()) < 1e-5 and abs(x.std() - 1) < 1e-5
    squares = [(i, j) for i in range(0, 28, 4) for j in range(0, 28, 4)]
    means = np.array([[image.reshape(28, 28)[i : i + 4, j : j + 4].mean() for i, j in squares] for image in images])
    means_test = np.array([[a.reshape(28, 28)[i : i + 4, j : j + 4].mean() for i, j in squares] for a in test_images])
    back = x[..., 0] * means.std() + means.mean()
    order = [int(np.abs(means - back[:, [step]]).max(axis=0).argmin()) for step in range(49)]
    assert sorted(order) == list(range(49)) and order != list(range(49))
    np.testing.assert_allclose(back, means[:, order], atol=1e-5)
    np.testing.assert_allclose(test[..., 0] * means.std() + means.mean(), means_test[:, order], atol=1e-5)


def test_pull_is_the_correction_over_the_step(tmp_path):
    """One update: two rates of SGD are 4 eta g apart, and the correction is all that parts HC from SGD."""
    scale, eta = dataclasses.replace(NOISE, updates=1), sequential_mnist.ETA
    theta = {
        method: backend.to_host(sequential_mnist.train_one(scale, options(tmp_path / method), (method, 0)).theta)
        for method in ("SGD", "SGD, lr + 4 eta", "SGD+HC, n = 1")
    }
    step = 0.01 / (4 * eta) * (theta["SGD, lr + 4 eta"] - theta["SGD"])
    ratio = np.linalg.norm(theta["SGD+HC, n = 1"] - theta["SGD"]) / np.linalg.norm(step)
    run = sequential_mnist.outcome(scale, options(tmp_path / "corrected"), ("SGD+HC, n = 1", 0))
    assert run["pull"] == pytest.approx(ratio, rel=1e-3)  # differences of float32 numbers


def made(errors, pull=0.5):
    """A record of runs that end with these {method: [test error of each seed]}."""
    runs = {
        method: {
            str(seed): {"curves": {"update": [0, 5], "loss": [2, 1], "test_error": [0.9, e]}, "pull": pull}
            for seed, e in enumerate(errors[method])
        }
        for method in sequential_mnist.METHODS
    }
    settings = {"data": "noise", "reduced": "reduced from noise", "side": 7, "hidden": 3, "batch_size": 8,
                "validation": 16, "updates": 5}  # fmt: skip
    return {"settings": settings, "seeds": [0, 1, 2], "results": {"complete": True, "runs": runs}}


AS_THE_PAPER = dict(
    zip(
        sequential_mnist.METHODS,
        [[e, e + 0.01, e + 0.02] for e in (0.8, 0.6, 0.7, 0.65, 0.5, 0.75, 0.3, 0.2, 0.25)],
        strict=True,
    )
)


def test_findings():
    found = sequential_mnist.findings(made(AS_THE_PAPER))
    assert all(each["held"] for each in found) and len(found) == 8
    assert [each["numbers"] for each in found[:4]] == [
        "-10.00 ± 0.00 %", "-5.00 ± 0.00 %", "-5.00 ± 0.00 % for n = 2 against 1, -15.00 ± 0.00 % for 5 against 2",
        "+20.00 ± 0.00 %",
    ]  # fmt: skip
    assert found[-1]["numbers"] == "0.5 times as long at eta = 0.02, 0.5 at eta = 0.1 lr"
    turned = {method: [1 - e for e in errors] for method, errors in AS_THE_PAPER.items()}
    assert not any(each["held"] for each in sequential_mnist.findings(made(turned, pull=2)))


def test_more_corrections_must_all_be_better():
    for worse in ("SGD+HC, n = 2", "SGD+HC, n = 5"):
        record = made(AS_THE_PAPER | {worse: AS_THE_PAPER["SGD"]})
        assert not sequential_mnist.findings(record)[2]["held"]


def test_caption():
    record = made(AS_THE_PAPER)
    text = sequential_mnist.caption(record)
    assert "reduced from noise to 7 x 7 pixels, 3 hidden units, batches of 8 and 16, 5 updates" in text
    assert "median and range of 3 seeds" in text and "95 %" in text and "SGD 81.0 %; SGD, lr + 4 eta 61.0 %" in text
    assert "Adam+HC tests better than Adam: -10.00 ± 0.00 % (held)" in text
    for run in record["results"]["runs"]["Adam"].values():
        run["diverged"] = 3
    assert "diverged: Adam (3 seeds)" in sequential_mnist.caption(record)
    assert math.isnan(sequential_mnist.end(record, "Adam"))
    record["settings"]["reduced"], record["results"]["complete"] = None, False
    text = sequential_mnist.caption(record)
    assert "reduced" not in text and text.endswith("5 updates: unfinished.")
