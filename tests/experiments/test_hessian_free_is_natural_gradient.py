"""Section 7 of Pascanu & Bengio: one matrix under two names, one subspace, one path; and where they part."""

import numpy as np
import pytest

from minigrad.experiments import Options
from minigrad.experiments import hessian_free_is_natural_gradient as experiment
from minigrad.training import records
from tests.helpers import close


@pytest.fixture(scope="module")
def found():
    return experiment.one_seed(0, experiment.Scale(8, 4, 1))


@pytest.mark.parametrize("pair", experiment.PAIRS)
def test_matrices_and_early_steps_are_the_same(found, pair):
    assert found["matrices"][pair] < 1e-14
    assert max(found["steps"][pair]) < 1e-12  # 8 iterations: CG has not yet amplified rounding


@pytest.mark.parametrize("name", experiment.PARTINGS)
def test_other_matrices_give_other_steps(found, name):
    assert min(found["partings"][name]) > 1e-2


def test_mismatched_loss_is_differentiated_by_hand_rightly(rng):
    """s'^2 + (y - t) s'' is the second derivative of (sigmoid(a) - t)^2 / 2."""
    a, t, h = rng.standard_normal(5), rng.random(5), 1e-4
    loss = lambda a: 0.5 * (1 / (1 + np.exp(-a)) - t) ** 2
    y = 1 / (1 + np.exp(-a))
    s1, s2 = y * (1 - y), y * (1 - y) * (1 - 2 * y)
    close(s1 * s1 + (y - t) * s2, (loss(a + h) - 2 * loss(a) + loss(a - h)) / h**2, 1e-5)


def test_cut_at_y_under_labels_is_the_empirical_fisher(rng):
    the, theta, batch, _ = experiment.problem("Categorical", rng)
    from minigrad.curvature import fisher, gauss_newton

    close(gauss_newton(the, theta, batch, at="y").dense(), fisher(the, theta, batch, kind="empirical").dense(), 1e-12)


def test_subspace_holds_cgs_iterates_and_better_points(found):
    subspace = found["subspace"]
    assert max(subspace["outside"]) < 1e-12
    assert all(ksd <= cg + 1e-12 for cg, ksd in zip(subspace["CG"], subspace["KSD"]))
    assert max(subspace["KSD"]) < subspace["loss"]


def test_paths_are_one_until_a_step_is_shortened(found):
    paths = found["paths"]
    assert paths["together"] >= 3 and max(paths["apart"][: paths["together"] + 1]) < experiment.SAME


def test_run_and_plot(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    monkeypatch.setitem(experiment.SCALES, "quick", experiment.Scale(4, 2, 1))
    record = experiment.run(Options(tmp_path, "quick", progress=False))
    assert record["results"]["complete"]
    loaded = records.load(tmp_path / "record.json", experiment.NAME)
    (path,) = experiment.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    assert "on one path for 2 of 2 updates" in experiment.caption(loaded)
