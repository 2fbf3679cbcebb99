"""The three searches: which points they ask for, and that biased proposals have the density that they claim."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from minigrad.search import (
    BiasedRandomSearch,
    Choice,
    GridSearch,
    Integer,
    Kernel,
    LogUniform,
    NearestNeighbour,
    Outcome,
    RandomSearch,
    Space,
    Uniform,
    by_loss,
    by_rank,
    methods,
)
from minigrad.search.trial import rng as rng_of
from tests.search.toys import SPACE, valley

SEARCHES = [lambda **k: GridSearch(SPACE, 4, **k), lambda **k: RandomSearch(SPACE, **k),
            lambda **k: BiasedRandomSearch(SPACE, **k)]  # fmt: skip
each_search = pytest.mark.parametrize("make", SEARCHES, ids=["grid", "random", "biased"])


# --- asking and telling -----------------------------------------------------------------------------------


@each_search
def test_ask_and_tell(make):
    search = make(seed=3)
    first, second = search.ask(), search.ask(seconds=7.0)  # two at once
    assert (first.number, second.number, first.seconds, second.seconds) == (0, 1, None, 7.0)
    assert first["lr"] == first.parameters["lr"] and set(first.parameters) == {"lr", "layers", "init"}
    search.tell(second, 0.5)
    outcome = search.tell(first, (0.25, {"updates": 3}))
    assert outcome == Outcome(0, first.parameters, 0.25, notes={"updates": 3})
    assert [each.number for each in search.history.trials] == [0, 1]
    assert search.history.best == outcome and search.ask().number == 2
    with pytest.raises(ValueError, match="trial 0 was told before"):
        search.tell(first, 0.1)
    with pytest.raises(TypeError, match="tell: expected a Trial, as `ask` returns it, got 2"):
        search.tell(2, 0.1)


@each_search
def test_a_trial_depends_on_seed_and_number_alone(make):
    a, b = make(seed=3), make(seed=3)
    for _ in range(5):
        a.ask()
    assert b.trial(4) == make(seed=3).trial(4) == a.trial(4)
    assert a.trial(4).seed != make(seed=4).trial(4).seed != a.trial(5).seed
    assert 0 <= a.trial(4).seed < 2**53


def test_a_trial_is_the_same_in_years():
    """A history of today is resumed by minigrad of tomorrow: neither proposals nor seeds may move."""
    trial = RandomSearch(Space(x=Uniform(0, 1)), seed=3).trial(7)
    assert (trial["x"], trial.seed) == (0.3953732164355397, 6513662020137483)


def test_seeds_differ():
    seeds = [RandomSearch(SPACE, seed).trial(number).seed for seed in range(10) for number in range(100)]
    assert len(set(seeds)) == 1000


@each_search
def test_the_seed_is_0_unless_given(make):
    assert make().seed == 0


@each_search
@pytest.mark.parametrize("seed", [-1, 0.5, "0", None, True])
def test_a_seed_is_a_whole_number(make, seed):
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0, got"):
        make(seed=seed)


# --- grid -------------------------------------------------------------------------------------------------


def test_grid_is_all_combinations():
    space = Space(lr=LogUniform(1e-3, 1), init=Choice("a", "b"), k=Integer(1, 9), m=Uniform(-1, 1))
    search = GridSearch(space, {"lr": 4, "k": 3, "m": 2})
    found = [search.trial(number).parameters for number in range(len(search))]
    wanted = [
        dict(zip(("lr", "init", "k", "m"), values))
        for values in itertools.product([1e-3, 1e-2, 1e-1, 1], "ab", [1, 5, 9], [-1.0, 1.0])
    ]
    assert len(search) == 48
    for one, other in zip(found, wanted, strict=True):
        assert one["lr"] == pytest.approx(other["lr"], rel=1e-12)
        assert one | {"lr": 0} == other | {"lr": 0}


def test_george_2_3_the_grid_of_learning_rates():
    """{10^-3, 10^-2, 10^-1, 1}: an example of section 2.3."""
    search = GridSearch(Space(lr=LogUniform(1e-3, 1)), 4)
    assert [search.trial(k)["lr"] for k in range(4)] == pytest.approx([1e-3, 1e-2, 1e-1, 1], rel=1e-12)


@pytest.mark.parametrize(("low", "high", "count", "values"), [
    (1, 3, 10, [1, 2, 3]), (4, 4, 2, [4]), (0, 4, 4, [0, 1, 3, 4]), (-5, 6, 2, [-5, 6]),
])  # fmt: skip
def test_grid_of_whole_numbers(low, high, count, values):
    search = GridSearch(Space(k=Integer(low, high)), count)
    assert [search.trial(i)["k"] for i in range(len(search))] == values


def test_a_grid_ends():
    search = GridSearch(Space(init=Choice("a", "b", "c")))
    history = search.run(lambda trial: {"a": 2.0, "b": 1.0, "c": 3.0}[trial["init"]], 3)
    assert [each["init"] for each in history.trials] == ["a", "b", "c"] and history.best["init"] == "b"
    with pytest.raises(ValueError, match="the grid has 3 trials; got n_trials=4"):
        search.ask()
    with pytest.raises(ValueError, match="the grid has 3 trials; got n_trials=5"):
        search.run(valley, 5)


@pytest.mark.parametrize(("values", "message"), [
    (None, "lr needs a whole number of at least 2 values, got None"),
    (1, "lr needs a whole number of at least 2 values, got 1"),
    (2.0, "lr needs a whole number of at least 2 values, got 2.0"),
    (True, "lr needs a whole number of at least 2 values, got True"),
    ({"lr": 3}, "layers needs a whole number of at least 2 values, got None"),
    ({"lr": 3, "layers": 2, "decay": 2}, "unknown hyper-parameter 'decay'; known are lr, layers, init"),
])  # fmt: skip
def test_grids_that_make_no_sense(values, message):
    with pytest.raises(ValueError, match=message):
        GridSearch(SPACE, values)


# --- random and biased ------------------------------------------------------------------------------------


def test_random_search_is_even():
    space = Space(a=Uniform(0, 1), b=Uniform(0, 1))
    points = np.array([list(RandomSearch(space, 0).trial(k).parameters.values()) for k in range(2000)])
    for column in points.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(points.T)[0, 1]) < 4 / math.sqrt(2000)


def told(search, losses, seed=0):
    """Tell a search about so many random points; the points, and the losses with inf for None."""
    points = np.random.default_rng(seed).random((len(losses), len(search.space)))
    for number, (point, loss) in enumerate(zip(points, losses)):
        search.history.add(
            Outcome(number, search.space.parameters(point), loss, failed="diverged" if loss == math.inf else None)
        )
    return points


PLANE = Space(a=Uniform(0, 1), b=Uniform(0, 1))


@pytest.mark.parametrize("before", [6, None])
def test_george_algorithm_1(before):
    """The proposals are those of algorithm 1 as printed, one candidate after another, with the same random numbers."""
    search = BiasedRandomSearch(PLANE, seed=5)
    c = np.random.default_rng(1).normal(size=12)
    points = told(search, c)
    H, c = points[:before], c[:before]
    for number in range(100, 140):
        draw = rng_of(5, number)
        while True:
            *a, x = draw.random(3)
            c_estimate = c[np.argmin(np.sum((H - a) ** 2, axis=1))]
            p = (c.max() - c_estimate) / (c.max() - c.min())
            if x < p:
                break
        assert list(search.trial(number, before).parameters.values()) == pytest.approx(a, rel=1e-12)


@pytest.mark.parametrize("rule", [by_loss, by_rank])
@pytest.mark.parametrize("model", [NearestNeighbour(), Kernel(0.2)], ids=str)
def test_biased_proposals_have_the_density_p(model, rule):
    """Chi-square over a 6 by 6 grid of cells, against p integrated over each cell."""
    search = BiasedRandomSearch(PLANE, 0, model=model, acceptance=rule)
    points = told(search, np.linspace(0, 1, 9) ** 2)
    fine = (np.arange(300) + 0.5) / 300
    grid = np.stack(np.meshgrid(fine, fine, indexing="ij"), axis=-1).reshape(-1, 2)
    p = model(points, rule(np.linspace(0, 1, 9) ** 2), grid).reshape(6, 50, 6, 50).sum(axis=(1, 3))
    drawn = np.array([search.propose(number) for number in range(1000, 3500)])
    counts = np.histogram2d(*drawn.T, bins=6, range=[[0, 1], [0, 1]])[0]
    expected = p / p.sum() * len(drawn)
    assert counts[p == 0].sum() == 0
    kept = expected > 5
    assert stats.chisquare(counts[kept], expected[kept] * counts[kept].sum() / expected[kept].sum()).pvalue > 0.01
    even = np.full((6, 6), len(drawn) / 36)
    assert stats.chisquare(counts.ravel(), even.ravel()).pvalue < 1e-9  # the test could tell random search from it


def test_biased_proposals_of_options_and_whole_numbers():
    """One trial each of the six combinations: shares of proposals are proportional to p."""
    space = Space(init=Choice("a", "b"), k=Integer(1, 3))
    search = BiasedRandomSearch(space)
    combinations = list(itertools.product("ab", [1, 2, 3]))
    for number, (init, k) in enumerate(combinations):
        search.history.add(Outcome(number, {"init": init, "k": k}, float(number)))
    drawn = [tuple(search.trial(number).parameters.values()) for number in range(100, 1600)]
    counts = np.array([drawn.count(combination) for combination in combinations])
    p = (5 - np.arange(6)) / 15
    assert counts[5] == 0
    assert stats.chisquare(counts[:5], 1500 * p[:5]).pvalue > 0.01


@pytest.mark.parametrize(
    "losses",
    [[], [math.inf], [math.inf] * 5, [2.0], [2.0] * 5, [-1e308] * 2],
    ids=["no trial", "one failed", "all failed", "one", "all equal", "equal and huge"],
)
def test_where_nothing_is_known_the_search_is_random(losses):
    """No history, c_max = c_min, or nothing but failures: everything is accepted, the first point that is drawn."""
    biased, random = BiasedRandomSearch(PLANE, 1), RandomSearch(PLANE, 1)
    told(biased, losses)
    for number in range(50, 60):
        assert biased.trial(number) == random.trial(number)


def test_a_failure_is_avoided_even_where_all_losses_agree():
    search = BiasedRandomSearch(Space(init=Choice("a", "b")))
    search.history.add(Outcome(0, {"init": "a"}, 1.0))
    search.history.add(Outcome(1, {"init": "b"}, math.inf, failed="diverged"))
    assert {search.trial(number)["init"] for number in range(2, 60)} == {"a"}


def counting(p):
    """A model that gives p(points) whatever it was told, and a list of how many points it was asked about."""
    asked = []

    def model(told, values, at):
        asked.append(len(at))
        return p(at)

    return model, asked


def test_an_acceptance_of_zero_everywhere_is_a_random_draw(monkeypatch):
    model, asked = counting(lambda at: np.zeros(len(at)))
    search = BiasedRandomSearch(PLANE, model=model)
    told(search, [1.0, 2.0])
    drawn = np.array([search.propose(number) for number in range(10, 510)])
    assert sum(asked) == 500 * methods.PROPOSALS
    assert set(asked) == {8, 16, 32, 64, 128, 256, 488}  # doubling, a thousand at most
    assert all(stats.kstest(column, "uniform").pvalue > 0.01 for column in drawn.T)


def test_a_rare_acceptance_keeps_its_density():
    """p(a) = 1e-4 in a strip of a tenth, 3e-4 in another, else 0: a thousand proposals find nothing 49 times in 50."""
    at_left, at_right = (lambda at: at[:, 0] < 0.1), (lambda at: at[:, 0] > 0.9)
    model, asked = counting(lambda at: 1e-4 * at_left(at) + 3e-4 * at_right(at))
    search = BiasedRandomSearch(PLANE, model=model)
    told(search, [1.0, 2.0])
    drawn = np.array([search.propose(number) for number in range(10, 810)])
    left, right = int(at_left(drawn).sum()), int(at_right(drawn).sum())
    assert left + right == 800
    assert stats.binomtest(left, 800, 0.25).pvalue > 0.01


def test_weights_of_rejected_points_undo_the_rejection(monkeypatch):
    """Two proposals, p = 0.8 in one half and 0.4 in the other: rejected both, they have the odds 4 to 2/3."""
    monkeypatch.setattr(methods, "PROPOSALS", 2)
    p = lambda at: np.where(at[:, 0] < 0.5, 0.8, 0.4)
    model, _ = counting(p)
    search = BiasedRandomSearch(PLANE, model=model)
    told(search, [1.0, 2.0])
    left = []
    for number in range(10, 3010):
        rows = rng_of(0, number).random((2, 3))
        if np.all(rows[:, 2] >= p(rows)) and (rows[0, 0] < 0.5) != (rows[1, 0] < 0.5):
            left.append(search.propose(number)[0] < 0.5)
    assert stats.binomtest(sum(left), len(left), 6 / 7).pvalue > 0.01 and len(left) > 150


def test_a_model_that_leaves_0_to_1_is_clipped():
    search = BiasedRandomSearch(PLANE, model=lambda told, values, at: 5 * at[:, 0] - 2)
    told(search, [1.0, 2.0])
    p = search.p_at(None, None, np.array([[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]))
    np.testing.assert_allclose(p, [0, 0.5, 1])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda losses: losses * math.nan, r"acceptance of BiasedRandomSearch\(.*<lambda>\) must give 2 numbers"),
        (lambda losses: losses, r"must give 2 numbers in \[0, 1\], got \[1. 2.\]"),
        (lambda losses: -losses, r"must give 2 numbers in \[0, 1\]"),
        (lambda losses: [0.5], r"must give 2 numbers in \[0, 1\], got \[0.5\]"),
    ],
)
def test_a_rule_that_gives_no_probabilities(rule, message):
    search = BiasedRandomSearch(PLANE, acceptance=rule)
    told(search, [1.0, 2.0])
    with pytest.raises(ValueError, match=message):
        search.ask()


@pytest.mark.parametrize(
    "model", [lambda told, p, at: at[:, 0] * math.nan, lambda told, p, at: at, lambda told, p, at: 1.0]
)
def test_a_model_that_gives_no_estimates(model):
    search = BiasedRandomSearch(PLANE, model=model)
    told(search, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"the model of BiasedRandomSearch\(.*must give 8 finite numbers, got"):
        search.ask()


@pytest.mark.parametrize("model", [NearestNeighbour(), Kernel(0.2)], ids=str)
def test_the_expected_loss(model):
    """With a failed trial as the worst other; the thesis' p is read off it."""
    search = BiasedRandomSearch(PLANE, model=model)
    points = told(search, [3.0, math.inf, 1.0, 2.0])
    at = np.random.default_rng(1).random((20, 2))
    c = np.array([3.0, 3.0, 1.0, 2.0])
    np.testing.assert_allclose(search.expect(at), model(points, c, at), rtol=1e-12)
    p = search.p_at(points, search.p_of(np.array([3.0, math.inf, 1.0, 2.0])), at)
    np.testing.assert_allclose(p, (3 - search.expect(at)) / 2, atol=1e-12)
    with pytest.raises(ValueError, match="of 1 trials none succeeded, so that there is no loss to expect"):
        failed = BiasedRandomSearch(PLANE)
        told(failed, [math.inf])
        failed.expect(at)


def test_bias_finds_better_ones():
    """On the toy valley, of 40 searches of 40 trials the biased ones have the better mean loss nearly always."""
    means = []
    for make in (RandomSearch, BiasedRandomSearch):
        runs = [make(SPACE, seed).run(valley, 40, batch=1).trials for seed in range(10)]
        means.append(np.array([np.mean([each.loss for each in run]) for run in runs]))
    assert np.all(means[1] < means[0])


def test_searches_say_what_they_are():
    assert repr(GridSearch(SPACE, 3, seed=1)) == "GridSearch(values=3, seed=1)"
    assert repr(RandomSearch(SPACE, 2)) == "RandomSearch(seed=2)"
    assert repr(BiasedRandomSearch(SPACE, 2)) == (
        "BiasedRandomSearch(seed=2, model=NearestNeighbour(), acceptance=by_loss)"
    )
