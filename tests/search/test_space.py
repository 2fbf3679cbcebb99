"""Spaces: to the unit cube and back, distances, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.search import Choice, Integer, LogUniform, Space, Uniform


@pytest.mark.parametrize(
    ("dimension", "u", "value"),
    [
        (Uniform(-1, 3), 0.25, 0.0),
        (Uniform(-1, 3), 1.0, 3.0),
        (Uniform(-1e308, 1e308), 0.5, 0.0),
        (LogUniform(1e-4, 1.0), 0.0, 1e-4),
        (LogUniform(1e-4, 1.0), 0.75, 0.1),
        (LogUniform(1e-4, 1.0), 1.0, 1.0),
        (Integer(3, 6), 0.0, 3),
        (Integer(3, 6), 0.2499, 3),
        (Integer(3, 6), 0.25, 4),
        (Integer(3, 6), 1.0, 6),
        (Integer(5, 5), 0.7, 5),
        (Choice("a", "b", "c"), 0.0, "a"),
        (Choice("a", "b", "c"), 0.334, "b"),
        (Choice("a", "b", "c"), 1.0, "c"),
        (Choice(False, None), 0.4, False),
    ],
)
def test_value_at(dimension, u, value):
    found = dimension.at(u)
    assert type(found) is type(value)
    assert found == (pytest.approx(value, rel=1e-12) if type(value) is float else value)


@pytest.mark.parametrize(
    ("dimension", "value", "u"),
    [
        (Uniform(-1, 3), 2, 0.75),
        (Uniform(-1e308, 1e308), 0, 0.5),
        (LogUniform(1e-4, 1.0), 0.1, 0.75),
        (Integer(3, 6), 3, 0.125),
        (Integer(3, 6), np.int64(6), 0.875),
        (Choice("a", "b", "c", "d"), "b", 0.375),
    ],
)
def test_where_a_value_is(dimension, value, u):
    assert dimension.where(value) == pytest.approx(u, rel=1e-12)


def test_draws_are_even():
    """Uniform points of the cube: numbers evenly, log-uniform ones evenly in their logarithm, options equally often."""
    space = Space(a=Uniform(2, 6), b=LogUniform(1e-3, 1e3), c=Integer(-2, 2), d=Choice("x", "y", "z"))
    draws = [space.parameters(point) for point in np.random.default_rng(0).random((20_000, 4))]
    column = lambda name: np.array([each[name] for each in draws])
    tolerance = 4 * 0.5 / math.sqrt(20_000)  # four standard deviations of a share at most
    assert np.mean(column("a") < 3) == pytest.approx(1 / 4, abs=tolerance)
    assert np.mean(column("b") < 0.1) == pytest.approx(1 / 3, abs=tolerance)
    for value in range(-2, 3):
        assert np.mean(column("c") == value) == pytest.approx(1 / 5, abs=tolerance)
    for value in "xyz":
        assert np.mean(column("d") == value) == pytest.approx(1 / 3, abs=tolerance)


def distance(space, a, b):
    """By hand: numbers by where they stand in their range, options 0 or 1."""
    total = 0.0
    for name, dimension in space.dimensions.items():
        x, y = a[name], b[name]
        if isinstance(dimension, Choice):
            total += float(x != y)
        elif isinstance(dimension, LogUniform):
            total += ((math.log(x) - math.log(y)) / math.log(dimension.high / dimension.low)) ** 2
        elif isinstance(dimension, Integer):
            total += ((x - y) / (dimension.high - dimension.low + 1)) ** 2
        else:
            total += ((x - y) / (dimension.high - dimension.low)) ** 2
    return math.sqrt(total)


def test_distances_between_features(rng):
    space = Space(a=Uniform(2, 6), b=LogUniform(1e-3, 1e3), c=Integer(-2, 2), d=Choice("x", "y", "z"), e=Choice(1))
    points = rng.random((30, 5))
    points[0], points[1] = 0.0, 1.0
    features = space.features(points)
    assert features.shape == (30, 1 + 1 + 1 + 3 + 1)
    draws = [space.parameters(point) for point in points]
    for i in range(30):
        for j in range(30):
            assert np.linalg.norm(features[i] - features[j]) == pytest.approx(
                distance(space, draws[i], draws[j]), abs=1e-12
            )
    again = space.features([space.point(parameters) for parameters in draws])
    np.testing.assert_allclose(again, features, atol=1e-12)
    np.testing.assert_array_equal(again[:, 2:], features[:, 2:])  # whole numbers and options to the last bit


def test_features_by_hand():
    space = Space(a=Uniform(2, 6), k=Integer(3, 6), init=Choice("x", "y", "z"))
    root = math.sqrt(0.5)
    np.testing.assert_array_equal(
        space.features([[0.1, 0.3, 0.4], [1.0, 1.0, 1.0]]), [[0.1, 0.375, 0, root, 0], [1, 0.875, 0, 0, root]]
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space(), "at least one hyper-parameter, got none"),
        (lambda: Space({}), "at least one hyper-parameter, got none"),
        (lambda: Space([("lr", Uniform(0, 1)), ("lr", Uniform(0, 2))]), "Space: lr given twice"),
        (lambda: Space({"lr": Uniform(0, 1)}, lr=Uniform(0, 1)), "Space: lr given twice"),
        (lambda: Space(lr=(0, 1)), r"'lr' must be one of Uniform, LogUniform, Integer, Choice, got \(0, 1\)"),
        (lambda: Space({3: Uniform(0, 1)}), "3 must be one of"),
        (lambda: Uniform(1, 0), "Uniform: expected finite numbers, low < high, got low=1, high=0$"),
        (lambda: Uniform("x", "x"), "Uniform: expected finite numbers, low < high, got low='x', high='x'$"),
        (lambda: Uniform(1, 1), r"low=1, high=1; for a single value write Choice\(value\)"),
        (lambda: Uniform(0, math.inf), "Uniform: expected finite numbers, low < high"),
        (lambda: Uniform(math.nan, 1), "Uniform: expected finite numbers, low < high"),
        (lambda: Uniform("0", 1), "Uniform: expected finite numbers, low < high, got low='0'"),
        (lambda: Uniform(False, True), "Uniform: expected finite numbers, low < high"),
        (lambda: LogUniform(0, 1), "LogUniform: expected finite numbers, 0 < low < high, got low=0, high=1"),
        (lambda: LogUniform(-1, 1), "LogUniform: expected finite numbers, 0 < low < high"),
        (lambda: LogUniform(2, 1), "LogUniform: expected finite numbers, 0 < low < high"),
        (lambda: LogUniform(1e300, np.nextafter(1e300, 2e300)), "LogUniform: expected finite numbers, 0 < low < high"),
        (lambda: Integer(1, 0), "Integer: expected whole numbers, low <= high, got low=1, high=0"),
        (lambda: Integer(0.5, 2), "Integer: expected whole numbers, low <= high, got low=0.5"),
        (lambda: Integer(False, True), "Integer: expected whole numbers"),
        (lambda: Choice(), "Choice: expected at least one option, got none"),
        (lambda: Choice("a", "b", "a"), "Choice: every option must be another"),
        (lambda: Choice(1, True), "Choice: every option must be another"),
        (lambda: Choice(math.nan), "options must be finite numbers, strings, True, False or None, got nan"),
        (lambda: Choice([1, 2]), r"options must be finite numbers, .* got \[1, 2\]"),
        (lambda: Space.from_json([["lr", "Normal", [0, 1]]]), "expected a space"),
        (lambda: Space.from_json([["lr", "Uniform", [0, 1, 2]]]), "expected a space"),
        (lambda: Space.from_json(None), "expected a space"),
    ],
)
def test_what_is_no_space(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"lr": 0.1, "k": 1, "init": "a", "momentum": 0}, "unknown hyper-parameter 'momentum'; known are lr, k, init"),
        ({"lr": 0.1, "k": 1}, "hyper-parameter 'init' is missing; needed are lr, k, init"),
        ({"lr": 2.0, "k": 1, "init": "a"}, r"hyper-parameter 'lr': expected a value of LogUniform\(.*, got 2.0"),
        ({"lr": math.nan, "k": 1, "init": "a"}, "hyper-parameter 'lr': expected a value of LogUniform.*, got nan"),
        ({"lr": "0.1", "k": 1, "init": "a"}, "hyper-parameter 'lr': expected a value of LogUniform.*, got '0.1'"),
        ({"lr": 0.1, "k": 0, "init": "a"}, "hyper-parameter 'k': expected a value of Integer.*, got 0"),
        ({"lr": 0.1, "k": 1.0, "init": "a"}, "hyper-parameter 'k': expected a value of Integer.*, got 1.0"),
        ({"lr": 0.1, "k": True, "init": "a"}, "hyper-parameter 'k': expected a value of Integer.*, got True"),
        ({"lr": 0.1, "k": 1, "init": "c"}, r"hyper-parameter 'init': expected one of \('a', 'b'\), got 'c'"),
    ],
)
def test_parameters_that_are_not_in_the_space(parameters, message):
    space = Space(lr=LogUniform(0.01, 1.0), k=Integer(1, 3), init=Choice("a", "b"))
    with pytest.raises(ValueError, match=message):
        space.point(parameters)


def test_options_of_numpy_are_plain():
    options = Choice(*np.array([1, 2])).options + Choice(*np.array([0.5, 1.5])).options
    assert options == (1, 2, 0.5, 1.5) and [type(option) for option in options] == [int, int, float, float]


def test_a_space_says_what_it_is():
    space = Space(lr=LogUniform(0.1, 1), k=Integer(1, 2), init=Choice("a", 1))
    assert repr(space) == "Space(lr=LogUniform(low=0.1, high=1), k=Integer(low=1, high=2), init=Choice('a', 1))"
    assert len(space) == 3


# --- any space (at the end: where a plain case fails first, hypothesis need not shrink its own) --------------

finite = st.floats(-1e308, 1e308)
ranges = st.tuples(finite, finite).filter(lambda pair: pair[0] < pair[1])
positive = st.tuples(st.floats(1e-300, 1e300), st.floats(1.001, 1e8)).map(lambda pair: (pair[0], pair[0] * pair[1]))
whole = st.tuples(st.integers(-1000, 1000), st.integers(0, 50)).map(lambda pair: (pair[0], pair[0] + pair[1]))
options = st.lists(st.one_of(st.text(), st.integers(2, 99), st.none()), min_size=1, max_size=6, unique=True)
dimensions = st.one_of(
    ranges.map(lambda pair: Uniform(*pair)),
    positive.map(lambda pair: LogUniform(*pair)),
    whole.map(lambda pair: Integer(*pair)),
    options.map(lambda some: Choice(*some)),
)
spaces = st.dictionaries(st.text(), dimensions, min_size=1, max_size=4).map(Space)
cube = st.floats(0, 1)


def inside(dimension, value):
    if isinstance(dimension, Choice):
        return value in dimension.options
    kind = int if isinstance(dimension, Integer) else float
    return type(value) is kind and dimension.low <= value <= dimension.high


@given(spaces, st.data())
def test_there_and_back(space, data):
    """A point's parameters are inside; the point of these has the same parameters, and nearly the same coordinates."""
    point = [data.draw(cube) for _ in range(len(space))]
    parameters = space.parameters(point)
    assert list(parameters) == list(space.dimensions)
    back = space.point(parameters)
    assert back.shape == (len(space),) and np.all((back >= 0) & (back <= 1))
    for u, v, (name, dimension) in zip(point, back, space.dimensions.items()):
        assert inside(dimension, parameters[name])
        if isinstance(dimension, Integer | Choice):
            assert dimension.at(v) == parameters[name]
            assert abs(u - v) <= 0.5 / dimension.count + 1e-12
        else:  # as many digits as the range leaves to u
            spread = math.log(dimension.high / dimension.low) if isinstance(dimension, LogUniform) else 1.0
            size = max(map(abs, (dimension.low, dimension.high)))
            width = spread if isinstance(dimension, LogUniform) else dimension.high / 2 - dimension.low / 2
            relative = 700.0 if isinstance(dimension, LogUniform) else size
            assert abs(u - v) <= 1e-14 * relative / width + 1e-15


@given(spaces, st.data())
def test_json_keeps_a_space(space, data):
    again = Space.from_json(space.to_json())
    assert again.to_json() == space.to_json() and again.dimensions == space.dimensions
    point = [data.draw(cube) for _ in range(len(space))]
    assert again.parameters(point) == space.parameters(point)
