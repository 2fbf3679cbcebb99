"""Learning-rate schedules: their formulas, and how an optimizer carries their memory."""

import math

import numpy as np
import pytest

from minigrad.optimizers import SGD, Adam, Constant, InverseTime, Steps, Waterfall
from minigrad.optimizers.schedules import as_schedule
from tests.helpers import close, dev
from tests.optimizers.problems import Slope, run

NAN = float("nan")


def rates(schedule, updates):
    return [schedule.rate({"update": update} | schedule.init()) for update in updates]


def test_constant():
    assert rates(Constant(0.3), (0, 10, 1000)) == [0.3] * 3


def test_inverse_time_halves_after_1_over_decay_updates():
    assert rates(InverseTime(0.8, decay=0.01), (0, 100, 300)) == pytest.approx([0.8, 0.4, 0.2], rel=1e-15)


def test_inverse_time_may_begin_later():
    """Pascanu & Bengio, section 8.6: constant for 200 updates, halved by the 20 after them."""
    schedule = InverseTime(1.0, decay=1 / 20, after=200)
    assert rates(schedule, (0, 200, 201, 220, 2000)) == pytest.approx([1, 1, 20 / 21, 1 / 2, 1 / 91], rel=1e-15)


def test_steps_multiply_once_their_updates_are_done():
    schedule = Steps(0.8, at=(3, 5), factor=0.5)
    assert rates(schedule, range(7)) == [0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2]
    assert Steps(0.8, at=[3, 5], factor=0.5) == schedule
    assert rates(Steps(0.8, at=2), (1, 2)) == pytest.approx([0.8, 0.08])


def watch(schedule, losses):
    """The rate after each of the validation losses."""
    state, found = {"update": 0, **schedule.init()}, []
    for loss in losses:
        state = schedule.observe(state, loss)
        found.append(schedule.rate(state))
    return found


def test_waterfall_divides_by_10_when_validation_stalls():
    losses = [5.0, 4.0, 4.5, 4.0, 3.0, 3.1, 3.2, 3.3, 3.4, 3.5, 3.6]
    expected = [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4]
    assert watch(Waterfall(1.0, patience=2), losses) == pytest.approx(expected, rel=1e-12)


def test_waterfall_starts_to_count_anew_at_each_best_loss_and_each_drop():
    assert watch(Waterfall(1.0, factor=0.5, patience=3), [2, 3, 3, 1, 3, 3, 3, 3, 3, 3]) == [
        1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25,
    ]  # fmt: skip


def test_waterfall_counts_nan_as_stalled_and_never_as_best():
    schedule = Waterfall(1.0, patience=2)
    assert watch(schedule, [NAN, NAN, 3.0, NAN, 2.9, NAN, math.inf]) == pytest.approx([1] + [0.1] * 5 + [0.01])
    state = schedule.observe(schedule.init(), NAN)
    assert state["best"] == math.inf


def test_only_waterfall_observes_and_no_schedule_changes_the_state_it_is_given():
    for schedule in (Constant(0.1), InverseTime(0.1, 0.1), Steps(0.1, (2,)), Waterfall(0.1, patience=1)):
        state = {"update": 4, **schedule.init()}
        before = dict(state)
        after = schedule.observe(schedule.observe(state, 1.0), 2.0)
        assert state == before
        assert (after != before) == isinstance(schedule, Waterfall)


@pytest.mark.parametrize("schedule", [Constant(0.5), InverseTime(0.5, 1.0), Steps(0.5, (1,)), Waterfall(0.5)])
def test_a_schedule_gives_python_floats_even_from_numpy_scalars(schedule):
    lr = as_schedule(type(schedule)(np.float64(0.5), *([1.0] if isinstance(schedule, InverseTime) else []),
                                    *([(1,)] if isinstance(schedule, Steps) else [])))  # fmt: skip
    assert type(lr.rate({"update": 3, **lr.init()})) is float


def test_an_optimizer_steps_with_the_rate_it_logs():
    g = dev([1.0, -2.0])
    theta, _, logs = run(SGD(InverseTime(0.6, decay=1.0)), Slope(), dev([0.0, 0.0]), [g] * 3)
    assert [log["lr"] for log in logs] == pytest.approx([0.6, 0.3, 0.2])
    close(theta, -(0.6 + 0.3 + 0.2) * np.array([1.0, -2.0]))


def test_an_optimizer_carries_what_waterfall_remembers_through_its_steps():
    optimizer, g = Adam(Waterfall(0.5, patience=1)), dev([1.0, 1.0])
    theta = dev([0.0, 0.0])
    state = optimizer.init(Slope(), theta)
    found = []
    for validation_loss in (2.0, 1.0, 1.0, 0.5, 0.6):
        theta, state, log = optimizer.step(theta, state, Slope(), g)
        state = optimizer.observe(state, validation_loss)
        found.append(log["lr"])
    assert found == pytest.approx([0.5, 0.5, 0.5, 0.05, 0.05])
    assert optimizer.lr.rate(state) == pytest.approx(0.005)
    assert (state["best"], state["drops"], state["update"]) == (0.5, 2, 5)


def test_a_number_is_a_constant_schedule():
    assert as_schedule(0.1) == Constant(0.1)
    assert SGD(0.1) == SGD(Constant(0.1))
    assert as_schedule(Steps(0.1, (3,))) == Steps(0.1, (3,))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: as_schedule(0.0), "lr must be a positive finite number, got 0.0"),
        (lambda: as_schedule("fast"), "lr must be a positive finite number, got 'fast'"),
        (lambda: as_schedule(True), "lr must be a positive finite number, got True"),
        (lambda: SGD(-0.1), "lr must be a positive finite number, got -0.1"),
        (lambda: Adam(NAN), "lr must be a positive finite number, got nan"),
        (lambda: Constant(math.inf), "Constant: lr must be a positive finite number, got inf"),
        (lambda: InverseTime(0.1, decay=-1), "InverseTime: decay must be a positive finite number, got -1"),
        (lambda: InverseTime(0.1, 1, after=-1), "InverseTime: after must be a finite number of at least 0, got -1"),
        (lambda: Steps(0.0, at=(3,)), "Steps: lr must be a positive finite number, got 0.0"),
        (lambda: Steps(0.1, at=(3, 0)), "Steps: at must be a whole number of at least 1, got 0"),
        (lambda: Steps(0.1, at=(3.5,)), "Steps: at must be a whole number of at least 1, got 3.5"),
        (lambda: Steps(0.1, at="3"), "Steps: at must be a whole number of at least 1, got '3'"),
        (lambda: Steps(0.1, at=(3,), factor=0), "Steps: factor must be a positive finite number, got 0"),
        (lambda: Waterfall(0.0), "Waterfall: lr must be a positive finite number, got 0.0"),
        (lambda: Waterfall(0.1, factor=1.0), r"Waterfall: factor must be a number in \(0, 1\), got 1.0"),
        (lambda: Waterfall(0.1, factor=0.0), r"Waterfall: factor must be a number in \(0, 1\), got 0.0"),
        (lambda: Waterfall(0.1, patience=0), "Waterfall: patience must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_schedules(make, message):
    with pytest.raises(ValueError, match=message):
        make()
