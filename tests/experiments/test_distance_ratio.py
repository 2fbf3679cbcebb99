"""distance-ratio: a quick run on noise, means by epoch, and the claims on records whose answer is known."""

import dataclasses

import numpy as np
import pytest

from minigrad.experiments import Options
from minigrad.experiments import distance_ratio as experiment
from minigrad.training import records
from tests.experiments.noise import instead_of_mnist
from tests.helpers import close


@pytest.fixture
def options(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    instead_of_mnist(monkeypatch)
    quick = dataclasses.replace(experiment.SCALES["quick"], images=80, measured=20, epochs=3, points=2)
    monkeypatch.setitem(experiment.SCALES, "quick", quick)
    return Options(tmp_path, "quick", seeds=2, progress=False)


def test_run_and_plot(options):
    record = experiment.run(options)
    loaded = records.load(options.out / "record.json", experiment.NAME)
    results = loaded["results"]
    assert results == record["results"] and results["complete"] and len(results) == 5
    for seed in (0, 1):
        for decay in (1e-4, 0.0):
            found = results[experiment.part(decay, seed)]
            assert len(found["test_error"]) == 3 and ("points" in found) == (seed == 0)
            for columns in found["epochs"].values():
                assert len(columns["parameters"]) == len(columns["function"]) == 3
    points = results["decay 0.0001, seed 0"]["points"]
    assert points["update"]["epoch"] == [0.5, 1, 1.5, 2, 2.5, 3] and points["epoch"]["epoch"] == [1, 2, 3]
    close(points["epoch"]["function"], results["decay 0.0001, seed 0"]["epochs"]["epoch"]["function"], rtol=1e-3)
    decayed, free = (results[experiment.part(decay, 0)]["epochs"]["start"]["parameters"] for decay in (1e-4, 0.0))
    assert decayed != free
    one, two = experiment.plot(loaded, options.out)
    assert min(one.stat().st_size, two.stat().st_size) > 10_000
    _, text = experiment.averages(loaded)
    assert "2 seeds" in text and text.count("held)") == 7
    del results["decay 0, seed 1"]
    results["complete"] = False
    assert len(experiment.plot(loaded, options.out)) == 2
    assert all(draw(loaded)[1].endswith(": unfinished.") for draw in (experiment.measurements, experiment.averages))
    loaded["results"] = {"complete": False}
    assert len(experiment.plot(loaded, options.out)) == 2
    assert experiment.run(dataclasses.replace(options, resume=True))["results"] == record["results"]


def test_means_by_epoch():
    table = {"update": [2, 3, 4, 6], "parameters": [1.0, 2.0, 5.0, 7.0], "function": [0.0, 2.0, 4.0, 4.0]}
    found = experiment.by_epoch(table, 3)
    close(found["parameters"], [1.5, 6.0])
    close(found["function"], [1.0, 4.0])


def test_ratio_is_function_over_parameters():
    found = {"epochs": {"update": {"parameters": [2.0, 4.0], "function": [1.0, 1.0]}}}
    close(experiment.ratio(found, "update"), [0.5, 0.25])


def test_plateau():
    assert experiment.plateau([0.5, 0.2, 0.109, 0.15, 0.1, 0.11, 0.1, 0.1, 0.1, 0.1]) == 2
    assert experiment.plateau([0.5, 0.2, 0.112, 0.1, 0.1]) == 3


def test_rank_correlation():
    x = np.array([3.0, 1.0, 4.0, 1.5, 5.0])
    assert experiment.rank_correlation(x, np.exp(x)) == pytest.approx(1)
    assert experiment.rank_correlation(x, -(x**3)) == pytest.approx(-1)
    y = np.array([2.0, 7.0, 1.0, 8.0, 2.5])
    stats = pytest.importorskip("scipy.stats")
    assert experiment.rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)


def run(parameters, function):
    """A run whose three distances have these columns."""
    columns = {"parameters": parameters, "function": function}
    return {
        "test_error": [0.5, 0.1, 0.1, 0.1, 0.1],
        "epochs": {distance: columns for distance in ("update", "epoch", "start")},
    }


def held(with_decay, without):
    record = {"seeds": [0], "results": {"decay 0.0001, seed 0": with_decay, "decay 0, seed 0": without}}
    return [finding["held"] for finding in experiment.findings(record)]


def test_findings():
    """early, steady, moves on, negatively correlated, clean from the start, decay's trends, decay shortens."""
    rising, falling = [1.0, 1.1, 1.2, 1.3, 1.4], [5.0, 1.13, 1.12, 1.11, 1.1]
    assert held(run(rising, falling), run([2.0] * 4 + [3.0], rising)) == [True, True, True, True, False, True, True]
    other = run([1.0, 1.1, 1.2, 1.3, 10.0], [1.0, 2.5, 2.6, 2.7, 30.0])
    assert held(other, run(rising, falling)) == [False, True, True, False, True, False, False]
    unsteady = run([1.0, 1.1, 1.2, 1.3, 1.4], [5.0, 4.0, 3.0, 2.0, 0.1])
    assert held(unsteady, run(rising, rising))[1:3] == [False, False]
    still_falling = run(rising, falling) | {"test_error": [0.5, 0.4, 0.3, 0.2, 0.1]}
    assert held(still_falling, run(rising, rising))[1:3] == [False, False]
