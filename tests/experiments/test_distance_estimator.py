"""distance-estimator: a quick run on noise, its numbers against a loop, and the claims on tables with known answers."""

import dataclasses

import numpy as np
import pytest

from minigrad.experiments import Options
from minigrad.experiments import distance_estimator as experiment
from minigrad.function_space import estimate
from minigrad.training import records
from tests.experiments.noise import instead_of_mnist
from tests.helpers import close, dev


@pytest.fixture
def options(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    instead_of_mnist(monkeypatch)
    quick = dataclasses.replace(experiment.SCALES["quick"], images=80, measured=60, epochs=3, shown=(1, 3), points=2)
    monkeypatch.setitem(experiment.SCALES, "quick", quick)
    monkeypatch.setattr(experiment, "DRAWS", 50)
    return Options(tmp_path, "quick", seeds=2, progress=False)


def test_run_and_plot(options):
    record = experiment.run(options)
    loaded = records.load(options.out / "record.json", experiment.NAME)
    results = loaded["results"]
    assert results == record["results"] and results["complete"]
    assert loaded["settings"]["counts"] == [10, 20, 50]
    for seed in (0, 1):
        tables, pairs = results[f"seed {seed}"]["tables"], results[f"seed {seed}"]["pairs"]
        assert tables["update"]["epoch"] == [0.5, 1, 1.5, 2, 2.5, 3] and tables["epoch"]["epoch"] == [1, 2, 3]
        for distance, rows in {"update": (1, 5), "epoch": (0, 2), "start": (1, 5)}.items():
            for row, pair in zip(rows, pairs[distance], strict=True):  # the pairs are those of the tables
                assert pair["mean_square"] ** 0.5 == pytest.approx(tables[distance]["function"][row], rel=1e-3)
                assert pair["deviation"] == pytest.approx(tables[distance]["deviation"][row], rel=1e-3)
                assert pair["samples"] == 60 and len(pair["running"]) == len(pair["coverage"]) == 3
        assert pairs["epoch"][0] | {"running": 0, "coverage": 0} == pairs["start"][0] | {"running": 0, "coverage": 0}
    (path,) = experiment.plot(loaded, options.out)
    assert path.stat().st_size > 10_000
    loaded["results"] = {"complete": False}
    assert experiment.caption(loaded).endswith(": unfinished.") and experiment.plot(loaded, options.out)
    assert experiment.run(dataclasses.replace(options, resume=True))["results"] == results


def test_pair():
    f = np.random.default_rng(0).standard_normal((4000, 2))
    found = experiment.pair(dev(f), dev(0 * f), (5, 100, 4000), np.random.default_rng(1))
    whole = estimate(dev(f), dev(0 * f))
    assert (found["mean_square"], found["deviation"]) == (whole.mean_square, whole.deviation)
    assert found["running"][-1] == pytest.approx(whole.root_mean_square, rel=1e-3)
    assert found["running"][0] != pytest.approx(whole.root_mean_square, rel=1e-3)
    assert all(0.9 < share < 0.99 for share in found["coverage"])


TABLE = {"epoch": [1, 2, 3], "function": [0.1, 0.2, 0.4], "deviation": [0.02, 0.08, 0.32]}  # sd = 2 D2


def test_samples_for_the_median_measurement():
    close(experiment.spread(TABLE), [2, 2, 2])
    assert experiment.samples_for(TABLE, 0.05) == np.ceil((1.959964 * 2 / 0.1) ** 2)
    assert experiment.samples_for(TABLE, 0.05, root=False) == np.ceil((1.959964 * 2 / 0.05) ** 2)


def test_slope():
    assert experiment.slope(TABLE) == pytest.approx(1)
    assert experiment.slope(TABLE | {"deviation": [0.1, 0.2, 0.4]}) == pytest.approx(0.5)


def held(update, epoch, start, coverage=0.95):
    pairs = {distance: [{"coverage": [coverage]}] for distance in ("update", "epoch", "start")}
    run = {"tables": {"update": update, "epoch": epoch, "start": start}, "pairs": pairs}
    record = {"seeds": [0], "settings": {"counts": [100]}, "results": {"seed 0": run}}
    return [finding["held"] for finding in experiment.findings(record)]


def scaled(*spreads):
    """A table of these sd / D2."""
    squares = np.array(TABLE["function"]) ** 2
    return TABLE | {"deviation": list(np.array(spreads) * squares)}


def test_findings():
    """few hundred, near 1,000 between epochs, proportional, early from the start, 95 %."""
    assert held(scaled(1, 1, 1), scaled(1.5, 1.5, 1.5), scaled(1, 0.7, 0.5)) == [True] * 5
    assert held(scaled(1, 3, 9), scaled(5, 5, 5), scaled(0.5, 0.7, 1), coverage=0.8) == [False] * 5
