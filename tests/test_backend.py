"""The switch between NumPy and CuPy, host reads, slices on threads, and the allocator's settings."""

import ctypes
import functools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from minigrad import backend
from minigrad.backend import parallel, xp
from minigrad.parallel import ALONE
from tests.fake_device import DeviceArray, fake_cupy, fake_device, installed
from tests.helpers import close, dev, host_only

ROOT = Path(__file__).parents[1]


def python(script, **environment):
    """Run the script in a fresh interpreter; its CompletedProcess."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MINIGRAD_")}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


# --- the switch -----------------------------------------------------------------------------------------


def test_use_switches_everything_and_back():
    before, exp = backend.name(), xp.exp
    with fake_device() as cupy:
        assert backend.name() == "cupy" and repr(xp) == "<xp: cupy>"
        assert xp.ndarray is DeviceArray and xp.exp is not exp
        assert backend.is_array(dev([1.0])) and not backend.is_array(np.ones(1))
        assert vars(xp)["exp"] is xp.exp  # looked up once
        backend.use("numpy")
        assert backend.name() == "numpy" and xp.exp is np.exp and xp.ndarray is np.ndarray
        backend.use("cupy")
        assert xp.asnumpy is cupy.asnumpy
    assert backend.name() == before and xp.exp is exp
    assert repr(xp) == f"<xp: {before}>"


def test_unknown_names_offer_the_nearest():
    before = backend.name()
    with pytest.raises(ValueError, match=r"unknown backend 'cuppy'; did you mean 'cupy'\? Known: numpy, cupy$"):
        backend.use("cuppy")
    with pytest.raises(ValueError, match=r"unknown backend 'torch'\. Known: numpy, cupy$"):
        backend.use("torch")
    with pytest.raises(ValueError, match=r"unknown backend None"):
        backend.use(None)
    with pytest.raises(ValueError, match=r"unknown loss 'gausian'; did you mean 'gaussian'\?"):
        backend.check_name("loss", "gausian", ["gaussian", "categorical"])
    backend.check_name("loss", "gaussian", ["gaussian"])
    assert backend.name() == before


@pytest.mark.parametrize(
    ("cupy", "error", "message"),
    [
        (None, ImportError, r"needs CuPy: pip install cupy-cuda13x \(CUDA 13\) or cupy-cuda12x \(CUDA 12\)"),
        (fake_cupy(gpu=False), RuntimeError, "needs a CUDA GPU; CuPy is installed but finds none"),
    ],
)
def test_without_cupy_or_gpu_nothing_changes(cupy, error, message):
    before, zeros = backend.name(), xp.zeros
    with installed(cupy):
        with pytest.raises(error, match=message):
            backend.use("cupy")
        assert backend.name() == before and xp.zeros is zeros


CUPY = """
import sys, types
sys.modules["cupy"] = {}
import minigrad.backend
print(minigrad.backend.name())
"""
PRESENT = "types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: True))"


@pytest.mark.parametrize(
    ("value", "cupy", "out", "error"),
    [
        (None, "None", "numpy", ""),
        ("numpy", "None", "numpy", ""),
        ("cupy", PRESENT, "cupy", ""),
        ("cupy", "None", "", "ImportError: the cupy backend needs CuPy"),
        ("nunpy", "None", "", "ValueError: unknown backend 'nunpy'; did you mean 'numpy'?"),
    ],
)
def test_the_environment_chooses_the_backend(value, cupy, out, error):
    done = python(CUPY.format(cupy), **({} if value is None else {"MINIGRAD_BACKEND": value}))
    assert done.stdout.strip() == out
    assert error in done.stderr and (done.returncode == 0) == (error == "")


# --- arrays in and out ----------------------------------------------------------------------------------


def test_host_reads_are_counted(device):
    x, before = dev([[1.0, 2.0]]), backend.host_reads.count
    assert type(backend.to_host(x)) is np.ndarray
    assert backend.host_reads.count == before + 1
    three = backend.item(dev([3.0]))
    assert three == 3.0 and type(three) is float
    assert type(backend.item(dev(np.array(2)))) is int
    assert backend.host_reads.count == before + 3
    with pytest.raises(ValueError):
        backend.item(x)
    np.testing.assert_array_equal(backend.to_host(dev(x)), [[1.0, 2.0]])


def test_asarray_moves_and_converts(device):
    x = dev(np.arange(3))
    assert backend.is_array(x) and x.dtype == np.int64
    assert dev(x) is x
    assert dev(x, np.float32).dtype == np.float32
    assert dev(2.5).shape == ()


def test_sync_waits_for_the_device_only():
    with fake_device() as cupy:
        backend.sync()
        assert cupy.waits == 1
        backend.use("numpy")
        backend.sync()
        assert cupy.waits == 1
        backend.use("cupy")


def test_scatter_add_adds_repeated_indices(device):
    out = dev(np.ones(3))
    backend.scatter_add(out, dev([0, 2, 0]), dev([1.0, 2.0, 3.0]))
    close(out, [5.0, 1.0, 3.0])


def test_stack_joins_traced_values(device):
    from minigrad.autodiff import jacobian

    close(backend.stack([dev([1.0, 2.0]), dev([3.0, 4.0])], axis=1), [[1.0, 3.0], [2.0, 4.0]])
    close(backend.stack([dev([1.0, 2.0]), dev([3.0, 4.0])]), [[1.0, 2.0], [3.0, 4.0]])
    close(jacobian(lambda x: backend.stack([2.0 * x, dev([1.0])]))(dev([3.0])), [[[2.0]], [[0.0]]])


def test_random_numbers(device):
    for draw in (backend.uniform, backend.normal):
        one, two, other = (draw(backend.rng(seed), (200, 2), np.float64) for seed in (0, 0, 1))
        close(one, two)
        assert (backend.to_host(one) != backend.to_host(other)).all()
        host_drawn = draw(np.random.default_rng(0), (2,), np.float32)
        assert backend.is_array(host_drawn) and host_drawn.dtype == np.float32
    u, z = (backend.to_host(d(backend.rng(0), 4000, np.float64)) for d in (backend.uniform, backend.normal))
    assert 0 <= u.min() < 0.01 and 0.99 < u.max() < 1 and abs(u.mean() - 0.5) < 0.02
    assert abs(z.mean()) < 0.06 and abs(z.std() - 1) < 0.05


# --- slices on threads ----------------------------------------------------------------------------------


@pytest.fixture
def three_threads(monkeypatch):
    """MINIGRAD_THREADS=3, with a pool of its own."""
    monkeypatch.setenv("MINIGRAD_THREADS", "3")
    backend._cores.cache_clear()
    backend._pool.cache_clear()
    yield
    backend._pool().shutdown()
    backend._pool.cache_clear()
    backend._cores.cache_clear()


def blas_threads():
    return [library.num_threads for library in backend._blas().lib_controllers]


@host_only
def test_parallel_keeps_the_order(three_threads):
    def work(i):
        time.sleep(0.002 * (7 - i))  # the first to start is the last to finish
        return i * i

    for count in range(8):
        assert parallel(work, iter(range(count))) == [i * i for i in range(count)]


@host_only
def test_parallel_runs_side_by_side_in_equal_runs(three_threads):
    meet, by = threading.Barrier(3), {}

    def work(i):
        if i % 2 == 0:
            meet.wait(10)
        by.setdefault(threading.current_thread().name, []).append(i)
        return i

    parallel(work, range(6))
    assert sorted(by.values()) == [[0, 1], [2, 3], [4, 5]]
    assert by[threading.current_thread().name] == [0, 1]
    assert sum(name.startswith("minigrad-slice") for name in by) == 2
    assert backend.threads() == 3


@host_only
def test_with_costs_the_runs_have_about_equal_sums_of_them(three_threads, monkeypatch):
    monkeypatch.setattr(backend, "WORTH_A_THREAD", 1)
    costs, runs, meet = [1, 2, 3, 8, 10, 1], {}, threading.Barrier(3)

    def work(i):
        runs.setdefault(threading.current_thread().name, []).append(costs[i])
        if costs[i] in (3, 8, 10):  # each run's first: no thread takes two runs
            meet.wait(10)
        return i * i

    assert parallel(work, range(6), cost=lambda i: costs[i]) == [0, 1, 4, 9, 16, 25]
    assert sorted(runs.values()) == [[3, 2, 1, 1], [8], [10]]


@host_only
def test_little_work_is_left_to_one_thread(three_threads, monkeypatch):
    counts, balanced = [], backend._balanced
    monkeypatch.setattr(backend, "_balanced", lambda costs, count: counts.append(count) or balanced(costs, count))
    third = backend.WORTH_A_THREAD // 3
    for cost in (third // 2 - 1, third + 1, 10 * third):  # six times that: of less than one thread, two, twenty
        assert parallel(lambda i: i, range(6), cost=lambda i, cost=cost: cost) == [0, 1, 2, 3, 4, 5]
    assert counts == [1, 2, 3]
    assert parallel(lambda i: i, [], cost=lambda i: i) == []


@host_only
@pytest.mark.parametrize("bad", [0, 1, 4, 5])
def test_an_exception_comes_through_when_all_have_finished(three_threads, bad):
    finished = []

    def work(i):
        if i == bad:
            raise KeyError(i)
        time.sleep(0.01)
        finished.append(i)

    before = blas_threads()
    with pytest.raises(KeyError, match=str(bad)):
        parallel(work, range(6))
    assert {i for i in range(6) if i // 2 != bad // 2} <= set(finished)
    assert blas_threads() == before
    assert backend.threads() == 3  # this thread is not left marked
    assert parallel(lambda i: i, range(4)) == [0, 1, 2, 3]


@host_only
def test_one_blas_thread_inside_and_all_of_them_after(three_threads):
    import threadpoolctl

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        inside = parallel(lambda i: blas_threads(), range(3))
        assert inside == [[1] * len(before)] * 3
        assert blas_threads() == before
        with backend.one_blas_thread():
            pass
        a, b = backend.one_blas_thread(), backend.one_blas_thread()  # two callers at once, ending in either order
        a.__enter__()
        b.__enter__()
        a.__exit__(None, None, None)
        assert blas_threads() == [1] * len(before)
        b.__exit__(None, None, None)
        assert blas_threads() == before


@host_only
def test_slices_of_slices_run_in_their_own_thread(three_threads):
    def inner(j):
        return threading.current_thread().name

    def outer(i):
        names = set(parallel(inner, range(4)))
        return names == {threading.current_thread().name} and backend.threads() == 1

    assert parallel(outer, range(3)) == [True] * 3


@host_only
def test_one_item_or_one_thread_is_a_plain_loop(monkeypatch, three_threads):
    monkeypatch.setattr(backend, "_pool", lambda: pytest.fail("no pool is needed"))
    assert parallel(lambda i: (i, backend.threads()), [5]) == [(5, 3)]
    assert parallel(lambda i: i, []) == []
    with fake_device():
        assert backend.threads() == 1
        assert parallel(lambda i: i, range(3)) == [0, 1, 2]
    backend._cores.cache_clear()
    monkeypatch.setenv("MINIGRAD_THREADS", "1")
    assert parallel(lambda i: i, range(3)) == [0, 1, 2]
    monkeypatch.undo()


# --- slices that meet -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_meeting_adds_up_between_slices(size):
    """As often as they like, in the slices' order whoever comes first, and on one or another thread a slice."""
    meeting = backend.Meeting(size, size, ALONE)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, size, 3)).astype("float32")

    def work(place):
        found = []
        for turn in range(20):
            time.sleep(0.001 * rng.random())
            total, count, again = meeting.total([x[turn, place], 1, x[turn, place] * 2])
            assert backend.threads() == 1 and (again == 2 * total).all()
            found.append((total, count))
        return place, threading.get_ident(), found

    for _ in range(2):
        places, threads, found = zip(*meeting.run(work, range(size)), strict=True)
        assert places == tuple(range(size)) and len(set(threads)) == size and threads[0] == threading.get_ident()
        for sums in found:
            for turn, (total, count) in enumerate(sums):
                in_order = functools.reduce(lambda total, row: total + row, x[turn])
                assert count == size and total.tobytes() == in_order.tobytes()


@pytest.mark.parametrize("bad", [0, 1, 2])
@pytest.mark.parametrize("turn", [0, 1, 2])
def test_a_failure_ends_the_meeting(bad, turn):
    """The others, who wait, end as well; the error that comes through is the one that was the reason."""
    meeting, ended = backend.Meeting(3, 3, ALONE), []

    def work(place):
        try:
            for i in range(3):
                if (place, i) == (bad, turn):
                    raise KeyError(place)
                meeting.total([place])
        finally:
            ended.append(place)

    with pytest.raises(KeyError, match=str(bad)):
        meeting.run(work, range(3))
    assert sorted(ended) == [0, 1, 2]
    assert meeting.run(lambda place: meeting.total([place])[0], range(3)) == [3, 3, 3]


def test_a_meeting_needs_an_item_a_slice():
    for items in (range(1), range(3)):
        with pytest.raises(ValueError, match="a meeting of 2 slices cannot have"):
            backend.Meeting(2, 2, ALONE).run(lambda i: i, items)


@host_only
def test_a_meeting_takes_place_wherever_it_is_called(three_threads):
    """Inside a slice, or with one thread, where `parallel` is a plain loop: its threads are its own."""
    meeting = backend.Meeting(2, 2, ALONE)
    meet = lambda i: meeting.run(lambda place: (meeting.total([place])[0], blas_threads()), range(2))
    with backend.one_thread():
        assert [total for total, _ in meet(0)] == [1, 1]
        assert backend.threads() == 1
    both = parallel(lambda i: backend.Meeting(2, 2, ALONE).run(lambda place: backend.threads(), range(2)), range(2))
    assert both == [[1, 1]] * 2
    assert {count for _, counts in meet(0) for count in counts} == {1}


@host_only
@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5", ""])
def test_a_bad_number_of_threads(monkeypatch, given):
    monkeypatch.setenv("MINIGRAD_THREADS", given)
    backend._cores.cache_clear()
    with pytest.raises(ValueError, match=f"MINIGRAD_THREADS must be a positive whole number, got '{given}'"):
        backend.threads()
    backend._cores.cache_clear()


@host_only
def test_threads_by_default_are_the_cores_of_this_process(monkeypatch):
    monkeypatch.delenv("MINIGRAD_THREADS", raising=False)
    backend._cores.cache_clear()
    assert backend.threads() == len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    backend._cores.cache_clear()


FORK = """
import os, sys
from minigrad.backend import parallel
print(parallel(lambda i: i * i, range(6)), flush=True)
child = os.fork()
if child == 0:
    print(parallel(lambda i: i * i, range(6)), flush=True)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_makes_its_own_threads():
    done = python(FORK, MINIGRAD_THREADS="3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["[0, 1, 4, 9, 16, 25]"] * 2


# --- the allocator --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "value", "calls"),
    [
        ("linux", None, [(-1, 2**31 - 1), (-4, 0), (-8, 1)]),
        ("linux", "1", [(-1, 2**31 - 1), (-4, 0), (-8, 1)]),
        ("linux", "0", []),
        ("darwin", None, []),
    ],
)
def test_the_allocator_is_told_on_linux_unless_forbidden(monkeypatch, platform, value, calls):
    told = []
    library = type("", (), {"mallopt": staticmethod(lambda *setting: told.append(setting))})
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delenv("MINIGRAD_MALLOC", raising=False)
    if value is not None:
        monkeypatch.setenv("MINIGRAD_MALLOC", value)
    backend._keep_freed_memory()
    assert told == calls


@pytest.mark.parametrize("failure", [OSError, AttributeError])
def test_another_c_library_is_left_alone(monkeypatch, failure):
    def missing(name):
        raise failure

    monkeypatch.setattr(ctypes, "CDLL", missing)
    backend._keep_freed_memory()


def test_import_tells_the_allocator_once_unless_forbidden():
    script = """
import ctypes
loaded, load = [], ctypes.CDLL
ctypes.CDLL = lambda name, *rest, **options: loaded.append(name) or load(name, *rest, **options)
import minigrad.backend
print(loaded.count("libc.so.6"))
"""
    expected = "1" if sys.platform.startswith("linux") else "0"
    assert python(script).stdout.strip() == expected
    assert python(script, MINIGRAD_MALLOC="0").stdout.strip() == "0"


# --- the fake device refuses what CuPy refuses ----------------------------------------------------------


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x + np.ones(2),
        lambda x: np.ones(2) * x,
        lambda x: x + np.array(1.0),
        lambda x: np.ones((2, 2)) @ x,
        lambda x: xp.add(x, np.ones(2)),
        lambda x: xp.concatenate([x, np.ones(2)]),
        lambda x: xp.where(np.array([True, False]), x, x),
        lambda x: np.where(np.array([True, False]), x, x),
        lambda x: xp.sum(np.ones(2)),
        lambda x: x[np.array([0])],
        lambda x: x.__setitem__(0, np.array(1.0)),
        lambda x: x.__setitem__(np.array([0]), 1.0),
        lambda x: np.ones(2).__iadd__(x),
        lambda x: x.dot(np.ones(2)),
        lambda x: x + [1.0, 2.0],
        lambda x: float(x[0]),
        lambda x: int(x[0]),
        lambda x: complex(x[0]),
        lambda x: bool(x.sum() > 0),
        lambda x: [1, 2][x.astype(int)[0]],
        lambda x: x[: x.astype(int)[0]],
        lambda x: x[0].item(),
        lambda x: x.tolist(),
        lambda x: np.asarray(x),
        lambda x: np.array([x[0]]),
        lambda x: f"{x[0]:.3f}",
        lambda x: max(x),
        lambda x: x.sum() == 0 or None,
        lambda x: np.ones(2).__setitem__(0, x[0]),
    ],
)
def test_the_fake_device_refuses(mix):
    with fake_device(), pytest.raises((TypeError, ValueError), match=r"unsupported|implicit|array element|format"):
        mix(dev([1.0, 2.0]))


def test_the_fake_device_allows():
    with fake_device() as cupy:
        x = xp.arange(4.0)
        for scalar in (x.sum(), xp.max(x), x[0], x.mean(), xp.dot(x, x), next(iter(x)), xp.sum(x, axis=0)):
            assert type(scalar) is DeviceArray and scalar.shape == ()
        close(2 * x + np.float64(1.0) - np.float32(1.0) + True, 2 * np.arange(4.0) + 1)
        x[0] += 5.0
        view = x[1:].reshape(3, 1)
        view *= 2.0
        close(x, [5.0, 2.0, 4.0, 6.0])
        out = xp.empty(2)
        assert xp.exp(xp.zeros(2), out=out) is out and np.add(out, out, out=out) is out
        close(out, [2.0, 2.0])
        assert type(np.sum(x)) is DeviceArray and len(xp.split(x, 2)) == 2
        assert type(xp.linalg.eigh(xp.eye(2)).eigenvalues) is DeviceArray
        assert xp.finfo(x.dtype).eps and xp.float32 is np.float32 and xp.pi == np.pi
        assert type(cupy.asnumpy(x)) is np.ndarray and "DeviceArray" in repr(x)
        for draw in (backend.rng(0).random(2), backend.rng(0).standard_normal(2), backend.rng(0).integers(3, size=2)):
            assert type(draw) is DeviceArray
    assert "cupy" not in sys.modules or sys.modules["cupy"] is not cupy


@pytest.mark.gpu
def test_the_gpu_is_a_gpu():
    assert backend.name() == "cupy"
    close(dev([1.0, 2.0]) * 2.0, [2.0, 4.0])
