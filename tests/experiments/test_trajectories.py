"""trajectories: a quick run on noise, the curves behind the picture, and what the caption says of the claims."""

import dataclasses

import numpy as np
import pytest

from minigrad.experiments import Options
from minigrad.experiments import trajectories as experiment
from minigrad.training import records
from tests.experiments.noise import instead_of_mnist
from tests.helpers import close


@pytest.fixture
def options(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    instead_of_mnist(monkeypatch)
    quick = dataclasses.replace(experiment.SCALES["quick"], images=80, measured=20, epochs=2)
    monkeypatch.setitem(experiment.SCALES, "quick", quick)
    return Options(tmp_path, "quick", progress=False)


def test_run_and_plot(options):
    record = experiment.run(options)
    loaded = records.load(options.out / "record.json", experiment.NAME)
    found = loaded["results"]["paths"]
    assert found == record["results"]["paths"] and loaded["results"]["complete"]
    assert found["update"] == [0, 1, 2, 3, 4, 8] and found["epoch"] == 4
    assert np.shape(found["test_error"]) == (3, 3)
    for space in experiment.SPACES:
        assert np.shape(found[space]["points"]) == (3, 6, 2) and 0 < found[space]["stress"] < 0.5
        assert len(found[space]["between"]) == 6 and found[space]["start"][0] == 0 < found[space]["start"][1]
    (path,) = experiment.plot(loaded, options.out)
    assert path.stat().st_size > 10_000
    text = experiment.caption(loaded)
    assert text.startswith("Paths of 3 seeds") and text.count("held)") == 4
    assert experiment.run(dataclasses.replace(options, resume=True))["results"] == loaded["results"]
    loaded["results"] = {"complete": False}
    assert experiment.caption(loaded).endswith(": unfinished.") and experiment.plot(loaded, options.out)


def test_one_seed_has_no_other(options):
    with pytest.raises(ValueError, match="at least 2 seeds, got 1"):
        experiment.run(dataclasses.replace(options, seeds=1))


def test_curves_are_means_at_equal_points():
    """Two runs of three points on a line: 0, 1, 4 and 1, 3, 9."""
    points = np.array([0.0, 1.0, 4.0, 1.0, 3.0, 9.0])
    found = experiment.curves(np.abs(points[:, None] - points[None]), 2)
    close(found["between"], [1, 2, 5])
    close(found["start"], [0, 1.5, 6])


def findings(function, parameters):
    """Of curves {"between", "start"} of both spaces."""
    paths = {"update": [0, 5, 10], "epoch": 5, "function": function, "parameters": parameters}
    return [finding["held"] for finding in experiment.findings({"results": {"paths": paths}})]


def test_findings():
    """As the paper has it, and as it does not."""
    parameters = {"between": [20.0, 25.0, 30.0], "start": [0.0, 5.0, 10.0]}
    assert findings({"between": [0.01, 0.1, 0.4], "start": [0.0, 0.6, 1.0]}, parameters) == [True] * 4
    near = {"between": [0.2, 0.19, 0.1], "start": [0.0, 0.1, 0.2]}
    assert findings({"between": [0.3, 0.4, 0.3], "start": [0.0, 0.6, 1.0]}, near) == [False] * 4
    early = {"between": [0.01, 0.1, 0.6], "start": [0.0, 0.4, 1.0]}  # half-way is at the end
    assert findings(early, parameters) == [True, False, False, True]
