"""The loop: what it records, when it stops, what it refuses."""

import math
import os
import signal
import threading

import numpy as np
import pytest

from minigrad import Objective
from minigrad.data import RandomCrops
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import autoencoder
from minigrad.training import Diverged, fit
from tests.helpers import close, dev, host
from tests.training.toys import OfPixels, Stretched, Toy, Watching, data, objective, of_pictures, pictures


def run(**options):
    """A short quiet run of the toy."""
    given = {"objective": objective(), "optimizer": Toy(), "data": data(), "updates": 12, "batch_size": 10,
             "evaluate_every": 5, "progress": False}  # fmt: skip
    return fit(**{**given, **options})


def test_history(device):
    history = run(validation=data(20, seed=1), metrics={"length": lambda theta: float((host(theta) ** 2).sum())})
    assert history.curves["update"] == [0, 5, 10, 12]
    assert history.curves["gradients"] == [0, 10, 20, 24]
    assert set(history.curves) == {
        "update",
        "seconds",
        "gradients",
        "loss",
        "validation_loss",
        "validation_error",
        "length",
    }
    assert history.curves["loss"][-1] < history.curves["loss"][0]
    assert 0 <= history.curves["validation_error"][-1] <= 1
    assert history.steps["lr"][:3] == [0.1] * 3 and len(history.steps["loss"]) == 12
    assert history.stopped == "updates" and not history.interrupted and history.update == 12
    assert 0 < history.curves["seconds"][1] < history.seconds and history.gradients == 24


def test_validation_numbers():
    validation = data(20, seed=1)
    history, the = run(validation=validation), objective()
    assert history.curves["validation_loss"][-1] == the.value(history.theta, validation)
    wrong = np.mean(the.predict(history.theta, validation[0]).argmax(axis=1) != validation[1])
    assert history.curves["validation_error"][-1] == wrong


def test_an_optimizer_in_coordinates_of_its_own():
    """Curves, metrics and theta are the canonical parameters': the same as the toy's own, whose point is theta."""
    options = {"validation": data(20, seed=1), "metrics": {"length": lambda theta: float((host(theta) ** 2).sum())}}
    plain, history = run(**options), run(optimizer=Stretched(), **options)
    assert plain.point is plain.theta
    assert abs(host(history.point) - host(history.theta)).max() > 0.1
    close(history.theta, host(history.point) * history.state["stretch"], rtol=0)
    close(history.theta, plain.theta)
    for name, column in plain.curves.items():
        if name != "seconds":
            close(history.curves[name], column)


class Settling:
    """A net whose settled form adds to its outputs the mean of the inputs that it was settled on."""

    def __init__(self, net, shift=0.0):
        self.net, self.layout, self.init, self.shift = net, net.layout, net.init, shift

    def __repr__(self):
        return f"Settling({self.net}, {self.shift})"

    def apply(self, theta, x):
        return self.net.apply(theta, x) + self.shift

    def settled(self, theta, x):
        return Settling(self.net, x[:, :3].mean(axis=0))


def test_a_net_with_statistics_is_evaluated_settled():
    """With those of the training samples, for training and validation curves alike; the steps see it as it is."""
    net, validation, (x, t) = objective().net, data(20, seed=1), data()
    the = Objective(Settling(net), Categorical())
    history = run(objective=the, validation=validation, train_samples=60)
    settled = Objective(Settling(net, x[:, :3].mean(axis=0)), Categorical())
    assert history.curves["loss"][-1] == pytest.approx(settled.value(history.theta, (dev(x), dev(t))), rel=1e-12)
    assert history.curves["validation_loss"][-1] == pytest.approx(settled.value(history.theta, validation), rel=1e-12)
    wrong = np.mean(settled.predict(history.theta, validation[0]).argmax(axis=1) != validation[1])
    assert history.curves["validation_error"][-1] == wrong
    assert history.losses[0] == pytest.approx(run().losses[0], rel=1e-12)


def test_same_seed_same_bits():
    first, again, other = run(seed=3), run(seed=3), run(seed=4)
    assert host(first.theta).tobytes() == host(again.theta).tobytes() != host(other.theta).tobytes()
    given = run(seed=np.random.default_rng(3))
    assert host(given.theta).tobytes() == host(first.theta).tobytes()


def test_dtype_follows_theta_or_data():
    assert run().theta.dtype == np.float64
    theta = objective().net.init(np.random.default_rng(0), "float32")
    history = run(theta=dev(theta))
    assert history.theta.dtype == np.float32 and history.theta is not theta


def test_autoencoder_targets_are_inputs():
    x = np.random.default_rng(0).random((30, 6))
    the = Objective(autoencoder((6, 4, 2)), Bernoulli())
    history = run(objective=the, data=(x, x), validation=(x, x))
    assert history.curves["validation_loss"][-1] < history.curves["validation_loss"][0]


# --- augmented ------------------------------------------------------------------------------------------

CROPS = RandomCrops((2, 3), flips=True)


def windows(x):
    """The bits of all crops of CROPS: {bits of a crop: number of its image}."""
    return {
        np.ascontiguousarray(image[top : top + 2, left : left + 3][:, ::side]).tobytes(): number
        for number, image in enumerate(x)
        for top in range(3)
        for left in range(2)
        for side in (1, -1)
    }


def test_augmented_batches_and_further_ones_are_crops(device):
    x, t = pictures()
    known, watching = windows(x), Watching()
    history = run(objective=of_pictures(2, 3), optimizer=watching, data=(x, t), augment=CROPS)
    assert {x.shape for x, _ in watching.batches} == {(10, 2, 3, 1)}
    assert {x.shape for x, _ in watching.drawn} == {(10, 2, 3, 1), (3, 2, 3, 1)}
    seen = [[crop.tobytes() for x, _ in parts for crop in host(x)] for parts in (watching.batches, watching.drawn)]
    for x, labels in watching.batches + watching.drawn:
        assert [t[known[crop.tobytes()]] for crop in host(x)] == host(labels).tolist()
    assert {known[crop] for crop in seen[0]} == set(range(60))  # each image once an epoch; two epochs
    assert all(crop in known for crop in seen[1])
    assert len(set(seen[0])) > 90 and len(set(seen[1]) - set(seen[0])) > 60  # most crops are new ones
    assert history.update == 12


def test_curves_of_an_augmented_run_see_central_crops(device):
    pair, validation, the = pictures(), pictures(20, seed=1), of_pictures(2, 3)
    options = {"objective": the, "data": pair, "augment": CROPS}
    history = run(validation=validation, **options)
    middle, held_out = ((dev(x[:, 1:3, 0:3]), dev(t)) for x, t in (pair, validation))
    assert history.curves["loss"][-1] == pytest.approx(the.value(history.theta, middle), rel=1e-12)
    assert history.curves["validation_loss"][-1] == pytest.approx(the.value(history.theta, held_out), rel=1e-12)
    labels = host(the.predict(history.theta, held_out[0]).argmax(axis=1))
    assert history.curves["validation_error"][-1] == np.mean(labels != validation[1])
    again = run(validation=(validation[0][:, 1:3, 0:3].copy(), validation[1]), **options)  # cropped already
    assert again.curves["validation_loss"] == history.curves["validation_loss"]


class Swept(OfPixels):
    """A net that takes its statistics from a pass, and so takes them of crops only."""

    def settled(self, theta, x):
        self.apply(theta, x)
        return self


def test_statistics_are_those_of_central_crops():
    the = Objective(Swept(of_pictures(2, 3).net.net), Categorical())
    assert run(objective=the, data=pictures(), augment=CROPS).update == 12


def test_an_augmented_autoencoder_reconstructs_its_crops():
    (x, _), watching = pictures(30), Watching()
    the = Objective(OfPixels(autoencoder((6, 4, 2)), out=(2, 3, 1)), Gaussian())
    history = run(objective=the, optimizer=watching, data=(x, x), validation=(x, x), augment=CROPS)
    assert all(t is crops and crops.shape[1:] == (2, 3, 1) for crops, t in watching.batches + watching.drawn)
    middle = dev(x[:, 1:3, 0:3])
    assert history.curves["validation_loss"][-1] == pytest.approx(the.value(history.theta, (middle, middle)), rel=1e-12)
    assert history.curves["loss"][-1] == pytest.approx(history.curves["validation_loss"][-1], rel=1e-12)


class Still:
    """Augments, but does not say what curves should see."""

    def __call__(self, x, rng):
        return x


@pytest.mark.parametrize("options, error, message", [
    ({"augment": 24}, TypeError, r"augment\(x, rng\) and augment.central\(x\), such as RandomCrops\(24\), got 24"),
    ({"augment": RandomCrops}, TypeError, "fit: augment must be an object with"),
    ({"augment": Still()}, TypeError, "fit: augment must be an object with"),
    ({"augment": RandomCrops(5)}, ValueError, "data: RandomCrops: crops of 5 x 5 do not fit images of 4 x 4"),
    ({"augment": CROPS, "data": data()}, ValueError, r"data: RandomCrops: x must be images .* got shape \(60, 5\)"),
    ({"augment": CROPS, "validation": data()}, ValueError, r"validation: RandomCrops: x must be images"),
    ({"augment": RandomCrops(4)}, ValueError, r"layer0.*\(1, 16\).*\(7, 8\)"),  # crops that the net does not take
])  # fmt: skip
def test_bad_augment_is_refused_before_training(options, error, message):
    with pytest.raises(error, match=message):
        run(**{"objective": of_pictures(2, 3), "data": pictures(), **options})


def test_time_limit():
    history = run(updates=None, time_limit=0.05)
    assert history.stopped == "time limit" and history.seconds >= 0.05
    assert history.curves["update"][-1] == history.update


def test_callbacks_all_run_and_one_may_stop():
    seen = []
    history = run(callbacks=(lambda h: h.update == 4, lambda h: seen.append(h.update)))
    assert history.stopped == "callback" and seen == [1, 2, 3, 4]


def test_first_interrupt_ends_in_order():
    def press(history):
        if history.update == 7:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    history = run(callbacks=(press,), updates=1000)
    assert history.interrupted and history.update == 7 and history.curves["update"] == [0, 5]
    assert signal.getsignal(signal.SIGINT) is before


def test_the_clock_may_be_another():
    ticks = iter(range(1000))
    history = run(clock=lambda: next(ticks), time_limit=7, updates=None)  # a step begins and ends with a tick
    assert (history.seconds, history.update, history.stopped) == (7, 7, "time limit")


def test_second_interrupt_is_as_ever():
    def press(history):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(callbacks=(press,))


def test_runs_outside_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join()
    assert found[0].update == 12


class Overflow(Toy):
    """Steps that grow a thousandfold."""

    def step(self, theta, state, *rest):
        new, state, log = super().step(theta, state, *rest)
        return new * 1e40, state, log


class NotANumber(Toy):
    """A loss that is not finite from the third update on."""

    def step(self, theta, state, *rest):
        theta, state, log = super().step(theta, state, *rest)
        return theta, state, log | ({"loss": math.nan} if state["count"] > 2 else {})


class Singular(Toy):
    """A method whose matrix loses its definiteness at the third update."""

    def step(self, theta, state, *rest):
        if state["count"] == 2:
            raise ArithmeticError("not positive definite")
        return super().step(theta, state, *rest)


@pytest.mark.parametrize("optimizer, update", [(Overflow(), None), (NotANumber(), 3), (Singular(), 3)])
@pytest.mark.parametrize("evaluate_every", [1, 100])
def test_divergence_keeps_the_record(optimizer, update, evaluate_every, tmp_path):
    path = tmp_path / "run.npz"
    with pytest.raises(
        Diverged, match=r"diverged at update \d+: .*last loss was .*Try a smaller learning rate"
    ) as caught:
        run(optimizer=optimizer, updates=100, evaluate_every=evaluate_every, checkpoint=path, checkpoint_every=1)
    history = caught.value.history
    assert history.stopped == "diverged" and len(history.steps["loss"]) == history.update
    assert np.isfinite(history.steps["loss"]).all()
    if update:
        assert history.update == update - 1
    assert isinstance(caught.value, FloatingPointError)


def test_progress_bar(capsys):
    run(progress="toy problem", updates=3)
    shown = capsys.readouterr().err
    assert "toy problem" in shown and "update 3" in shown and "100%" in shown
    run(progress=True, updates=3)
    assert "Toy" in capsys.readouterr().err
    run(progress=False)
    assert capsys.readouterr().err == ""


x, t = data()
bad_x = x.copy()
bad_x[3, 1] = np.nan
REFUSED = [
    ({"updates": None}, ValueError, "give updates, time_limit"),
    ({"updates": 0}, ValueError, "updates must be a positive whole number, got 0"),
    ({"evaluate_every": 2.5}, ValueError, "evaluate_every must be"),
    ({"time_limit": -1}, ValueError, "time_limit must be a positive"),
    ({"batch_size": 61}, ValueError, r"1\.\.60"),
    ({"seed": "x"}, TypeError, "seed must be"),
    ({"optimizer": Toy}, TypeError, "an object with init and step"),
    ({"optimizer": "adamm"}, ValueError, "unknown optimizer 'adamm'; did you mean 'adam'"),
    ({"optimizer": "adam"}, TypeError, r"the optimizer itself, Adam\(...\), not its name"),
    ({"data": x}, TypeError, "data: data must be a pair"),
    ({"data": (x, None)}, ValueError, r"autoencoder give \(x, x\)"),
    ({"data": (bad_x, t)}, ValueError, "data: x must be finite, got 1 NaN or inf, the first in sample 3"),
    ({"data": (x.astype(int), t)}, TypeError, "x must be floating point, got int64"),
    ({"data": (x.astype(object), t)}, TypeError, "x must be floating point, got object"),
    ({"data": (x[:0], t[:0])}, ValueError, "not empty"),
    ({"data": (x, t + 1)}, ValueError, r"data: Categorical: labels must lie in 0\.\.2 .* got 1\.\.3"),
    ({"data": (x, t.astype(float))}, TypeError, "labels must be integers"),
    ({"data": (x, t[:-1])}, ValueError, "one target for each of the 60 rows"),
    ({"data": (x[:, :4], t)}, ValueError, r"layer0.*\(1, 4\).*\(6, 8\)"),
    ({"validation": (x, t - 1)}, ValueError, "validation: Categorical: labels"),
    ({"validation": (bad_x, t)}, ValueError, "validation: x must be finite"),
    ({"theta": np.zeros(4)}, ValueError, r"theta must have shape \(75,\), got \(4,\)"),
    ({"theta": np.full(75, np.inf)}, ValueError, "theta must be finite"),
    ({"theta": np.zeros(75, int)}, TypeError, "theta must hold floating-point"),
]  # fmt: skip


@pytest.mark.parametrize("options, error, message", REFUSED)
def test_refuses(options, error, message):
    with pytest.raises(error, match=message):
        run(**options)
