"""Figure 1 of Pascanu & Bengio: the net's geometry by hand, the paper's steps in closed form, the statements."""

import dataclasses

import numpy as np
import pytest

from minigrad.experiments import Options
from minigrad.experiments import one_unit_autoencoder as experiment
from minigrad.training import records
from tests.helpers import close, dev, host

X = np.linspace(-0.5, 0.5, 11)
THETA = np.array([-1.3, 0.7])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    monkeypatch.setitem(experiment.SCALES, "quick", experiment.Scale(20, 1))
    monkeypatch.setattr(experiment, "STEPS", 8)


def by_hand(w, b):
    """(error, gradient, Hessian, G, U) of mean (x - w s(wx + b) + b)^2, differentiated on paper."""
    s = 1 / (1 + np.exp(-(w * X + b)))
    s1, s2 = s * (1 - s), s * (1 - s) * (1 - 2 * s)
    e = w * s - b - X
    J = np.stack([s + w * s1 * X, w * s1 - 1], axis=1)
    second = np.array([[2 * s1 * X + w * s2 * X**2, s1 + w * s2 * X], [s1 + w * s2 * X, w * s2]])
    G = 2 * J.T @ J / len(X)
    rows = 2 * e[:, None] * J
    return (e**2).mean(), rows.mean(axis=0), G + 2 * (second * e).mean(axis=2), G, rows.T @ rows / len(X)


def test_error_is_the_papers():
    close(experiment.objective().value(dev(THETA), experiment.batch()), by_hand(*THETA)[0])


def test_steps_are_the_papers():
    """Section 8.4: lr 0.1, 1, 0.5, 1; damping none, I, 0.01 I, I."""
    _, g, H, G, U = by_hand(*THETA)
    I = np.eye(2)
    expected = {
        "SGD": -0.1 * g,
        "Newton": -np.linalg.solve(H + I, g),
        "natural gradient": -0.5 * np.linalg.solve(G + 0.01 * I, g),
        "TONGA": -np.linalg.solve(U + I, g),
    }
    assert set(expected) == set(experiment.METHODS)
    for name, d in expected.items():
        close(experiment.step(experiment.METHODS[name], dev(THETA)), d, 1e-9)


def test_kl_is_that_of_the_gaussian():
    """beta^2 = 1/2: KL = mean (y - y')^2, whose second-order term is d'Gd / 2."""
    d = np.array([1e-4, -2e-4])
    close(experiment.divergence(THETA, d), 0.5 * d @ by_hand(*THETA)[3] @ d, 1e-3)


def test_drawn_surfaces_are_error_and_kl():
    w, b = THETA
    y = experiment.outputs([0.2, w], [b])
    close(experiment.squared(y - X)[1, 0], by_hand(*THETA)[0])
    close(experiment.squared(y[1, 0] - y[0, 0]), experiment.divergence(THETA, [0.2 - w, 0.0]))


def test_iteration_has_the_eigenvalues_of_linear_theory():
    minima = experiment.minima()
    assert minima["A"]["error"] < minima["B"]["error"] < minima["saddle"]["error"]
    assert minima["A"]["theta"][0] < 0 < minima["B"]["theta"][0]
    w, b = host(dev(np.array(minima["A"]["theta"])))
    _, g, H, G, U = by_hand(w, b)
    assert np.abs(g).max() < 1e-9
    metrics = {"SGD": (0.1, np.eye(2)), "TONGA": (1.0, U + np.eye(2)), "natural gradient": (0.5, G + 0.01 * np.eye(2))}
    found = experiment.stability(minima)["A"]["methods"]
    for name, (lr, M) in metrics.items():
        e = np.linalg.eigvals(np.linalg.solve(M, H)).real
        close(found[name]["radius"], np.abs(1 - lr * e).max(), 1e-5)
        close(found[name]["largest lr"], 2 / e.max(), 1e-5)


def test_surface_of_the_other_sign_is_mirrored():
    theta = np.array([1.7, -0.4])
    usual = experiment.objective(+1).value(dev(theta * [-1, 1]), experiment.batch())
    close(experiment.objective(-1).value(dev(theta), experiment.batch()), usual, 1e-12)
    assert "mirrored in w" in experiment.mirrored()


def test_run_resumes_and_plots(tmp_path):
    options = Options(tmp_path, "quick", progress=False)
    record = experiment.run(options)
    assert record["results"]["complete"]
    loaded = records.load(tmp_path / "record.json", experiment.NAME)
    assert np.shape(loaded["results"]["paths"]["3"]["TONGA"]["w"]) == (9,)
    (path,) = experiment.plot(loaded, tmp_path)
    assert path.stat().st_size > 10_000
    again = experiment.run(dataclasses.replace(options, resume=True))
    assert again == loaded
    with pytest.raises(ValueError, match="nothing here is random"):
        experiment.run(dataclasses.replace(options, seeds=2))
