"""An engine that hangs fails its test: no test of searches, its fixtures included, may take longer than PATIENCE."""

import signal

import pytest

PATIENCE = 240  # seconds; on free cores the slowest takes some ten


def _ring(signum, frame):
    raise TimeoutError(f"took longer than {PATIENCE} s")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Around setup, call and teardown, in the main thread; nothing where there is no such alarm (Windows)."""
    if not hasattr(signal, "setitimer"):
        return (yield)
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
