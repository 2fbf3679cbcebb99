"""search-comparison: quick runs on random images, what counts as held, and the landscapes that are no training."""

import dataclasses
import os
import signal

import numpy as np
import pytest

from minigrad.experiments import search_comparison as experiment
from minigrad.losses import Gaussian
from minigrad.nets import Glorot, autoencoder
from minigrad.objective import Objective
from minigrad.optimizers import SGD
from minigrad.search import Trial
from minigrad.training import fit, records
from tests.experiments.noise import options
from tests.helpers import close, dev

TINY = experiment.Scale(2, 2, None, 3, 3)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Random images, a small net."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    x = np.random.default_rng(0).random((60, 784), dtype="float32")
    monkeypatch.setattr(experiment, "mnist", lambda: ((x, None), (x, None)))
    monkeypatch.setattr(experiment, "objective", small_objective)
    monkeypatch.setitem(experiment.SCALES, "quick", TINY)
    experiment.images.cache_clear()
    yield
    experiment.images.cache_clear()


def small_objective(alpha):
    return Objective(autoencoder((784, 6, 3), "tanh", "linear", "sigmoid", Glorot(alpha)), Gaussian(beta=0.5**0.5))


def test_run_and_plot(tmp_path):
    record = experiment.run(options(tmp_path))
    loaded = records.load(tmp_path / "record.json", experiment.NAME)
    assert loaded["results"] == record["results"] and record["results"]["complete"]
    runs = record["results"]["runs"]
    assert {method: list(each) for method, each in runs.items()} == {
        "grid search": ["0"], "random search": ["0", "1", "2"], "biased random search": ["0", "1", "2"]
    }  # fmt: skip
    assert all(len(run["losses"]) == 4 for each in runs.values() for run in each.values())
    assert sorted(set(runs["grid search"]["0"]["lr"])) == [1e-3, 0.1] and sorted(
        set(runs["grid search"]["0"]["alpha"])
    ) == [0.5, 50]
    assert [name for name, each in runs.items() if "lr" in each["0"]] == list(runs) and "lr" not in runs[
        "random search"
    ]["1"]
    assert set(record["results"]["played"]) == {"bowl", "deceptive", "diverging", "recorded"}
    assert not list((tmp_path / "checkpoints").iterdir())
    (path,) = experiment.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    assert "3 searches" in experiment.caption(loaded) and "unfinished" not in experiment.caption(loaded)
    assert experiment.run(options(tmp_path, resume=True))["results"] == record["results"]


def test_interrupted_in_a_search_then_resumed(tmp_path, monkeypatch):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = experiment.run(options(tmp_path / "whole"))["results"]
    train, calls = experiment.fit, []

    def pressed(*args, **given):
        calls.append(0)
        if len(calls) == 7:  # the third trial of the second search
            os.kill(os.getpid(), signal.SIGINT)
        return train(*args, **given)

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "fit", pressed)
        record = experiment.run(options(tmp_path / "cut"))
    assert not record["results"]["complete"] and experiment.caption(record).endswith("unfinished.")
    assert [len(each) for each in record["results"]["runs"].values()] == [1, 0, 0]
    experiment.plot(record, tmp_path)
    calls.clear()
    monkeypatch.setattr(experiment, "fit", lambda *args, **given: calls.append(0) or train(*args, **given))
    assert experiment.run(options(tmp_path / "cut", resume=True))["results"] == whole
    assert len(calls) == (1 + 3 + 3) * 4 - 6  # six trials were in the record and in a history


def test_more_seeds_are_added_to_a_finished_record(tmp_path):
    """And what is played on the landscape of all searches is played anew."""
    for name in ("whole", "grown"):
        (tmp_path / name).mkdir()
    whole = experiment.run(options(tmp_path / "whole", seeds=3))
    first = experiment.run(options(tmp_path / "grown", seeds=1))
    assert first["results"]["complete"]
    grown = experiment.run(options(tmp_path / "grown", seeds=3, resume=True))
    assert grown["results"] == whole["results"] and grown["seeds"] == whole["seeds"] == [0, 1, 2]
    assert records.load(tmp_path / "grown" / "record.json", experiment.NAME) == grown
    with pytest.raises(ValueError, match=r"is of another run: seeds is \[0, 1, 2\] there, \[0, 1\] here"):
        experiment.run(options(tmp_path / "grown", seeds=2, resume=True))


def test_a_trial_is_sgd_from_the_same_start_on_the_same_batches():
    scale = dataclasses.replace(TINY, updates=3)
    losses = [experiment.trial(scale, Trial(n, {"lr": 0.01, "alpha": 3.0}, seed=n)) for n in (1, 2)]
    assert losses[0] == losses[1]
    x = dev(experiment.images(None))
    history = fit(small_objective(3.0), SGD(0.01), (x, x), updates=3, batch_size=20, seed=0, progress=False)
    y = small_objective(3.0).predict(history.theta, x)
    close(losses[0], np.mean([np.sum((a - b) ** 2) for a, b in zip(np.asarray(y), np.asarray(x))]), rtol=1e-5)


def test_the_net_is_the_thesis_but_for_tanh(monkeypatch):
    monkeypatch.undo()
    net = experiment.objective(7.0).net
    assert net.sizes == (784, 1000, 500, 250, 30, 250, 500, 1000, 784) and net.initializer == Glorot(7.0)
    assert net.activations == ("tanh",) * 3 + ("linear",) + ("tanh",) * 3 + ("sigmoid",)
    full = experiment.SCALES["full"]
    assert (full.trials, full.searches, full.updates) == (100, 100, 100)


def made(random, biased):
    """A record in which the searches found these."""
    runs = {"grid search": {"0": {"losses": [9.0, 5.0]}}}
    for method, least in (("random search", random), ("biased random search", biased)):
        runs[method] = {str(seed): {"losses": [None, 60.0, loss]} for seed, loss in enumerate(least)}
    return {"results": {"complete": True, "runs": runs}, "seeds": list(range(len(random)))}


def test_findings():
    low, high = [26.0, 26.2, 26.1, 26.3, 26.2, 26.1], [27.0, 27.9, 26.9, 27.8, 27.3, 27.5]
    better, steadier = experiment.findings(made(high, low))
    assert better["held"] and better["numbers"].startswith("26.15 against 27.40 (p = ")
    assert steadier["held"] and "standard deviation 0.10 against 0.41" in steadier["numbers"]
    assert [each["held"] for each in experiment.findings(made(low, high))] == [False, False]
    assert not experiment.findings(made(high, high[::-1]))[0]["held"]  # no difference
    wide = [20.0, 27.0, 21.0, 26.0, 25.0, 24.0]
    assert not experiment.findings(made(high, wide))[1]["held"]
    rows = experiment.table(made(high, low))
    assert [(row["method"], row["searches"], row["paper"]) for row in rows] == [
        ("grid search", 1, (None, 0.0)), ("random search", 6, (27.02, 0.28)), ("biased random search", 6, (26.61, 0.13))
    ]  # fmt: skip
    assert rows[0]["mean"] == 5.0 and rows[0]["sd"] == 0.0
    close(rows[1]["sd"], np.std(high, ddof=1), rtol=1e-12)


def test_one_search_each_has_no_significance():
    assert [each["held"] for each in experiment.findings(made([27.0], [26.0]))] == [False, False]


def test_the_recorded_landscape_is_that_of_the_random_trials():
    scale = TINY
    record = made([1.0, 2.0], [0.0, 0.0])
    for seed, run in record["results"]["runs"]["random search"].items():
        run["losses"] = [10.0 * int(seed) + number for number in range(scale.trials)]
    loss = experiment.recorded(record)
    for seed in (0, 1):
        again = experiment.search("random search", seed)
        for number in range(scale.trials):
            parameters = experiment.SPACE.parameters(again.propose(number))
            assert loss(Trial(0, parameters, 0)) == 10.0 * seed + number


def test_formulas():
    assert experiment.bowl(0.3, 0.4) == 0.0 and experiment.deceptive(0.3, 0.4) == 0.0
    assert experiment.deceptive(0.85, 0.85) == -1.0 and experiment.deceptive(0.85, 0.93) > 0.7
    assert experiment.diverging(0.9, 0.9) == 1e6 and experiment.diverging(0.9, 0.7) < 1
    assert experiment.FORMULAS["bowl"] is experiment.bowl


def test_where_biased_search_fails():
    """The well is missed more often than by random search, and a diverged corner costs the thesis' rule its bias."""
    record = made([1.0, 2.0], [0.0, 0.0])
    scale = experiment.Scale(7, 2, None, 2, 40)
    for run in record["results"]["runs"]["random search"].values():
        run["losses"] = [1.0] * scale.trials
    found = experiment.played(record, scale)
    assert found["deceptive"]["biased random search"]["found"] < found["deceptive"]["random search"]["found"] - 0.15
    assert found["bowl"]["biased random search"]["mean"] < 0.75 * found["bowl"]["random search"]["mean"]
    assert found["diverging"]["biased random search"]["mean"] > 1.1 * found["diverging"]["biased, by rank"]["mean"]
