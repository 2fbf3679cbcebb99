"""PRONG's epsilon, T and starts: who is whitened when, and the record and its figure."""

from dataclasses import replace

import numpy as np
import pytest

from minigrad.curvature import input_moments
from minigrad.experiments import Options
from minigrad.experiments import prong_sensitivity as experiment
from minigrad.nets import WhitenedNet, to_whitened, whitening
from minigrad.training import records
from tests.helpers import close, host

TINY = replace(experiment.SCALES["quick"], updates=6, images=300, samples=100, interval=3, intervals=(3, None))


@pytest.fixture(scope="module")
def task():
    return experiment.Task(TINY)


def test_weights_drawn_in_whitened_coordinates(task):
    """What is whitened at this theta, in all layers at once, has the drawn weights."""
    objective, x = task.objective, task.sample.astype("float64")
    omega = objective.net.init(np.random.default_rng(0), "float64")
    theta = experiment.drawn_white(objective, omega, x, 0.01)
    moments = input_moments(objective.linearize(theta, x)[1])
    layers = tuple(whitening(m.name, m.span, m.covariance, m.mean, 0.01) for m in moments)
    r = objective.net.apply(theta, x)
    close(WhitenedNet(objective.net, layers).apply(omega, x), r, rtol=1e-8)
    found, expected = (objective.layout.views(v) for v in (to_whitened(layers, theta.size) @ theta, omega))
    for name in objective.layout.names:  # eigenvectors have no sign of their own
        close(np.abs(host(found[name])), np.abs(host(expected[name])), rtol=1e-6)


def test_the_three_starts_differ_in_when_and_what_is_whitened(task, monkeypatch):
    seen = []

    def fit(objective, optimizer, data, *, theta, **options):
        seen.append((optimizer.first, optimizer.interval, optimizer.epsilon, optimizer.lr.lr, host(theta)))
        raise experiment.Diverged("", experiment_history())

    def experiment_history():
        return type("H", (), {"curves": {"update": [0], "error": [1.0]}, "stopped": "diverged"})

    monkeypatch.setattr(experiment, "fit", fit)
    for start in experiment.STARTS:
        found = task.train(0.02, 0.5, 3, start, 0)
    task.train(0.02, 0.5, None, "fan-in, later", 0)
    assert found == {"update": [0], "error": [1.0], "stopped": "diverged"}
    assert [row[:4] for row in seen] == [(0, 3, 0.02, 0.5), (0, 3, 0.02, 0.5), (3, 3, 0.02, 0.5), (6, None, 0.02, 0.5)]
    assert not np.allclose(seen[0][4], seen[1][4])
    close(seen[1][4], seen[2][4], rtol=0)


def test_run_resumes_and_plots(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    monkeypatch.setitem(experiment.SCALES, "quick", TINY)
    options = Options(tmp_path, "quick", progress=False)
    record = experiment.run(options)
    results = record["results"]
    assert results["complete"] and len(results) == 1 + 2 + 6
    assert {len(run["error"]) for run in results.values() if isinstance(run, dict)} == {7}
    assert results["T None, fan-in, later, seed 0"]["error"][0] == results["T None, fan-in, seed 0"]["error"][0]
    loaded = records.load(tmp_path / "record.json", experiment.NAME)
    (path,) = experiment.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    ends, caption = experiment.finals(loaded), experiment.caption(loaded)
    assert f"ε = 0.1: {ends['epsilon 0.1, lr 0.03']:.3g}" in caption
    shown = " / ".join(f"{ends[f'T None, {start}']:.3g}" for start in experiment.STARTS)
    assert f"T = never: {shown} (whitened / fan-in / fan-in, later)" in caption
    loaded["results"]["T 3, fan-in, seed 0"] |= {"stopped": "diverged", "error": [1.0, float("nan")]}
    assert experiment.finals(loaded)["T 3, fan-in"] == np.inf and " / diverged / " in experiment.caption(loaded)
    del loaded["results"]["T 3, fan-in, seed 0"]
    loaded["results"]["complete"] = False
    assert experiment.caption(loaded).endswith(": unfinished.") and experiment.plot(loaded, tmp_path)


def test_what_is_shown_is_as_far_as_every_seed_came():
    found = [{"error": [3.0, 2.0, 1.0], "update": [0, 1, 2]}, {"error": [5.0, 2.0], "update": [0, 1]}]
    errors, updates = experiment.together(found)
    assert errors.tolist() == [4.0, 2.0] and updates == [0, 1]


def test_runs_are_named_once():
    for scale in experiment.SCALES.values():
        settings = {
            "epsilons": scale.epsilons, "learning rates": scale.rates, "interval": scale.interval,
            "intervals": scale.intervals, "epsilon": scale.epsilon, "learning rate": scale.rate,
        }  # fmt: skip
        names = [name for name, _ in experiment.runs(settings)]
        assert len(set(names)) == len(names) == len(scale.epsilons) * len(scale.rates) + 3 * len(scale.intervals)
