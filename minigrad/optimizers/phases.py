"""Where the time of an update goes: an optimizer names its phases, whoever wants to know holds a watch.

    with phase("inversion"):            # in an optimizer; does nothing unless a watch runs
        ...
    with stopwatch() as seconds:        # around a step, or a whole run
        theta, state, log = optimizer.step(...)
    seconds                             # {"gradient": 0.021, "statistics": 0.009, "inversion": 0.004}

The seconds stand in no state and no log, for these must not depend on a machine's speed: a resumed run equals an
unbroken one. The methods with layerwise curvature share three names: gradient (loss and gradient), statistics (what is
measured for curvature) and inversion (what is made of it every so often). Phases do not nest.
"""

import contextlib
import time
from contextvars import ContextVar

from ..backend import sync

_watch = ContextVar("watch", default=None)  # the running watch's (clock, {phase: seconds})


@contextlib.contextmanager
def stopwatch(clock=time.perf_counter):
    """Give {phase: seconds}, to which every phase adds the time it takes while the block runs, by this clock."""
    seconds = {}
    token = _watch.set((clock, seconds))
    try:
        yield seconds
    finally:
        _watch.reset(token)


@contextlib.contextmanager
def phase(name):
    """What runs inside belongs to this phase. Under a watch, the device is waited for before and after."""
    if _watch.get() is None:
        yield
        return
    clock, seconds = _watch.get()
    sync()
    begin = clock()
    yield
    sync()
    seconds[name] = seconds.get(name, 0.0) + clock() - begin
