"""Histories: what a file holds, every way in which it can be wrong, resuming and merging."""

import json
import math
import warnings

import numpy as np
import pytest

from minigrad.search import (
    BiasedRandomSearch,
    GridSearch,
    History,
    LogUniform,
    Outcome,
    RandomSearch,
    Space,
    Trial,
    Uniform,
    load,
)
from minigrad.search.trial import evaluate, judge
from tests.search.toys import SPACE, moody, valley

TRIAL = Trial(3, {"lr": 0.1}, seed=1)
LINE = Space(x=Uniform(0, 1))


# --- what came of a trial ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "loss"),
    [(0.5, 0.5), (2, 2.0), (np.float32(0.5), 0.5), (np.array(0.5), 0.5), (np.array([[0.5]]), 0.5), (-1e300, -1e300)],
)
def test_numbers_are_losses(returned, loss):
    outcome = judge(TRIAL, returned)
    assert outcome == Outcome(3, {"lr": 0.1}, loss) and type(outcome.loss) is float


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (math.nan, "returned nan, expected a finite number"),
        (math.inf, "returned inf, expected a finite number"),
        (-math.inf, "returned -inf, expected a finite number"),
        (np.float32("nan"), "returned nan, expected a finite number"),
        ("0.3", "returned '0.3', expected a number"),
        (None, "returned None, expected a number"),
        (True, "returned True, expected a number"),
        (1 + 2j, r"returned \(1\+2j\), expected a number"),
        (np.zeros(2), "can only convert an array of size 1"),
        ([0.3], r"returned \[0.3\], expected a number"),
        (10**400, "int too large to convert to float"),
        ((0.3, "notes"), "returned the notes 'notes', expected a dictionary"),
        ((0.3, {"x": math.nan}), "returned notes that JSON cannot hold: "),
        ((0.3, {"x": object()}), "returned notes that JSON cannot hold: "),
        ((math.nan, {}), "returned nan, expected a finite number"),
    ],
)
def test_everything_else_has_failed(returned, reason):
    outcome = judge(TRIAL, returned)
    assert outcome.loss == math.inf and outcome.notes is None
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(outcome.failed)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("diverged\n  at 3"), "ValueError: diverged at 3"),
        (SystemExit(2), "SystemExit: 2"),
        (MemoryError(), "MemoryError:"),
        (ValueError("x" * 10_000), "ValueError: " + "x" * 488),
    ],
)
def test_an_exception_has_failed_too(error, reason):
    def raises(trial):
        raise error

    assert evaluate(raises, TRIAL) == Outcome(3, {"lr": 0.1}, math.inf, failed=reason)


def test_ctrl_c_is_no_failure():
    def pressed(trial):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(pressed, TRIAL)


# --- in memory --------------------------------------------------------------------------------------------


def outcome(number, x, loss=0.5, **more):
    return Outcome(number, {"x": x}, loss, **more)


def test_trials_are_by_number_whatever_their_order():
    one, other = History(LINE, "a"), History(LINE, "a")
    outcomes = [outcome(number, number / 9, loss=number % 4) for number in range(9)]
    for each in outcomes:
        one.add(each)
    for each in [outcomes[i] for i in (4, 1, 8, 0, 7, 2, 3, 6, 5)]:
        other.add(each)
    assert one.trials == other.trials == outcomes and len(one) == 9 and 8 in one and 9 not in one
    assert one.best == other.best == outcomes[0]
    for before, count in [(None, 9), (0, 0), (5, 5), (100, 9)]:
        for history in (one, other):
            features, losses = history.seen(before)
            np.testing.assert_array_equal(features[:, 0], np.arange(count) / 9)
            np.testing.assert_array_equal(losses, np.arange(count) % 4)


def test_numbers_may_have_gaps():
    history = History(LINE, "a")
    history.add(outcome(5, 0.5, math.inf, failed="no"))
    history.add(outcome(2, 0.2, 3.0))
    features, losses = history.seen()
    np.testing.assert_array_equal(features, [[0.2], [0.5]])
    np.testing.assert_array_equal(losses, [3.0, math.inf])
    np.testing.assert_array_equal(history.seen(before=3)[1], [3.0])


def test_the_same_outcome_twice_is_once_and_another_is_an_error():
    history = History(LINE, "a")
    history.add(outcome(0, 0.5))
    history.add(outcome(0, 0.5))
    assert len(history) == 1
    with pytest.raises(ValueError, match="trial 0 is in the history with another outcome"):
        history.add(outcome(0, 0.5, loss=0.4))


def test_parameters_outside_the_space_are_refused():
    with pytest.raises(ValueError, match="hyper-parameter 'x': expected a value of Uniform"):
        History(LINE, "a").add(outcome(0, 1.5))


def test_there_is_no_best_where_nothing_succeeded():
    history = History(LINE, "a")
    with pytest.raises(ValueError, match=r"of 0 trials none succeeded$"):
        _ = history.best
    history.add(outcome(0, 0.5, math.inf, failed="ValueError: no"))
    with pytest.raises(ValueError, match="of 1 trials none succeeded; the first failed: ValueError: no"):
        _ = history.best
    history.add(outcome(1, 0.25, 1e9))
    assert history.best.number == 1


# --- the file ---------------------------------------------------------------------------------------------


def searched(path, n_trials, fn=valley, seed=0, **how):
    return BiasedRandomSearch(SPACE, seed, history=path).run(fn, n_trials, **how)


def test_the_file_grows_trial_by_trial(tmp_path):
    path = tmp_path / "deeper" / "search.jsonl"
    lines = []

    def fn(trial):
        lines.append(len(path.read_text().splitlines()))
        return 0.5

    searched(path, 4, fn)
    assert lines == [1, 2, 3, 4]


def test_what_the_file_looks_like(tmp_path):
    path = tmp_path / "search.jsonl"
    searched(path, 6, moody)
    header, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert header == {
        "format": "minigrad search",
        "version": 1,
        "search": "BiasedRandomSearch(seed=0, model=NearestNeighbour(), acceptance=by_loss)",
        "space": [
            ["lr", "LogUniform", [1e-4, 1.0]],
            ["layers", "Integer", [1, 4]],
            ["init", "Choice", ["Glorot", "sparse"]],
        ],
    }
    assert [line["number"] for line in lines] == list(range(6))
    assert set(lines[0]) == {"number", "parameters", "loss"}
    assert [line["loss"] for line in lines[1:]] == [None] * 5
    assert [line["failed"] for line in lines[1:]] == [
        "ValueError: diverged at update 3",
        "returned nan, expected a finite number",
        "returned inf, expected a finite number",
        "returned '0.3', expected a number",
        "returned None, expected a number",
    ]


def test_reading_gives_back_what_was_written(tmp_path):
    path = tmp_path / "search.jsonl"
    notes = {"updates": 3, "name": "Größe\n\udc80", "more": (1.5, None, True), 7: {}}
    written = searched(path, 20, lambda trial: (valley(trial), notes) if trial.number % 3 else math.nan)
    read = load(path)
    assert read.trials[1].notes == {"updates": 3, "name": "Größe\n\udc80", "more": [1.5, None, True], "7": {}}
    assert read.trials == written.trials and read.best == written.best and read.search == written.search
    np.testing.assert_array_equal(read.seen()[0], written.seen()[0])


@pytest.mark.parametrize("batch", [1, 4])
def test_resumed_after_a_cut_at_every_byte_of_the_last_line(tmp_path, batch):
    """The same sequence to the last bit, and the same file."""
    whole = tmp_path / "whole.jsonl"
    wanted = searched(whole, 10, moody, batch=batch).trials
    data = whole.read_bytes()
    for cut in range(data.rindex(b"\n", 0, -1) + 1, len(data)):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(data[:cut])
        torn = data[cut - 1 : cut] != b"\n"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = searched(path, 10, moody, batch=batch)
        assert [str(each.message) for each in caught] == [
            f"history {path}: its last line was cut off, as by a kill; it is left out"
        ] * torn
        assert history.trials == wanted and path.read_bytes() == data


def test_a_header_cut_off_is_written_again(tmp_path):
    whole, path = tmp_path / "whole.jsonl", tmp_path / "search.jsonl"
    searched(whole, 1)
    header = whole.read_bytes().splitlines(keepends=True)[0]
    for cut in [*range(0, len(header), 11), len(header) - 1]:
        path.write_bytes(header[:cut])
        BiasedRandomSearch(SPACE, 0, history=path)
        assert path.read_bytes() == header
    BiasedRandomSearch(SPACE, 0, history=path)
    assert path.read_bytes() == header


def test_a_run_that_is_over_does_nothing(tmp_path):
    path = tmp_path / "search.jsonl"
    searched(path, 5)
    before = path.read_bytes()
    history = searched(path, 5, fn=None)
    assert len(history) == 5 and path.read_bytes() == before


def test_more_trials_are_those_of_a_longer_run(tmp_path):
    """Rounds stand at multiples of the batch, wherever a run ended."""
    path = tmp_path / "search.jsonl"
    for n_trials in (3, 6, 7, 14):
        history = searched(path, n_trials, batch=4)
    assert history.trials == searched(None, 14, batch=4).trials


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff", r"expected a minigrad search, found b'\\x89PNG\\r'"),
        (b"lr,loss\n0.1,3\n", "expected a minigrad search, found b'lr,loss'"),
        (b"lr,loss", "expected a minigrad search, found b'lr,loss'"),
        (b"[1, 2]\n", "expected a minigrad search, found other JSON"),
        (b'{"format": "minigrad record", "version": 1}\n', "expected a minigrad search, found other JSON"),
        (b'{"format": "minigrad search", "version": 2}\n', "expected version 1, found version 2"),
        (b'{"format": "minigrad search", "version": 1}\n', "expected the name of a search, found None"),
        (b'{"format": "minigrad search", "version": 1, "search": "S"}\n', "expected a space, found"),
        (
            b'{"format": "minigrad search", "version": 1, "search": "S", "space": [["x", "Uniform", [1, 0]]]}\n',
            "expected a space, found Uniform: expected finite numbers, low < high",
        ),
    ],
)
def test_a_foreign_file_is_refused(tmp_path, content, message):
    path = tmp_path / "search.jsonl"
    path.write_bytes(content)
    for use in (load, lambda path: RandomSearch(SPACE, history=path)):
        with pytest.raises(ValueError, match=f"history .*search.jsonl cannot be used: {message}"):
            use(path)
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"number": 1, "parameters": {"x": 0.5}, "lo', "damaged in line 3"),
        ("", "damaged in line 3"),
        ("[1]", r"damaged in line 3: expected a trial with number, .*, found \[1\]"),
        ('{"number": 1, "loss": 2.0}', "damaged in line 3: expected a trial with number"),
        ('{"number": 1, "parameters": {"x": 0.5}, "loss": 2.0, "color": 3}', "damaged in line 3: expected a trial"),
        ('{"number": -1, "parameters": {"x": 0.5}, "loss": 2.0}', "expected a number of 0 or more, found -1"),
        ('{"number": true, "parameters": {"x": 0.5}, "loss": 2.0}', "expected a number of 0 or more, found True"),
        ('{"number": 1.0, "parameters": {"x": 0.5}, "loss": 2.0}', "expected a number of 0 or more, found 1.0"),
        ('{"number": 1, "parameters": [0.5], "loss": 2.0}', r"expected parameters by name, found \[0.5\]"),
        ('{"number": 1, "parameters": {"y": 0.5}, "loss": 2.0}', "unknown hyper-parameter 'y'"),
        ('{"number": 1, "parameters": {"x": 1.5}, "loss": 2.0}', "hyper-parameter 'x': expected a value of Uniform"),
        ('{"number": 1, "parameters": {"x": 0.5}, "loss": "2"}', "expected a finite loss, or null and a reason"),
        ('{"number": 1, "parameters": {"x": 0.5}, "loss": true}', "expected a finite loss, or null and a reason"),
        ('{"number": 1, "parameters": {"x": 0.5}, "loss": NaN}', "expected a finite loss, or null and a reason"),
        ('{"number": 1, "parameters": {"x": 0.5}, "loss": null}', "expected a finite loss, or null and a reason"),
        ('{"number": 1, "parameters": {"x": 0.5}, "loss": 1, "failed": "x"}', "expected a finite loss, or null and"),
        ('{"number": 0, "parameters": {"x": 0.5}, "loss": 3}', "trial 0 is in the history with another outcome"),
    ],
)
def test_damage_names_the_line(tmp_path, line, message):
    path = tmp_path / "search.jsonl"
    search = RandomSearch(LINE, history=path)
    search.history.add(outcome(0, 0.25))
    whole = '{"number": 2, "parameters": {"x": 0.5}, "loss": 2}\n'
    path.write_text(path.read_text() + line + "\n" + whole)
    for use in (load, lambda path: RandomSearch(LINE, history=path)):
        with pytest.raises(ValueError, match=message) as caught:
            use(path)
        assert str(caught.value).startswith(f"history {path} is damaged in line 3: ")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: RandomSearch(SPACE, 1, path), r"expected RandomSearch\(seed=1\), found RandomSearch\(seed=0\)"),
        (lambda path: GridSearch(SPACE, 3, 0, path), r"expected GridSearch\(values=3, seed=0\), found RandomSearch"),
        (lambda path: RandomSearch(LINE, 0, path), r"expected Space\(x=Uniform.*, found Space\(lr=LogUniform"),
        (
            lambda path: RandomSearch(Space(SPACE.dimensions | {"lr": LogUniform(1e-4, 2.0)}), 0, path),
            r"expected Space\(lr=LogUniform\(low=0.0001, high=2.0\)",
        ),
        (lambda path: RandomSearch(Space(dict(reversed(SPACE.dimensions.items()))), 0, path), "expected Space"),
    ],
)
def test_another_search_s_file_is_refused(tmp_path, make, message):
    path = tmp_path / "search.jsonl"
    RandomSearch(SPACE, 0, path).run(valley, 2)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"cannot be used: {message}"):
        make(path)
    assert path.read_bytes() == before


def test_two_searches_cannot_share_a_file(tmp_path):
    path = tmp_path / "search.jsonl"
    one, other = RandomSearch(SPACE, 0, path), RandomSearch(SPACE, 0, path)
    one.tell(one.ask(), 0.5)
    with pytest.raises(RuntimeError, match=r"expected \d+ bytes, found \d+; something else has written there"):
        other.tell(other.ask(), 0.5)
    path.unlink()
    with pytest.raises(RuntimeError, match="found 0; something else"):
        one.tell(one.ask(), 0.5)


def test_load_needs_a_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "search.jsonl")


# --- merging ----------------------------------------------------------------------------------------------


def test_two_searches_merge(tmp_path):
    """The union of both, each trial with its number and its origin; models know all of them."""
    a, b = RandomSearch(SPACE, 0, tmp_path / "a.jsonl"), RandomSearch(SPACE, 1, tmp_path / "b.jsonl")
    a.run(valley, 4)
    b.run(moody, 12)
    merged = BiasedRandomSearch(SPACE, 2, tmp_path / "merged.jsonl")
    merged.run(valley, 3)
    merged.history.adopt(a.history)
    merged.history.adopt(tmp_path / "b.jsonl")
    size = (tmp_path / "merged.jsonl").stat().st_size
    merged.history.adopt(a.history)  # again: nothing new
    assert (tmp_path / "merged.jsonl").stat().st_size == size
    assert [each.number for each in merged.history.trials] == [0, 1, 2] and len(merged.history) == 3
    origins = [(each.origin, each.number) for each in merged.history.others]
    assert origins == [("RandomSearch(seed=0)", k) for k in range(4)] + [("RandomSearch(seed=1)", k) for k in range(12)]
    losses = [each.loss for each in a.history.trials + b.history.trials + merged.history.trials]
    features, seen = merged.history.seen()
    np.testing.assert_array_equal(seen, losses)
    np.testing.assert_array_equal(features[:4], a.history.seen()[0])
    assert len(merged.history.seen(before=0)[1]) == 16
    assert merged.history.best.loss == min(losses)
    again = BiasedRandomSearch(SPACE, 2, tmp_path / "merged.jsonl")
    assert again.history.others == merged.history.others and again.trial(3) == merged.trial(3)
    assert again.trial(3) != BiasedRandomSearch(SPACE, 2).trial(3)
    third = BiasedRandomSearch(SPACE, 3)
    third.history.adopt(merged.history)  # whose own trials have an origin now, the others keep theirs
    assert {each.origin for each in third.history.others} == {
        "RandomSearch(seed=0)", "RandomSearch(seed=1)", repr(merged),
    }  # fmt: skip
    assert len(third.history.others) == 19


def test_the_best_of_equals_is_the_search_s_own():
    one, other = History(LINE, "one"), History(LINE, "other")
    one.add(outcome(7, 0.7))
    other.add(outcome(2, 0.2))
    one.adopt(other)
    assert one.best.number == 7
    other.adopt(one)
    assert other.best.number == 2
    one.add(outcome(3, 0.3))
    assert one.best.number == 3


def test_a_merge_does_not_depend_on_the_order():
    parts = [RandomSearch(SPACE, seed).run(valley, 3) for seed in range(3)]
    one, other = BiasedRandomSearch(SPACE, 9), BiasedRandomSearch(SPACE, 9)
    for part in parts:
        one.history.adopt(part)
    for part in reversed(parts):
        other.history.adopt(part)
    assert one.history.others == other.history.others and one.trial(0) == other.trial(0)


def test_trials_of_the_same_search_become_its_own():
    """A search that ran on two machines: what both have is there once, and it goes on where the longer one ended."""
    short, long = RandomSearch(SPACE, 0), RandomSearch(SPACE, 0)
    short.run(valley, 3)
    long.run(valley, 7)
    short.history.adopt(long.history)
    assert short.history.trials == long.history.trials and not short.history.others
    assert short.ask().number == 7


def test_different_outcomes_of_one_trial_do_not_merge():
    one, other = RandomSearch(SPACE, 0), RandomSearch(SPACE, 0)
    one.run(valley, 3)
    other.run(valley, 1)
    other.tell(other.ask(), 99.0)
    other.run(valley, 5)
    with pytest.raises(ValueError, match="trial 1 is in the history with another outcome"):
        one.history.adopt(other.history)
    assert len(one.history) == 3


def test_different_spaces_do_not_merge():
    with pytest.raises(ValueError, match="histories of different spaces cannot be merged"):
        RandomSearch(SPACE).history.adopt(RandomSearch(LINE).history)
    turned = Space(dict(reversed(SPACE.dimensions.items())))  # the order of names is no difference
    history = RandomSearch(turned, 1).run(valley, 2)
    search = RandomSearch(SPACE, 0)
    search.history.adopt(history)
    assert [each.parameters for each in search.history.others] == [each.parameters for each in history.trials]
