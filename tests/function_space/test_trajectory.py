"""Paths: lengths and distances by hand, and what the recorder writes against a run that is kept whole."""

from types import SimpleNamespace

import numpy as np
import pytest

from minigrad import fit
from minigrad.function_space import Recorder, distances, estimate, mean_square, parameter_square, travelled
from minigrad.losses import Categorical, Gaussian
from minigrad.optimizers import SGD
from tests.helpers import close, dev, host
from tests.optimizers.problems import problem


def test_parameter_square():
    theta, phi = [1.0, -2.0, 3.0], [0.5, 2.0, 3.0]
    assert parameter_square(dev(theta), dev(phi)) == pytest.approx(0.25 + 16.0, rel=1e-15)
    with pytest.raises(ValueError, match=r"one shape, got \(3,\) and \(2,\)"):
        parameter_square(dev(theta), dev(phi[:2]))


def test_travelled():
    line = [dev([float(t), 0.0]) for t in range(4)]
    assert travelled(line, parameter_square) == [0, 1, 2, 3]
    outputs = [dev([[0.0], [0.0]]), dev([[2.0], [0.0]]), dev([[2.0], [1.0]])]
    assert travelled(iter(outputs)) == [0, 2.0, 2.5]  # 1/N sum of squares
    assert travelled(line[:1], parameter_square) == [0]


def test_a_random_walk_travels_as_far_in_each_update():
    walk = np.cumsum(np.random.default_rng(0).standard_normal((2000, 50)), axis=0)
    found = travelled([dev(point) for point in walk], parameter_square)
    assert found[-1] / 1999 == pytest.approx(50, rel=0.02)
    assert found[1000] / found[-1] == pytest.approx(0.5, abs=0.02)


def test_distances(device):
    y = np.random.default_rng(0).standard_normal((4, 5, 3))
    by_hand = [[np.sqrt(((a - b) ** 2).sum() / 5) for b in y] for a in y]
    close(distances([dev(point) for point in y]), np.array(by_hand), rtol=1e-14)
    theta = y.reshape(4, 15)
    by_hand = [[np.sqrt(((a - b) ** 2).sum()) for b in theta] for a in theta]
    found = distances([dev(point) for point in theta], parameter_square)
    close(found, np.array(by_hand), rtol=1e-14)


def test_distances_keep_the_digits_of_small_ones():
    theta = 100 + np.random.default_rng(0).standard_normal(1000).astype("float32")
    near = theta.copy()
    near[0] += np.float32(2**-10)
    D = distances([dev(theta), dev(near)], parameter_square)
    exact = float(near[0]) - float(theta[0])
    assert D.dtype == "float64" and host(D)[0, 1] == exact > 0 and host(D)[1, 0] == exact


# --- the recorder ------------------------------------------------------------------------------------------


def recorded(updates=7, epoch=3, loss=None, **options):
    """(recorder, every theta from 0 on, outputs) of a short run."""
    objective, theta, batch = problem(loss or Categorical())
    outputs = lambda theta: objective.predict(theta, batch[0])
    path = [host(theta)]
    recorder = Recorder(outputs, theta, epoch, **options)
    fit(objective, SGD(0.5, momentum=0.5), batch, theta=theta, updates=updates, batch_size=10, progress=False,
        callbacks=(recorder, lambda history: path.append(host(history.theta))))  # fmt: skip
    return recorder, path, outputs


CASES = {  # every: updates measured by scale, and from where
    1: {
        "update": [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5), (7, 6)],
        "epoch": [(3, 0), (6, 3)],
        "start": [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0)],
    },
    2: {
        "update": [(2, 1), (3, 2), (4, 3), (6, 5)],
        "epoch": [(3, 0), (6, 3)],
        "start": [(2, 0), (3, 0), (4, 0), (6, 0)],
    },
    5: {
        "update": [(3, 2), (5, 4), (6, 5)],
        "epoch": [(3, 0), (6, 3)],
        "start": [(3, 0), (5, 0), (6, 0)],
    },
}  # fmt: skip


@pytest.mark.parametrize("loss", [Categorical(), Gaussian()], ids=["softmax", "linear"])
@pytest.mark.parametrize("every", CASES)
def test_recorder_measures_updates_epochs_and_the_way_from_the_start(every, loss, device):
    recorder, path, outputs = recorded(every=every, loss=loss)
    for scale, pairs in CASES[every].items():
        table = recorder.tables[scale]
        assert table["update"] == [now for now, _ in pairs]
        found = [estimate(outputs(dev(path[now])), outputs(dev(path[before]))) for now, before in pairs]
        close(table["parameters"], [np.linalg.norm(path[now] - path[before]) for now, before in pairs])
        close(table["function"], [each.root_mean_square for each in found])
        close(table["deviation"], [each.deviation for each in found])
    assert recorder.snapshots == {"update": [], "outputs": [], "theta": []}


def test_an_epoch_of_one_update():
    recorder, _, _ = recorded(epoch=1)
    assert recorder.tables["epoch"] == recorder.tables["update"]


def test_snapshots_are_kept_where_asked_for():
    recorder, path, outputs = recorded(every=2, snapshots=lambda update: update in (0, 1, 5, 6))
    kept = recorder.snapshots
    assert kept["update"] == [0, 1, 5, 6]
    for update, y, theta in zip(kept["update"], kept["outputs"], kept["theta"], strict=True):
        close(theta, path[update], rtol=0)
        close(y, outputs(dev(path[update])), rtol=0)
    plain, _, _ = recorded(every=2)
    assert recorder.tables == plain.tables  # whatever else is kept


def test_travelled_is_the_sum_of_the_recorder_s_updates():
    recorder, path, outputs = recorded(snapshots=lambda update: True)
    squares = np.square(recorder.tables["update"]["function"])
    close(travelled(recorder.snapshots["outputs"]), [0, *np.cumsum(squares)])
    squares = np.square(recorder.tables["update"]["parameters"])
    close(travelled(recorder.snapshots["theta"], parameter_square), [0, *np.cumsum(squares)])


def test_recorder_asks_for_outputs_only_where_it_measures():
    asked = []
    recorder = Recorder(lambda theta: asked.append(theta) or dev([[1.0], [0.0]]), dev([0.0]), 100, every=10)
    for update in range(1, 31):
        recorder(SimpleNamespace(update=update, theta=dev([float(update)])))
    assert [host(theta)[0] for theta in asked] == [0, 9, 10, 19, 20, 29, 30]


def test_recorder_refuses_a_run_that_it_did_not_see_from_its_start():
    recorder = Recorder(lambda theta: dev([[0.0], [0.0]]), dev([0.0]), 10)
    with pytest.raises(ValueError, match="expected update 1, got 5"):
        recorder(SimpleNamespace(update=5, theta=dev([0.0])))


@pytest.mark.parametrize("options", [{"epoch": 0}, {"epoch": 1, "every": 0}])
def test_recorder_refuses_no_updates(options):
    with pytest.raises(ValueError, match="must be at least 1"):
        Recorder(lambda theta: dev([[0.0], [0.0]]), dev([0.0]), **options)


def test_mean_square_is_the_default():
    y = [dev(np.ones((4, 2))), dev(np.zeros((4, 2)))]
    assert travelled(y)[-1] == mean_square(*y) == 2
