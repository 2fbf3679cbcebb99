"""The stopwatch: whose time it takes, and that nobody else notices it."""

import pytest

from minigrad.optimizers import SGD, stopwatch
from minigrad.optimizers.phases import phase
from tests.optimizers.problems import LOSSES, problem, take


@pytest.fixture
def clock(monkeypatch):
    """Time that passes by `clock.passes(seconds)` alone; `clock.events` tells what was asked of clock and device."""

    class Clock:
        now, events = 100.0, []

        def passes(self, seconds):
            self.now += seconds

        def perf_counter(self):
            self.events.append("read")
            return self.now

    clock = Clock()
    clock.events = []
    monkeypatch.setattr("minigrad.optimizers.phases.sync", lambda: clock.events.append("sync"))
    return clock


def test_phases_add_up_and_what_is_in_none_does_not_count(clock):
    with stopwatch(clock.perf_counter) as seconds:
        for _ in range(2):
            with phase("gradient"):
                clock.passes(3.0)
            clock.passes(100.0)
            with phase("inversion"):
                clock.passes(0.5)
    with phase("gradient"):
        clock.passes(7.0)
    assert seconds == {"gradient": 6.0, "inversion": 1.0}


def test_the_device_is_waited_for_before_each_reading_and_nothing_is_read_without_a_watch(clock):
    with phase("gradient"):
        pass
    assert clock.events == []
    with stopwatch(clock.perf_counter), phase("gradient"):
        pass
    assert clock.events == ["sync", "read", "sync", "read"]


def test_an_inner_watch_has_its_own_seconds_and_gives_back_the_outer(clock):
    with stopwatch(clock.perf_counter) as outer:
        with stopwatch(clock.perf_counter) as inner, phase("a"):
            clock.passes(1.0)
        with phase("b"):
            clock.passes(2.0)
    assert inner == {"a": 1.0} and outer == {"b": 2.0}


def test_a_phase_that_fails_is_not_counted_and_the_watch_is_put_away(clock):
    with pytest.raises(ArithmeticError), stopwatch(clock.perf_counter) as seconds, phase("inversion"):
        raise ArithmeticError
    with phase("inversion"):
        pass
    assert seconds == {} and clock.events == ["sync", "read"]


def test_first_order_methods_name_their_gradient():
    objective, theta, batch = problem(LOSSES[0])
    with stopwatch() as seconds:
        take(SGD(0.1), objective, theta, batch)
    assert list(seconds) == ["gradient"] and seconds["gradient"] > 0
