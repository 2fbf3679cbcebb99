"""Minibatches: every sample once an epoch, resume as if never stopped, and clear words for bad input."""

import json
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import backend
from minigrad.data import Batches, batches, split


def rng(seed=0):
    return np.random.default_rng(seed)


def numbered(samples, columns=2):
    """(x, t) whose rows know their number: x[i] is full of i, t[i] is 10 i."""
    return np.repeat(np.arange(samples, dtype=np.float32)[:, None], columns, axis=1), 10 * np.arange(samples)


sizes = st.integers(1, 30).flatmap(lambda samples: st.tuples(st.just(samples), st.integers(1, samples)))


def host(batch):
    """(x, t) of a minibatch as NumPy arrays, whichever backend runs the tests."""
    return tuple(backend.to_host(part) for part in batch)


def epoch_of(stream):
    """The sample numbers of the epoch that `next(stream)` begins, batch by batch."""
    numbers = [next(stream)[0][:, 0].astype(int).tolist()]
    while stream.position < stream.usable:
        numbers.append(next(stream)[0][:, 0].astype(int).tolist())
    return numbers


# --- endless --------------------------------------------------------------------------------------------


@given(sizes, st.booleans(), st.integers(0, 99))
def test_every_sample_once_an_epoch(sizes, drop_last, seed):
    samples, size = sizes
    stream = Batches(numbered(samples), size, rng(seed), drop_last=drop_last)
    for epoch in range(3):
        parts = epoch_of(stream)
        seen = list(chain(*parts))
        assert stream.epoch == epoch and stream.position == len(seen) == len(set(seen))
        assert len(seen) == (samples // size * size if drop_last else samples)
        assert {len(part) for part in parts[:-1]} <= {size}
        assert len(parts[-1]) == (size if drop_last else (samples - 1) % size + 1)


def test_training_drops_the_smaller_batch_and_a_pass_keeps_it():
    assert Batches(numbered(10), 4, rng()).usable == 8
    assert [len(x) for x, _ in batches(numbered(10), 4)] == [4, 4, 2]


def test_the_seed_fits_any_json_reader():
    seeds = [Batches(numbered(2), 1, rng(seed)).seed for seed in range(50)]
    assert 2**50 < max(seeds) < 2**53


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = set()
    for seed in range(3):
        stream = Batches(numbered(50), 10, rng(seed))
        orders |= {tuple(chain(*epoch_of(stream))) for _ in range(3)}
    assert len(orders) == 9


def test_same_seed_same_batches_whatever_else_is_drawn():
    ours, theirs, other = rng(3), rng(3), rng(4)
    a, b = Batches(numbered(9), 2, ours), Batches(numbered(9), 2, theirs)
    for _ in range(12):
        np.testing.assert_array_equal(host(next(a))[0], host(next(b))[0])
        ours.random()  # a generator that others draw from must not change the order
    assert Batches(numbered(9), 2, other).seed != a.seed


@given(sizes, st.booleans(), st.integers(0, 40), st.integers(0, 40))
def test_targets_stay_with_their_inputs(sizes, drop_last, seed, steps):
    samples, size = sizes
    stream = Batches(numbered(samples), size, rng(seed), drop_last=drop_last)
    for _ in range(steps):
        x, t = host(next(stream))
        np.testing.assert_array_equal(10 * x[:, 0], t)


@given(sizes, st.booleans(), st.integers(0, 25), st.integers(0, 99))
def test_restored_goes_on_as_if_never_stopped(sizes, drop_last, steps, seed):
    samples, size = sizes
    unbroken = Batches(numbered(samples), size, rng(seed), drop_last=drop_last)
    for _ in range(steps):
        next(unbroken)
    saved = json.loads(json.dumps(unbroken.state()))
    resumed = Batches(numbered(samples), size, rng(seed + 1), drop_last=drop_last)
    next(resumed)
    resumed.restore(saved)
    assert resumed.state() == saved
    for _ in range(10):
        (x, t), (x_resumed, t_resumed) = host(next(unbroken)), host(next(resumed))
        np.testing.assert_array_equal(x, x_resumed)
        np.testing.assert_array_equal(t, t_resumed)
        assert resumed.state() == unbroken.state()


def test_state_may_come_from_an_array_file():
    stream = Batches(numbered(9), 2, rng())
    saved = {name: np.int64(value) for name, value in stream.state().items()}
    resumed = Batches(numbered(9), 2, rng(1))
    resumed.restore(saved)
    assert json.dumps(resumed.state()) == json.dumps(stream.state())


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"samples": 11}, ValueError, "state of other Batches: samples is 11, here 10"),
        ({"size": 3}, ValueError, "state of other Batches: size is 3, here 4"),
        ({"usable": 10}, ValueError, "state of other Batches: usable is 10, here 8"),
        ({"position": 2}, ValueError, "out of range"),
        ({"position": -4}, ValueError, "out of range"),
        ({"position": 12}, ValueError, "out of range"),
        ({"epoch": -1}, ValueError, "out of range"),
        ({"seed": -1}, ValueError, "out of range"),
        ({"epoch": 1.5}, TypeError, "epoch must be an integer, got 1.5"),
        ({"seed": "7"}, TypeError, "seed must be an integer, got '7'"),
        ({"extra": 1}, ValueError, "must be a dict of seed, epoch, position"),
        (None, ValueError, "must be a dict of seed, epoch, position"),
    ],
)
def test_foreign_states_are_refused_and_change_nothing(change, error, match):
    stream = Batches(numbered(10), 4, rng())
    next(stream)
    before = stream.state()
    with pytest.raises(error, match=match):
        stream.restore(None if change is None else before | change)
    assert stream.state() == before


# --- one pass -------------------------------------------------------------------------------------------


@given(sizes, st.booleans(), st.one_of(st.none(), st.integers(0, 99)))
def test_one_pass(sizes, drop_last, seed):
    samples, size = sizes
    generator = None if seed is None else rng(seed)
    parts = [x[:, 0].astype(int).tolist() for x, _ in batches(numbered(samples), size, generator, drop_last)]
    seen = list(chain(*parts))
    whole = samples // size * size if drop_last else samples
    assert len(seen) == len(set(seen)) == whole and {len(part) for part in parts[:-1]} <= {size}
    if seed is None:
        assert seen == list(range(whole))


def test_one_pass_in_random_order_keeps_pairs_and_varies():
    orders = set()
    for seed in range(4):
        passed = [host(batch) for batch in batches(numbered(30), 7, rng(seed))]
        for x, t in passed:
            np.testing.assert_array_equal(10 * x[:, 0], t)
        orders.add(tuple(np.concatenate([t for _, t in passed])))
    assert len(orders) == 4


# --- kinds of targets, places of arrays -----------------------------------------------------------------


class Counted(np.ndarray):
    """An array that counts how often rows are gathered from it."""

    gathers = 0

    def __getitem__(self, index):
        if isinstance(index, np.ndarray) and index.dtype.kind == "i":
            Counted.gathers += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("make", [lambda data: Batches(data, 4, rng()), lambda data: batches(data, 4)])
def test_target_that_is_the_input_is_gathered_once(make):
    x = numbered(8)[0].view(Counted)
    stream = iter(make((x, x)))
    Counted.gathers = 0
    x_batch, t_batch = next(stream)
    assert t_batch is x_batch and x_batch.shape == (4, 2) and Counted.gathers == 1


@pytest.mark.parametrize("make", [lambda data: Batches(data, 4, rng()), lambda data: batches(data, 4)])
def test_no_targets(make):
    x_batch, t_batch = next(iter(make((numbered(8)[0], None))))
    assert t_batch is None and x_batch.shape == (4, 2)


def test_shapes_and_types_are_kept():
    x, t = np.zeros((6, 3, 4, 4)), np.eye(6, dtype=np.float32)
    x_batch, t_batch = next(Batches((x, t), 4, rng()))
    assert x_batch.shape == (4, 3, 4, 4) and x_batch.dtype == np.float64
    assert t_batch.shape == (4, 6) and t_batch.dtype == np.float32


class Device(np.ndarray):
    """Stands for a GPU array: takes no index from the host."""

    def __getitem__(self, index):
        if isinstance(index, np.ndarray):
            assert isinstance(index, Device), "a device array was indexed by a host array"
        return super().__getitem__(index)


@pytest.fixture
def device(monkeypatch):
    """A backend whose arrays are `Device`; the list of shapes that were put on it."""
    placed = []

    def asarray(x, dtype=None):
        if not isinstance(x, Device):
            placed.append(x.shape)
        return np.asarray(x, dtype=dtype).view(Device)

    monkeypatch.setattr(backend, "asarray", asarray)
    monkeypatch.setattr(backend, "is_array", lambda x: isinstance(x, Device))
    return placed


def test_host_arrays_travel_batch_by_batch(device):
    x, t = next(Batches(numbered(8), 4, rng()))
    assert isinstance(x, Device) and isinstance(t, Device) and device == [(4, 2), (4,)]


def test_device_arrays_stay_and_indices_travel(device):
    x, t = (array.view(Device) for array in numbered(8))
    on_device = next(Batches((x, t), 4, rng()))
    assert all(isinstance(part, Device) for part in on_device) and device == [(4,), (4,)]
    host = next(Batches(numbered(8), 4, rng()))
    np.testing.assert_array_equal(np.asarray(on_device[0]), np.asarray(host[0]))


def test_parts_of_a_split_stay_where_they_were(device):
    (x_a, t_a), _ = split(*numbered(8), 3, rng())
    assert type(x_a) is type(t_a) is np.ndarray
    (x_a, t_a), _ = split(*(array.view(Device) for array in numbered(8)), 3, rng())
    assert isinstance(x_a, Device) and isinstance(t_a, Device)


# --- split ----------------------------------------------------------------------------------------------


@given(
    st.integers(2, 40).flatmap(lambda total: st.tuples(st.just(total), st.integers(1, total - 1))),
    st.integers(0, 99),
)
def test_split_is_disjoint_complete_and_in_order(sizes, seed):
    total, n = sizes
    x, t = numbered(total)
    (x_a, t_a), (x_b, t_b) = split(x, t, n, rng(seed))
    assert len(x_a) == total - n and len(x_b) == n
    assert sorted(np.concatenate([t_a, t_b])) == t.tolist()
    for x_part, t_part in ((x_a, t_a), (x_b, t_b)):
        np.testing.assert_array_equal(10 * x_part[:, 0], t_part)
        assert (np.diff(t_part) > 0).all()
    (x_again, _), _ = split(x, t, n, rng(seed))
    np.testing.assert_array_equal(x_a, x_again)


def test_split_is_random_and_seeded():
    held_out = {tuple(split(*numbered(30), 5, rng(seed))[1][1]) for seed in range(5)}
    assert len(held_out) == 5


def test_split_of_inputs_that_are_targets():
    x, _ = numbered(6)
    (x_a, t_a), (x_b, t_b) = split(x, x, 2, rng())
    assert t_a is x_a and t_b is x_b
    assert split(x, None, 2, rng())[0][1] is None


@pytest.mark.parametrize(
    ("n", "error", "match"),
    [
        (0, ValueError, "expected 0 < n < 6, got 0"),
        (6, ValueError, "expected 0 < n < 6, got 6"),
        (-1, ValueError, "expected 0 < n < 6, got -1"),
        (0.5, TypeError, "n must be an integer, got 0.5"),
    ],
)
def test_split_sizes_are_checked(n, error, match):
    with pytest.raises(error, match=match):
        split(*numbered(6), n, rng())


# --- bad input ------------------------------------------------------------------------------------------

X, T = numbered(5)


def with_value(array, value):
    array = array.astype(np.float32)
    array[3] = value
    return array


BAD_DATA = [
    (X.astype(np.int64), T, TypeError, r"x must be floating point, got int64; .*x\.astype"),
    (X.astype(np.uint8), T, TypeError, "x must be floating point, got uint8"),
    (X.astype(object), T, TypeError, "x must be floating point, got object"),
    (X.astype(complex), T, TypeError, "x must be floating point, got complex128"),
    (X.tolist(), T, TypeError, "x must be an array of NumPy or of the backend, got list"),
    (X[:, 0], T, ValueError, r"x must hold one sample a row, .* got shape \(5,\)"),
    (X[:0], T[:0], ValueError, r"not empty, got shape \(0, 2\)"),
    (X[:, :0], T, ValueError, r"not empty, got shape \(5, 0\)"),
    (with_value(X, np.nan), T, ValueError, "x must be finite, got 2 NaN or inf, the first in sample 3"),
    (with_value(X, np.inf), T, ValueError, "x must be finite, got 2 NaN or inf"),
    (with_value(X, -np.inf), T, ValueError, "x must be finite, got 2 NaN or inf"),
    (X, T[:-1], ValueError, r"t must hold one target for each of the 5 rows of x, got shape \(4,\)"),
    (X, np.array(3), ValueError, r"one target for each of the 5 rows of x, got shape \(\)"),
    (X, T.astype(object), TypeError, "t must hold numbers, got object"),
    (X, T.astype(str), TypeError, "t must hold numbers, got <U"),
    (X, T.tolist(), TypeError, "t must be an array of NumPy or of the backend, got list"),
    (X, with_value(T, np.nan), ValueError, "t must be finite, got 1 NaN or inf, the first in sample 3"),
]


@pytest.mark.parametrize(("x", "t", "error", "match"), BAD_DATA)
def test_bad_data(x, t, error, match):
    for entry in (
        lambda: Batches((x, t), 1, rng()),
        lambda: batches((x, t), 1),  # at the call, not at the first batch
        lambda: split(x, t, 1, rng()),
    ):
        with pytest.raises(error, match=match):
            entry()


@pytest.mark.parametrize("data", [X, (X,), (X, T, T), None, {"x": X, "t": T}])
def test_data_must_be_a_pair(data):
    for entry in (lambda: Batches(data, 1, rng()), lambda: batches(data, 1)):
        with pytest.raises(TypeError, match=r"data must be a pair \(x, t\)"):
            entry()


@pytest.mark.parametrize(
    ("size", "error", "match"),
    [
        (0, ValueError, r"size of a batch must be 1\.\.5 .*, got 0"),
        (-2, ValueError, r"size of a batch must be 1\.\.5 .*, got -2"),
        (6, ValueError, r"size of a batch must be 1\.\.5 .*, got 6"),
        (2.0, TypeError, "size must be an integer, got 2.0"),
        (None, TypeError, "size must be an integer, got None"),
    ],
)
def test_bad_sizes(size, error, match):
    for entry in (lambda: Batches((X, T), size, rng()), lambda: batches((X, T), size)):
        with pytest.raises(error, match=match):
            entry()


@pytest.mark.parametrize("generator", [0, None, np.random])
def test_generator_must_be_one(generator):
    entries = [lambda: Batches((X, T), 1, generator), lambda: split(X, T, 1, generator)]
    entries += [lambda: batches((X, T), 1, generator)] if generator is not None else []
    for entry in entries:
        with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator"):
            entry()
