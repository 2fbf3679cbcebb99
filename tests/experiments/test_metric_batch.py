"""metric-batch and its tuning: quick runs on random images, whose samples go where, and what the caption claims."""

import dataclasses
import os
import signal

import numpy as np
import pytest

from minigrad import backend
from minigrad.experiments import metric_batch as experiment
from minigrad.experiments import tune_metric_batch as tuning
from minigrad.optimizers import FixedDamping, LevenbergMarquardt, SampleSpace
from minigrad.training import records
from tests.experiments.noise import options
from tests.helpers import close, dev

METRICS = experiment.METHODS[1:]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Random images of two sets, a small net, two updates."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    rng = np.random.default_rng(0)
    x, t = rng.random((120, 784), dtype="float32"), rng.integers(0, 10, 120)
    for name in experiment.SETS:
        monkeypatch.setitem(experiment.SETS, name, lambda: ((x, t), (x[:30], t[:30])))
    scale = experiment.Scale(2, 20, 40, 6, 1, ("MNIST", "Fashion-MNIST"))
    monkeypatch.setitem(experiment.SCALES, "quick", scale)
    monkeypatch.setitem(tuning.SCALES, "quick", (2, dataclasses.replace(scale, updates=1)))
    monkeypatch.setattr(experiment, "tuned", lambda: experiment.PAPERS_PARAMETERS)


def test_run_and_plot(tmp_path):
    record = experiment.run(options(tmp_path, seeds=2))
    results = record["results"]
    assert results["complete"] and record["seeds"] == [0, 1]
    loaded = records.load(tmp_path / "record.json", experiment.NAME)
    for data in experiment.SETS:
        for name in experiment.METHODS:
            runs = loaded["results"]["curves"][data][name]
            last = 40 if name == "SGD" else 2  # 20 updates of SGD for one of the others
            assert [run["update"][-1] for run in runs] == [last, last]
            row = loaded["results"]["table"][data][name]
            assert row["train"] == [run["loss"][-1] for run in runs]
            close(row["test"], [100 * run["test_error"][-1] for run in runs])
        assert set(loaded["results"]["claims"][data]) == set(experiment.CLAIMS)
        assert set(loaded["results"]["solves"][data]["KL, unlabeled"][0]) == {"iterations", "taken"}
        text = experiment.caption(loaded, data)
        assert "80 unlabeled images of " + data in text and "median and range of 2 seeds" in text
    paths = experiment.plot(loaded, tmp_path)
    assert [path.name for path in paths] == ["metric-batch-mnist.png", "metric-batch-fashion-mnist.png"]
    assert all(path.stat().st_size > 10_000 for path in paths)
    assert not (tmp_path / "checkpoints").exists()
    again = experiment.run(options(tmp_path, seeds=2, resume=True))
    assert again["results"] == loaded["results"]  # nothing is repeated


def interrupt_at(monkeypatch, call):
    """Press Ctrl-C in the call-th evaluation of the test error."""
    calls, measure = [], experiment.share_wrong

    def pressed(*args):
        calls.append(0)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(*args)

    monkeypatch.setattr(experiment, "share_wrong", pressed)


def test_interrupted_then_resumed(tmp_path, monkeypatch):
    whole = experiment.run(options(tmp_path / "whole"))["results"]
    interrupt_at(monkeypatch, 20)
    record = experiment.run(options(tmp_path))
    assert not record["results"]["complete"] and list((tmp_path / "checkpoints").iterdir())
    assert experiment.caption(record, "MNIST").endswith("unfinished.")
    experiment.plot(records.load(tmp_path / "record.json"), tmp_path)
    results = experiment.run(options(tmp_path, resume=True))["results"]
    assert results["complete"]
    assert (results["table"], results["claims"]) == (whole["table"], whole["claims"])


def test_resume_refuses_a_record_of_other_settings(tmp_path):
    experiment.run(options(tmp_path))
    with pytest.raises(ValueError, match=r"record\.json is of another run: seeds is \[0\] there, \[0, 1\] here"):
        experiment.run(options(tmp_path, resume=True, seeds=2))


def test_divergence_is_in_the_record_the_table_and_the_caption(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "tuned", lambda: experiment.PAPERS_PARAMETERS | {"SGD": {"lr": 1e37}})
    experiment.run(options(tmp_path))
    record = records.load(tmp_path / "record.json")
    row = record["results"]["table"]["MNIST"]["SGD"]
    assert row == {"train": [None], "test": [None]}
    assert record["results"]["claims"]["MNIST"]["all metrics test better than SGD"] == [0, 1]
    assert "SGD diverged (seed 0, update" in experiment.caption(record, "MNIST")
    experiment.plot(record, tmp_path)


def test_too_few_images_are_refused_by_name(tmp_path, monkeypatch):
    x = np.zeros((59, 784), "float32")
    monkeypatch.setitem(experiment.SETS, "MNIST", lambda: ((x, np.zeros(59, int)), (x, np.zeros(59, int))))
    with pytest.raises(ValueError, match="metric-batch: MNIST must have 60 training images at this scale, got 59"):
        experiment.run(options(tmp_path))


@pytest.mark.parametrize("seed", [0, 1])
def test_whose_samples_go_where(tmp_path, monkeypatch, seed):
    """The methods share a seed's labelled images; unlabeled are all the others; the paper's sizes of batches."""
    calls = {}
    monkeypatch.setattr(experiment, "fit", lambda *args, **given: args + (given,))
    train, test = experiment.SETS["MNIST"]()
    scale = experiment.SCALES["quick"]
    for name in experiment.METHODS:
        parameters = experiment.PAPERS_PARAMETERS[name]
        calls[name] = experiment.train_one(name, parameters, train, test, scale, seed, options(tmp_path))
    labelled = calls["SGD"][2]
    for _, _, (x, t), given in calls.values():
        np.testing.assert_array_equal(x, labelled[0])
        np.testing.assert_array_equal(t, labelled[1])
        assert given["train_samples"] == len(x) == 40 and given["seed"] == seed
    unlabeled = calls["KL, unlabeled"][1].metric_batch
    assert unlabeled.size == 20 and len(unlabeled.x) == 80
    together = np.concatenate([backend.to_host(unlabeled.x), labelled[0]])
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(train[0], axis=0))
    assert [calls[name][3]["batch_size"] for name in experiment.METHODS] == [2, 20, 20, 20, 20]
    assert calls["KL, different batch"][1].metric_batch == 20 and calls["KL, same batch"][1].metric_batch is None


def test_methods_are_the_papers():
    """Section 8.5: Levenberg-Marquardt for unlabeled data alone; TONGA's metric is E[gg'], exactly solved."""
    x = dev(np.zeros((9, 784), "float32"))
    made = {name: experiment.optimizer(name, experiment.PAPERS_PARAMETERS[name], x, 3) for name in METRICS}
    assert [(the.lr.lr, the.damping.lam) for the in made.values()] == [(5.0, 2.0), (0.1, 0.01), (0.1, 0.01), (5.0, 0.1)]
    assert isinstance(made["KL, unlabeled"].damping, LevenbergMarquardt)
    assert made["KL, unlabeled"].damping.reduction == "linear"  # eq. 30
    assert all(isinstance(made[name].damping, FixedDamping) for name in METRICS[1:])
    assert made["TONGA"].metric == "empirical" and isinstance(made["TONGA"].solver, SampleSpace)
    assert all(made[name].metric == "exact" and made[name].warm_start == 0 for name in METRICS[:3])


def numbers(**changes):
    """The paper's table as ours, one seed, with changes: {method: (train, test)}."""
    rows = experiment.PAPERS_TABLE | {name.replace("_", " "): pair for name, pair in changes.items()}
    return {name: {"train": [train], "test": [test]} for name, (train, test) in rows.items()}


def test_claims_hold_in_the_papers_own_table():
    assert experiment.claims(numbers()) == dict.fromkeys(experiment.CLAIMS, (1, 1))


@pytest.mark.parametrize(
    "change, lost",
    [
        ({"SGD": (0.05, 4.6)}, {"the unlabeled metric has the lowest test error", "all metrics test better than SGD"}),
        ({"SGD": (0.0001, 5.22)}, {"TONGA fits the training images best"}),
        ({"TONGA": (0.0006, 4.63)}, {"the unlabeled metric has the lowest test error",
                                     "yet tests worse than the unlabeled metric"}),
        ({"KL, same batch": (0.0023, 4.89)}, {"a different batch tests better than the same"}),
        ({"KL, same batch": (0.0001, 4.91)}, {"TONGA fits the training images best"}),
    ],
)  # fmt: skip
def test_claims_are_lost_where_numbers_say_so(change, lost):
    found = experiment.claims(numbers(**change))
    assert {claim for claim, (count, _) in found.items() if count == 0} == lost


def test_claims_are_counted_seed_by_seed():
    rows = {name: {"train": [1.0, 1.0, 1.0], "test": [5.0, 5.0, np.nan]} for name in experiment.METHODS}
    rows["KL, unlabeled"]["test"] = [4.0, 6.0, 4.0]
    found = experiment.claims(rows)
    assert found["the unlabeled metric has the lowest test error"] == (1, 3)
    assert found["TONGA fits the training images best"] == (0, 3)
    record = {"settings": {"hidden": 6, "updates": {"SGD": 40, "KL, unlabeled": 2}, "data": {"MNIST": "images"}},
              "seeds": [0, 1, 2], "results": {"claims": {"MNIST": found}, "diverged": {"MNIST": {}}}}  # fmt: skip
    text = experiment.caption(record, "MNIST")
    assert "the unlabeled metric has the lowest test error in 1 of 3 seeds" in text
    assert "2 updates (40 of SGD)" in text and text.count(".") == 1


def test_number():
    assert experiment.number(4.5678) == "4.57" and experiment.number(np.float64("nan")) == "unfinished"


def test_tuned_parameters_are_of_every_method():
    best = records.load(experiment.TUNED, tuning.NAME)["results"]["best"]
    assert set(best) == set(experiment.METHODS)
    assert all(set(best[name]) == set(experiment.PAPERS_PARAMETERS[name]) for name in best)


def test_grid_is_fair_and_begins_with_the_papers():
    assert {len(trials) for trials in tuning.GRID.values()} == {6}
    assert all(tuning.GRID[name][0] == experiment.PAPERS_PARAMETERS[name] for name in experiment.METHODS)
    assert all(len({tuple(trial.values()) for trial in trials}) == 6 for trials in tuning.GRID.values())


def test_tuning_resumes_and_keeps_the_best(tmp_path, monkeypatch):
    interrupt_at(monkeypatch, 8)
    record = tuning.run(options(tmp_path))
    assert not record["results"]["complete"]
    record = tuning.run(options(tmp_path, resume=True))
    assert record["results"]["complete"]
    for name, trials in record["results"]["trials"].items():
        assert [{key: trial[key] for key in tuning.GRID[name][0]} for trial in trials] == tuning.GRID[name][:2]
        assert all(trial["updates"] == (20 if name == "SGD" else 1) for trial in trials)
        least = min(trials, key=lambda trial: trial["error"])
        assert record["results"]["best"][name] == {key: least[key] for key in tuning.GRID[name][0]}
    tuning.plot(record, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"record.json", "tune-metric-batch.png"}
