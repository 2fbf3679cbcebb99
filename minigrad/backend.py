"""The one place that knows where arrays live: NumPy on the host, or CuPy on a GPU.

Every other module writes `xp.exp(x)` and never asks which. `use("cupy")` (or the environment variable
`MINIGRAD_BACKEND`) switches the whole process; arrays of the two kinds never mix. The few differences
between the two libraries (host reads, random numbers, scatter-add, synchronisation) are functions here.

On the host two more things live here, because they decide speed and touch no formula: the allocator's thresholds
(page faults of large temporaries otherwise cost as much as the arithmetic; `MINIGRAD_MALLOC=0` leaves the
process alone), and `parallel`, which runs slices of a batch on threads with one BLAS thread each, so that elementwise
work runs in parallel too (`MINIGRAD_THREADS` sets their number).
"""

import contextlib
import ctypes
import difflib
import functools
import itertools
import operator
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

BACKENDS = ("numpy", "cupy")


class _Namespace:
    """`xp`: every attribute is the active array library's; looked up once, then cached."""

    def __getattr__(self, attribute):
        value = getattr(_active["module"], attribute)
        self.__dict__[attribute] = value
        return value

    def __repr__(self):
        return f"<xp: {name()}>"


xp = _Namespace()
_active = {"name": "numpy", "module": np}


def use(backend):
    """Make `backend` ("numpy" or "cupy") the array library of this process.

    Arrays made before the switch stay where they are; make or move parameters and data after it.
    Raises ValueError for an unknown name, ImportError without CuPy, RuntimeError without a GPU.
    """
    check_name("backend", backend, BACKENDS)
    _active.update(name=backend, module=np if backend == "numpy" else _import_cupy())
    xp.__dict__.clear()


def name():
    """The active backend's name."""
    return _active["name"]


def _import_cupy():
    try:
        import cupy
    except ImportError as error:
        raise ImportError(
            "the cupy backend needs CuPy: pip install cupy-cuda13x (CUDA 13) or cupy-cuda12x (CUDA 12)"
        ) from error
    if not cupy.cuda.is_available():
        raise RuntimeError("the cupy backend needs a CUDA GPU; CuPy is installed but finds none")
    return cupy


def check_name(kind, given, known):
    """Raise ValueError unless `given` is one of the names `known`; the message offers the nearest."""
    if given not in known:
        near = difflib.get_close_matches(str(given), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"unknown {kind} {given!r}{hint} Known: {', '.join(known)}")


# --- arrays in, arrays out ------------------------------------------------------------------------------


def asarray(x, dtype=None):
    """`x` as an array of the active backend (copied to the device if need be)."""
    return xp.asarray(x, dtype=dtype)


def is_array(x):
    """Is `x` an array of the active backend?"""
    return isinstance(x, xp.ndarray)


def stack(arrays, axis=0):
    """`xp.stack`, of traced values too: NumPy's function asks them how, CuPy's does not."""
    return (xp if all(map(is_array, arrays)) else np).stack(arrays, axis=axis)


class Counter:
    """A number that only grows; tests read it before and after."""

    def __init__(self):
        self.count = 0

    def add(self):
        """One more."""
        self.count += 1


host_reads = Counter()  # how often device values came to the host: each one waits for the GPU


def to_host(x):
    """`x` as a NumPy array. On a GPU this waits for the device; `host_reads.count` counts the calls."""
    host_reads.add()
    return np.asarray(x) if _active["name"] == "numpy" else _active["module"].asnumpy(x)


def item(x):
    """A one-element array as a Python number: one host read."""
    return to_host(x).item()


def sync():
    """Wait until the device has finished; nothing to wait for on the host. Call it before reading a clock."""
    if _active["name"] == "cupy":
        _active["module"].cuda.get_current_stream().synchronize()


def scatter_add(out, index, values):
    """`out[index] += values`, where repeated indices add up."""
    if _active["name"] == "numpy":
        np.add.at(out, index, values)
    else:
        _active["module"].add.at(out, index, values)


def rng(seed):
    """A random generator of the active backend. Same seed, same numbers on one backend."""
    return xp.random.default_rng(seed)


def uniform(rng, shape, dtype):
    """Uniform numbers in [0, 1) on the active backend; `rng` may be NumPy's generator or the backend's."""
    return asarray(rng.random(shape, dtype=np.dtype(dtype)))


def normal(rng, shape, dtype):
    """Standard normal numbers on the active backend; `rng` may be NumPy's generator or the backend's."""
    return asarray(rng.standard_normal(shape, dtype=np.dtype(dtype)))


# --- slices on threads ----------------------------------------------------------------------------------

WORTH_A_THREAD = 1 << 22  # multiply-adds

_inside = threading.local()  # set on a thread that is already working on a slice


def threads():
    """How many slices run at once: `MINIGRAD_THREADS`, else this process's cores; 1 on a GPU or inside a slice."""
    if _active["name"] != "numpy" or getattr(_inside, "slice", False):
        return 1
    return _cores()


@functools.cache
def _cores():
    given = os.environ.get("MINIGRAD_THREADS")
    if given is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not given.isdigit() or int(given) < 1:
        raise ValueError(f"MINIGRAD_THREADS must be a positive whole number, got {given!r}")
    return int(given)


def parallel(function, items, cost=None):
    """`[function(item) for item in items]`, in equal runs of items on threads with one BLAS thread each.

    cost: a function of an item, about its multiply-adds; the runs then have about equal sums of it, and there is but
    one if they are not worth a thread.
    The results come in the order of the items, whichever finished first, so sums over them have fixed bits.
    Inside a slice, on a GPU, or with one thread or item it is the plain loop.
    """
    items = list(items)
    count = min(threads(), len(items))
    if count < 2:
        return [function(item) for item in items]
    if cost is not None:
        costs = [cost(item) for item in items]
        runs = _balanced(costs, max(1, min(count, sum(costs) // WORTH_A_THREAD)))
        found = parallel(lambda run: [function(items[i]) for i in run], runs)
        results = dict(zip(itertools.chain(*runs), itertools.chain(*found), strict=True))
        return [results[i] for i in range(len(items))]
    runs = [items[run] for run in evenly(0, len(items), count)]
    with one_blas_thread():
        futures = [_pool().submit(_run_slices, function, run) for run in runs[1:]]
        try:
            first = _run_slices(function, runs[0])
        finally:
            wait(futures)
    return list(itertools.chain(first, *(future.result() for future in futures)))


def evenly(start, stop, count):
    """The numbers start .. stop as `count` slices, equally long or one apart."""
    edges = [start + (stop - start) * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _balanced(costs, count):
    """`count` lists of indices with about equal sums of costs: the dearest first, each to the list that has least."""
    runs, sums = [[] for _ in range(count)], [0] * count
    for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
        least = sums.index(min(sums))
        runs[least].append(i)
        sums[least] += costs[i]
    return runs


def _run_slices(function, items):
    before = getattr(_inside, "slice", False)
    _inside.slice = True
    try:
        return [function(item) for item in items]
    finally:
        _inside.slice = before


class Whole:
    """A batch in one piece: what `Meeting` is for slices."""

    samples = None

    def total(self, arrays):
        """The sums over the slices of arrays; not to be written to."""
        return arrays


WHOLE = Whole()


class Meeting:
    """`size` threads that each work on a slice of one batch, and add up between them what depends on all of it.

    For nets that couple samples: at each `total` a slice waits for the others, so all of them must run at once.
    samples: of the whole batch. ranks: the processes that have its slices, of which this one has `size`.
    """

    def __init__(self, size, samples, ranks):
        self.size, self.samples, self.ranks = size, samples, ranks
        self._seat = threading.local()

    def run(self, function, items):
        """`[function(item) for item in items]`, an item a slice, each on its own thread with one BLAS thread.

        The first's is the caller's. If one raises, those that wait for it end too, and its error is raised.
        """
        items, table = list(items), _Table(self.size)
        if len(items) != self.size:
            raise ValueError(f"a meeting of {self.size} slices cannot have {len(items)} items")

        def add_up():  # by the last that comes, while the others wait
            table.sums = self.ranks.total([functools.reduce(operator.add, column) for column in zip(*table.given)])

        barrier = threading.Barrier(self.size, action=add_up)

        def outcome(place):
            self._seat.taken = place, table, barrier
            try:
                return _run_slices(function, [items[place]])[0], None
            except BaseException as error:
                barrier.abort()
                return None, error

        with one_blas_thread(), ThreadPoolExecutor(max(1, self.size - 1)) as pool:
            others = [pool.submit(outcome, place) for place in range(1, self.size)]
            outcomes = [outcome(0), *(other.result() for other in others)]
        errors = [error for _, error in outcomes if error is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error
        return [result for result, _ in outcomes]

    def total(self, arrays):
        """The sums over the slices of arrays, equally many and equally large on all; not to be written to."""
        place, table, barrier = self._seat.taken
        table.given[place] = arrays
        barrier.wait()
        return table.sums  # the next ones are made when all have come again


class _Table:
    def __init__(self, size):
        self.given, self.sums = [None] * size, None


@functools.cache
def _pool():
    return ThreadPoolExecutor(max_workers=max(1, _cores() - 1), thread_name_prefix="minigrad-slice")


def _find_blas():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


_blas = functools.cache(_find_blas)
_limits = {"by": 0, "before": []}  # how many threads of the caller are inside, and (library, count) to give back
_limiting = threading.Lock()


def one_blas_thread():
    """A context: the BLAS works on the caller's thread alone; nothing changes where there are no slices.

    Its own threads spin on for a while after a product, on the cores that the next slices need: what they gain in
    something small that comes between slices costs more than that afterwards.
    """
    return contextlib.nullcontext() if threads() < 2 else _limited(_blas())


@contextlib.contextmanager
def one_thread():
    """All work of the caller on its one thread: no slices, one BLAS thread. For several workers on one machine.

    The BLAS is the whole process's: where threads of one process do this, it has one thread until the last has left. Of
    these, threadpoolctl lets OpenBLAS obey one thread alone: the first to limit it, as long as that lives.
    """
    before = getattr(_inside, "slice", False)
    _inside.slice = True
    try:
        with _limited(_find_blas()):  # not the one that _blas keeps: what was imported since counts as well
            yield
    finally:
        _inside.slice = before


@contextlib.contextmanager
def _limited(blas):
    with _limiting:
        _limits["by"] += 1
        if _limits["by"] == 1:
            _limits["before"] = [(library, library.num_threads) for library in blas.lib_controllers]
            for library, _ in _limits["before"]:
                library.set_num_threads(1)
    try:
        yield
    finally:
        with _limiting:
            _limits["by"] -= 1
            if _limits["by"] == 0:
                for library, count in _limits["before"]:
                    library.set_num_threads(count)


if hasattr(os, "register_at_fork"):  # a forked child has the pool object but none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


# --- the allocator --------------------------------------------------------------------------------------


def _keep_freed_memory():
    """Tell glibc to keep large freed blocks instead of returning them to the kernel page by page.

    By default every array above 128 KiB..32 MiB is mapped afresh and zeroed by page faults, at each product.
    One arena, because a thread's own arena cannot keep blocks beyond 64 MiB. Other C libraries ignore this.
    """
    if not sys.platform.startswith("linux") or os.environ.get("MINIGRAD_MALLOC") == "0":
        return
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX of malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)
        mallopt(arena_max, 1)


_keep_freed_memory()
if os.environ.get("MINIGRAD_BACKEND", "numpy") != "numpy":
    use(os.environ["MINIGRAD_BACKEND"])
