"""mnist-convnet and unlabeled-convnet: quick runs on random images, whose samples go where, what the caption claims."""

import dataclasses
import os
import signal

import numpy as np
import pytest

from minigrad import backend
from minigrad.experiments import metric_batch, mnist_convnet, unlabeled_convnet
from minigrad.experiments import metric_batch_convnet as shared
from minigrad.optimizers import TONGA, FixedDamping, InverseTime, LevenbergMarquardt, SampleSpace
from minigrad.training import records
from tests.experiments.noise import options
from tests.helpers import close

BOTH = pytest.mark.parametrize("experiment", [mnist_convnet, unlabeled_convnet], ids=lambda module: module.NAME)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Random images, batches of 20 out of 60, two updates, a narrow net."""
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    rng = np.random.default_rng(0)
    x, t = rng.random((90, 784), dtype="float32"), rng.integers(0, 10, 90)
    for name in metric_batch.SETS:
        monkeypatch.setitem(metric_batch.SETS, name, lambda: ((x, t), (x[:30], t[:30])))
    for experiment in (mnist_convnet, unlabeled_convnet):
        monkeypatch.setitem(experiment.SCALES, "quick", shared.Scale(2, 1, 20, 60, 25, (2, 2, 4), 1))


@BOTH
def test_run_and_plot(experiment, tmp_path):
    experiment.run(options(tmp_path, seeds=2))
    loaded = records.load(tmp_path / "record.json", experiment.NAME)
    assert loaded["results"]["complete"] and loaded["seeds"] == [0, 1]
    assert (loaded["settings"]["images"], loaded["settings"]["tested"]) == (60, 25)
    for method in experiment.METHODS:
        for run in loaded["results"]["runs"][method].values():
            assert run["curves"]["update"] == [0, 1, 2] and len(run["curves"]["test_error"]) == 3
            assert set(run["solves"]) == {"iterations", "taken"} and "diverged" not in run
    findings = experiment.findings(loaded)
    assert [finding["claim"] for finding in findings] == list(experiment.CLAIMS)
    text = experiment.caption(loaded)
    assert "2-2-4 convolutional net, median and range of 2 seeds (table: mean and range), in 2 updates" in text
    assert "batches of 20 out of 60 images of" in text and text.count("held)") == len(findings)
    assert ("and 10 unlabeled ones" in text) == (experiment is unlabeled_convnet)
    (path,) = experiment.plot(loaded, tmp_path)
    assert path.name == f"{experiment.NAME}.png" and path.stat().st_size > 10_000
    again = experiment.run(options(tmp_path, seeds=2, resume=True))
    assert again["results"] == loaded["results"]  # nothing is repeated


def test_interrupted_then_resumed(tmp_path, monkeypatch):
    """Within a run: it goes on from its own checkpoint, as if nothing had happened."""
    (tmp_path / "whole").mkdir()
    whole = mnist_convnet.run(options(tmp_path / "whole"))["results"]["runs"]
    calls, measure = [], shared.share_wrong

    def pressed(*args):
        calls.append(0)
        if len(calls) == 5:  # the second method's second
            os.kill(os.getpid(), signal.SIGINT)
        return measure(*args)

    monkeypatch.setattr(shared, "share_wrong", pressed)
    record = mnist_convnet.run(options(tmp_path))
    assert not record["results"]["complete"] and mnist_convnet.caption(record).endswith(": unfinished.")
    assert [len(runs) for runs in record["results"]["runs"].values()] == [1, 0, 0]
    mnist_convnet.plot(records.load(tmp_path / "record.json"), tmp_path)
    assert (tmp_path / "checkpoints" / "KL, same batch, seed 0" / "state.npz").is_file()
    found = mnist_convnet.run(options(tmp_path, resume=True))["results"]
    assert found["complete"] and len(calls) == 3 * 3
    for method, runs in whole.items():
        for column in ("update", "gradients", "loss", "test_error"):
            assert found["runs"][method]["0"]["curves"][column] == runs["0"]["curves"][column]


@BOTH
def test_divergence_is_in_the_record_and_the_caption(experiment, tmp_path, monkeypatch):
    """Of the last method, whose steps are then all taken."""
    last = experiment.METHODS[-1]
    make = shared.optimizer

    def wild(method, parameters, scale, unlabeled):
        made = make(method, parameters, scale, unlabeled)
        return dataclasses.replace(made, lr=1e37, damping=FixedDamping(0.1)) if method == last else made

    monkeypatch.setattr(shared, "optimizer", wild)
    record = experiment.run(options(tmp_path))
    assert record["results"]["runs"][last]["0"]["diverged"] < 2
    text = experiment.caption(record)
    assert f"; {last} diverged (seed 0, update " in text and "unfinished" in text
    experiment.plot(record, tmp_path)


def test_too_few_images_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(unlabeled_convnet.SCALES, "quick", shared.Scale(2, 1, 20, 81, None, (2, 2, 4), 1))
    with pytest.raises(ValueError, match="unlabeled-convnet: Fashion-MNIST must have 91 training images at this"):
        unlabeled_convnet.run(options(tmp_path))
    monkeypatch.setitem(mnist_convnet.SCALES, "quick", shared.Scale(2, 1, 91, None, None, (2, 2, 4), 1))
    with pytest.raises(ValueError, match="mnist-convnet: MNIST must have 91 training images at this scale, got 90"):
        mnist_convnet.run(options(tmp_path))


@BOTH
def test_whose_samples_go_where(experiment, tmp_path, monkeypatch):
    """The methods share a seed's labelled images; unlabeled are all the others, half a batch of them an update."""
    monkeypatch.setattr(shared, "fit", lambda *args, **given: (*args, given))
    comparison, scale = experiment.COMPARISON, experiment.SCALES["quick"]
    train, test = comparison.load(scale)
    assert train[0].shape == (90, 28, 28, 1) and test[0].shape == (25, 28, 28, 1)
    sources = {}
    for method in experiment.METHODS:
        _, optimizer, (x, t), given = comparison.train_one(scale, train, test, options(tmp_path), method, 1)
        assert len(x) == len(t) == given["train_samples"] == 60 and given["batch_size"] == 20 and given["seed"] == 1
        sources[method] = optimizer.metric_batch
        _, _, (again, _), _ = comparison.train_one(scale, train, test, options(tmp_path), experiment.METHODS[0], 1)
        np.testing.assert_array_equal(x, again)
    assert sources["KL, same batch"] is None
    if experiment is mnist_convnet:
        assert sources["KL, different batch"] == 20 and sources["TONGA"] is None
        return
    unlabeled = sources["KL, unlabeled"]
    assert unlabeled.size == 10 and unlabeled.added
    together = np.concatenate([backend.to_host(unlabeled.x), x]).reshape(90, -1)
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(train[0].reshape(90, -1), axis=0))


def test_without_a_number_all_images_are_labelled(tmp_path, monkeypatch):
    monkeypatch.setattr(shared, "fit", lambda *args, **given: args)
    scale = dataclasses.replace(mnist_convnet.SCALES["quick"], images=None, tested=None)
    train, test = mnist_convnet.COMPARISON.load(scale)
    _, _, (x, _) = mnist_convnet.COMPARISON.train_one(scale, train, test, options(tmp_path), "TONGA", 0)
    assert len(x) == 90 and len(test[0]) == 30


def test_methods_are_the_papers():
    """Sections 8.6 and 8.7: rates, dampings, which of them adapt; the schedule."""
    x = np.zeros((800, 28, 28, 1), "float32")
    for experiment, expected in (
        (mnist_convnet, [(0.5, 5.0), (1.0, 5.0), (1.0, 0.1)]),
        (unlabeled_convnet, [(1.0, 8.0), (1.0, 8.0)]),
    ):
        scale = experiment.SCALES["full"]
        assert (scale.updates, scale.constant) == (2000, 200)
        made = [shared.optimizer(name, experiment.PARAMETERS[name], scale, x) for name in experiment.METHODS]
        assert [(each.lr, each.damping.lam) for each in made] == [
            (InverseTime(lr, decay=0.05, after=200), lam) for lr, lam in expected
        ]
        for each in made:
            if isinstance(each, TONGA):
                assert each.metric == "empirical" and isinstance(each.solver, SampleSpace)
                assert isinstance(each.damping, FixedDamping)
            else:
                assert isinstance(each.damping, LevenbergMarquardt) and each.damping.reduction == "linear"
                assert each.metric == "exact" and each.warm_start == 0 and each.solver.maxiter == 15
    full = mnist_convnet.SCALES["full"]
    assert (full.batch, full.images, full.widths) == (10_000, None, (32, 64, 750))
    full = unlabeled_convnet.SCALES["full"]
    assert (full.batch, full.widths) == (960, (300, 2048, 1024))
    assert shared.source("KL, unlabeled", 960, x).size == 480


def record_of(experiment, numbers):
    """A record whose runs end with these {method: [(train, test in percent) of a seed]}."""
    runs = {
        name: {
            str(seed): {"curves": {"update": [0, 9], "loss": [2.3, train], "test_error": [0.9, test / 100]}}
            for seed, (train, test) in enumerate(pairs)
        }
        for name, pairs in numbers.items()
    }
    return {"settings": {"updates": 9}, "results": {"complete": True, "runs": runs}}


@BOTH
def test_claims_hold_in_the_papers_own_table(experiment):
    record = record_of(experiment, {name: [pair] for name, pair in experiment.PAPERS_TABLE.items()})
    assert all(finding["held"] for finding in experiment.findings(record))


def test_findings_are_counted_seed_by_seed():
    numbers = {"KL, unlabeled": [(0.1, 10.0), (0.1, 14.0)], "KL, same batch": [(0.2, 13.0), (0.3, 13.0)]}
    test, train = unlabeled_convnet.findings(record_of(unlabeled_convnet, numbers))
    assert not test["held"] and test["numbers"] == "12 % (KL, unlabeled), 13 % (KL, same batch), in 1 of 2 seeds"
    assert train["held"] and train["numbers"] == "0.1 (KL, unlabeled), 0.25 (KL, same batch), in 2 of 2 seeds"
    rows = unlabeled_convnet.COMPARISON.rows(record_of(unlabeled_convnet, numbers))
    close(rows["KL, unlabeled"]["test"], [10.0, 14.0])
