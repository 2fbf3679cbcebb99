"""Condition numbers of Fisher matrices: what is measured, in whose coordinates, and the record and its figure."""

import numpy as np
import pytest

from minigrad.curvature import fisher
from minigrad.experiments import Options
from minigrad.experiments import conditioning as experiment
from minigrad.nets import from_whitened
from minigrad.optimizers.prong import coefficients
from minigrad.training import records
from tests.helpers import close, dev, host

TINY = experiment.Scale(300, 3, 20, 60, 2, (4,), 1)


@pytest.fixture(scope="module")
def task():
    return experiment.Task(TINY)


def start(task, method):
    objective = task.objective(method)
    theta = objective.net.init(np.random.default_rng(0), "float64")
    return objective, theta, task.optimizer(method).init(objective, theta)


def test_small_images_keep_their_mean(rng):
    x = rng.random((3, 784))
    close(experiment.small(x).sum(axis=1) * 9, x.sum(axis=1))
    x = np.zeros((1, 28, 28))
    x[0, 2:5, 5:8] = 1.0  # with the rim, pixels 3..5 and 6..8: one of the small ones
    expected = np.zeros((10, 10))
    expected[1, 2] = 1.0
    close(experiment.small(x.reshape(1, -1)), expected.reshape(1, -1))


def test_ratios_are_of_eigenvalues():
    F = np.diag([8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0])
    found = experiment.ratios(dev(F), 8)
    assert found == pytest.approx({"0.1": 1.0, "0.25": 4.0, "0.5": 16.0, "0.75": 64.0, "mean": 8 * 8 / 15.875})
    assert experiment.ratios(dev(np.diag([1.0, 0.0])), 2)["0.5"] == pytest.approx(1 / experiment.ROUNDING)
    assert experiment.ratios(dev(3 * F), 8) == pytest.approx(found)


def test_each_methods_coordinates(task):
    """B' F B for PRONG, P^1/2 F P^1/2 for RMSProp, K^-1/2 F K^-1/2 with K at the anchor for K-FAC."""
    objective, theta, state = start(task, "PRONG")
    optimizer = task.optimizer("PRONG")
    point, state = optimizer.reparametrized(theta, state, objective, task.sample)
    F = host(task.fisher(objective.net, theta))
    B = host(from_whitened(coefficients(state), theta.size).dense())
    found = experiment.matrices(task, objective, "PRONG", point, state, theta)
    assert list(found) == ["PRONG", "PRONG, in theta", "K-FAC"]
    close(found["PRONG, in theta"], F, rtol=1e-10)
    close(F, fisher(objective, theta, task.probe).dense(), rtol=1e-10)
    close(found["PRONG"], B.T @ F @ B, rtol=1e-9)
    root = host(experiment.kfac_root(task, objective, theta))
    close(found["K-FAC"], root @ F @ root, rtol=1e-9)
    for name, where in objective.layout.slices.items():
        factors = {f.name: f for f in experiment.kronecker_factors(objective, theta, task.sample)}[name]
        A, S = host(factors.A), host(factors.S)
        K = np.kron(A, S) + experiment.EPSILON * np.trace(S) / len(S) * np.eye(A.shape[0] * len(S))
        close(root[where, where] @ K @ root[where, where], np.eye(len(K)), rtol=1e-8)

    objective, theta, state = start(task, "RMSProp")
    squares = np.linspace(1.0, 2.0, theta.size) ** 4
    found = experiment.matrices(task, objective, "RMSProp", theta, state | {"squares": dev(squares)}, theta)
    close(found["RMSProp, own metric"], F / np.sqrt(np.outer(squares, squares)) ** 0.5, rtol=1e-6)

    objective, theta, state = start(task, "batch norm")
    (found,) = experiment.matrices(task, objective, "batch norm", theta, state, theta).values()
    assert found.shape == (theta.size,) * 2 and theta.size == F.shape[0] + 2 * 4 * 3
    assert experiment.plain_size(objective.layout) == F.shape[0]
    assert experiment.plain_size(objective.layout, experiment.MIDDLE) == 2 * 4 * 3


def test_pictures_survive_their_encoding(rng):
    F = rng.standard_normal((5, 5)) * 10.0 ** rng.integers(-2, 1, (5, 5))
    F[0, 0] = 0.0
    picture = experiment.encoded(F)
    expected = np.log10(np.maximum(np.abs(F), 1e-300) / np.abs(F).max())
    close(experiment.decoded(picture), np.maximum(expected, -3.0), rtol=0, atol=0.006)
    assert picture["largest"] == np.abs(F).max()


def test_run_resumes_and_plots(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    monkeypatch.setitem(experiment.SCALES, "quick", TINY)
    options = Options(tmp_path, "quick", progress=False)
    record = experiment.run(options)
    results = record["results"]
    assert results["complete"] and record["seeds"] == [0]
    assert {len(results[f"{m}, seed 0"][m]["whole"]["0.5"]) for m in experiment.RATES} == {2}
    assert results["SGD, seed 0"]["points"] == [0, 4] and len(results["SGD, seed 0"]["loss"]) == 2
    table = results["table"]
    assert table["SGD"]["whole"]["mean"]["first"] == 1.0
    assert table["PRONG, in theta"]["middle"]["0.1"]["first"] == pytest.approx(1.0)
    kfac, sgd = results["PRONG, seed 0"]["K-FAC"], results["SGD, seed 0"]["SGD"]
    expected = kfac["whole"]["0.5"][-1] / sgd["whole"]["0.5"][0]
    assert table["K-FAC"]["whole"]["0.5"]["last"] == pytest.approx(expected)
    assert table["PRONG"]["whole"]["0.1"]["first"] < 0.5
    loaded = records.load(tmp_path / "record.json", experiment.NAME)
    (path,) = experiment.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    assert "the paper: less than 5 %" in experiment.caption(loaded)
    loaded["results"] = {"complete": False}
    assert experiment.caption(loaded).endswith(": unfinished.") and experiment.plot(loaded, tmp_path)


def test_the_table_is_the_median_of_seeds_each_over_its_own_start():
    """Three seeds that start at 1, 2, 4 and end at 1/2, 1/2 and 4 times that."""
    parts = ("whole", "middle")
    kinds = ("0.1", "0.25", "0.5", "0.75", "mean")
    same = lambda numbers: {part: {kind: numbers for kind in kinds} for part in parts}
    results = {}
    for seed, (start, factor) in enumerate([(1.0, 0.5), (2.0, 0.5), (4.0, 4.0)]):
        for curve in experiment.CURVES:
            owner = results.setdefault(f"{experiment.owner(curve)}, seed {seed}", {})
            owner[curve] = same([start, factor * start])
    assert {experiment.owner(curve) for curve in experiment.CURVES} == set(experiment.RATES)
    for row in experiment.table(results, [0, 1, 2]).values():
        assert row["middle"]["0.25"] == row["whole"]["mean"] == {"first": 1.0, "last": 0.5}


def test_kfacs_factors_are_as_old_as_prongs(task, monkeypatch):
    """At update 4 with T = 2, B is that of update 2; so is the theta at which K is measured."""
    seen, anchors = {}, []

    def matrices(task, objective, method, point, state, anchor):
        anchors.append(host(anchor))
        return {}

    def noting(objective, optimizer, data, *, callbacks, **options):
        note = lambda history: seen.update({history.update: host(history.theta)})
        return fit(objective, optimizer, data, callbacks=(*callbacks, note), **options)

    fit = experiment.fit
    monkeypatch.setattr(experiment, "matrices", matrices)
    monkeypatch.setattr(experiment, "fit", noting)
    experiment.path(task, "PRONG", 0)
    start = task.objective("PRONG").net.init(np.random.default_rng(0), "float64")
    close(anchors[0], start, rtol=0)
    close(anchors[1], seen[2], rtol=0)
    assert len(anchors) == 2 and not np.allclose(seen[2], seen[4])
