"""Invariance: the maps, their Jacobians, and which method keeps its path under which of them."""

import numpy as np
import pytest

from minigrad.autodiff import linearize
from minigrad.experiments import Options
from minigrad.experiments import reparametrization as experiment
from minigrad.training import records
from tests.helpers import close, dev


@pytest.fixture(scope="module")
def found():
    """Deviations of one seed at three steps."""
    return experiment.deviations(1, [0.25, 0.125, 0.0625])


@pytest.mark.parametrize("label", experiment.TITLES)
def test_maps(rng, label):
    phi = experiment.maps(rng, 6)[label]
    xi = dev(rng.standard_normal(6))
    theta, J = linearize(phi, xi)
    close(phi.inverse(theta), xi, 1e-12)
    close(phi.jacobian(xi), J.dense(), 1e-12)
    if label == "rotation":
        close(J.T @ (J @ xi), xi, 1e-12)


EXPECTED = {  # rotation, affine, nonlinear
    "SGD": ("any step", "no", "no"),
    "natural gradient": ("any step", "any step", "small steps"),
    "natural gradient, damped": ("any step", "no", "no"),
    "natural gradient, damping carried along": ("any step", "any step", "small steps"),
    "natural gradient, singular": ("any step", "small steps", "small steps"),
    "TONGA": ("any step", "any step", "small steps"),
    "TONGA, damped": ("any step", "no", "no"),
    "Newton": ("any step", "any step", "no"),
}


def test_who_keeps_the_path(found):
    steps = [0.25, 0.125, 0.0625]
    table = experiment.table({"seed 1": found}, steps)
    assert {name: tuple(cell["verdict"] for cell in row.values()) for name, row in table.items()} == EXPECTED
    for name in ("natural gradient", "TONGA"):
        close(table[name]["nonlinear"]["slope"], 1.0, 0.2)  # along the path
        close(table[name]["nonlinear"]["one step slope"], 2.0, 0.2)  # of one step
    close(table["Newton"]["nonlinear"]["one step slope"], 1.0, 0.25)


def test_verdicts():
    steps = [1.0, 0.5, 0.25, 0.125]
    assert experiment.slope(steps, [3.0, 3.0, 0.5, 0.125]) == pytest.approx(2.0)
    assert experiment.slope(steps, [1e-12] * 4) is None
    assert experiment.slope(steps, [1.0, 1.0, np.inf, np.inf]) is None
    assert experiment.verdict(1e-9, None) == "any step"
    assert experiment.verdict(np.inf, None) == "no"
    assert experiment.verdict(1.0, 0.9) == "small steps"
    assert experiment.verdict(1.0, 0.3) == "no"


def test_breakdown_is_nan(rng):
    the, theta, batch, probe = experiment.problem(rng)
    singular = experiment.Method(lambda *_: Zero(theta.shape[0]))
    rows = experiment.outputs(singular, the, None, theta, batch, probe, 1.0)
    assert np.isfinite(rows[0]).all() and np.isnan(rows[1:]).all()


class Zero:
    """A metric of zeros."""

    def __init__(self, n):
        self.n = n

    def dense(self):
        return dev(np.zeros((self.n, self.n)))


def test_run_resumes_and_plots(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    monkeypatch.setitem(experiment.SCALES, "quick", experiment.Scale(1, 2))
    options = Options(tmp_path, "quick", progress=False)
    monkeypatch.setattr(experiment, "table", lambda *_: {})
    record = experiment.run(options)
    assert record["results"]["complete"] and record["seeds"] == [0, 1]
    monkeypatch.undo()
    loaded = records.load(tmp_path / "record.json", experiment.NAME)
    loaded["results"]["table"] = experiment.table(loaded["results"], loaded["settings"]["steps"])
    (path,) = experiment.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    assert "under the affine map natural gradient" in experiment.caption(loaded)
