"""Deformed digits: known deformations move known pixels, draws keep to their strengths, any part can be made again."""

import dataclasses

import numpy as np
import pytest

from minigrad.data import Deformation, DeformedDigits
from minigrad.data.deformed import BLOCK, affine, elastic, warp

STILL = Deformation(rotation=0, scale=0, shear=0, translation=0, alpha=0)
SIDE = 7
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def images(n, side=SIDE, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).random((n, side, side)).astype(dtype)


def moved(x, rotation=0.0, stretch=(1.0, 1.0), shear=0.0, shift=(0.0, 0.0)):
    """Each image under one affine deformation."""
    n = len(x)
    repeated = lambda values: np.repeat(np.array(values, float)[:, None], n, axis=1)
    where = affine(np.full(n, rotation), repeated(stretch), np.full(n, shear), repeated(shift), x.shape[1], x.dtype)
    return warp(x, where)


def stream(seed=0, samples=20, dtype=np.float32, deformation=None, side=SIDE):
    """Images that know their label: t[i] = 10 + i."""
    x = images(samples, side, dtype).reshape(samples, -1)
    return DeformedDigits(x, 10 + np.arange(samples), seed, deformation)


# --- known deformations ---------------------------------------------------------------------------------


@FLOATS
def test_nothing_moves_at_strength_zero(dtype):
    x, t = (digits := stream(dtype=dtype, deformation=STILL)).samples(0, 100)
    assert x.dtype == dtype and x.shape == (100, SIDE * SIDE)
    np.testing.assert_array_equal(x, digits.x[t - 10])  # and the label follows its image
    assert len(set(t)) == 20  # with replacement, so 100 draws of 20 repeat


@FLOATS
@pytest.mark.parametrize("quarters", [1, 2, 3, 4])
@pytest.mark.parametrize("side", [6, 7])
def test_quarter_turns_are_counterclockwise(dtype, quarters, side):
    x = images(3, side, dtype)
    # exact but for the rounding of positions: a share of 1 - eps of one pixel and eps of the next
    atol = 20 * side * np.finfo(dtype).eps
    np.testing.assert_allclose(moved(x, 90.0 * quarters), np.rot90(x, quarters, axes=(1, 2)), atol=atol)


@FLOATS
@pytest.mark.parametrize("down, right", [(0, 2), (3, 0), (-1, 2), (2, -3), (0, 7), (-30, 0), (0, 1000)])
def test_whole_pixels_shift_exactly_and_zeros_come_in(dtype, down, right):
    x = images(3, dtype=dtype)
    expected = np.zeros_like(x)
    for row in range(SIDE):
        for column in range(SIDE):
            if 0 <= row - down < SIDE and 0 <= column - right < SIDE:
                expected[:, row, column] = x[:, row - down, column - right]
    np.testing.assert_array_equal(moved(x, shift=(down, right)), expected)


def test_half_a_pixel_is_the_mean_of_two_and_fades_at_the_border():
    x = images(2, dtype=np.float64)
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    np.testing.assert_allclose(moved(x, shift=(0, 0.5)), (wide[:, 1:-1, 1:-1] + wide[:, 1:-1, :-2]) / 2, atol=1e-15)
    np.testing.assert_allclose(moved(x, shift=(-0.5, 0)), (wide[:, 1:-1, 1:-1] + wide[:, 2:, 1:-1]) / 2, atol=1e-15)


def test_a_quarter_of_a_pixel_both_ways_weighs_four():
    x = images(1, dtype=np.float64)
    y = moved(x, shift=(-0.25, -0.75))
    corners = 0.75 * 0.25 * x[:, 2, 3] + 0.75 * 0.75 * x[:, 2, 4] + 0.25 * 0.25 * x[:, 3, 3] + 0.25 * 0.75 * x[:, 3, 4]
    np.testing.assert_allclose(y[:, 2, 3], corners, rtol=1e-14)


def brute(x, rotation, stretch, shear, shift):
    """The deformation as a forward map of points, inverted by solving; bilinear by the hat function."""
    side = len(x)
    a, lean, middle = np.deg2rad(rotation), np.tan(np.deg2rad(shear)), (side - 1) / 2
    D = np.diag(stretch)
    S = np.array([[1.0, 0.0], [-lean, 1.0]])  # a point further up (row smaller) goes further right
    R = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    y = np.zeros_like(x)
    for p in np.ndindex(side, side):
        row, column = np.linalg.solve(R @ S @ D, np.array(p) - middle - shift) + middle
        for i, j in np.ndindex(side, side):
            y[p] += max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j)) * x[i, j]
    return y


@pytest.mark.parametrize("parts", [
    {"rotation": 20.0}, {"stretch": (1.3, 0.8)}, {"shear": 25.0}, {"shift": (0.7, -1.2)},
    {"rotation": -33.0, "stretch": (0.7, 1.2), "shear": 15.0, "shift": (-1.1, 0.4)},
])  # fmt: skip
def test_affine_deformations_compose_as_stated(parts):
    x = images(2, dtype=np.float64)
    full = {"rotation": 0.0, "stretch": (1.0, 1.0), "shear": 0.0, "shift": (0.0, 0.0)} | parts
    np.testing.assert_allclose(moved(x, **parts), [brute(one, **full) for one in x], atol=1e-13)


def test_shear_leans_an_upright_line_to_the_right():
    x = np.zeros((1, SIDE, SIDE))
    x[0, :, 3] = 1
    columns = moved(x, shear=45.0)[0].argmax(axis=1)
    np.testing.assert_array_equal(columns, [6, 5, 4, 3, 2, 1, 0])


def test_stretching_makes_larger():
    x = np.zeros((1, SIDE, SIDE))
    x[0, 2:5, 3] = 1
    tall, wide = moved(x, stretch=(2.0, 1.0))[0], moved(x, stretch=(1.0, 2.0))[0]
    assert (tall[:, 3] > 0).sum() == 7 and (wide[3] > 0).sum() == 3


# --- the elastic part -----------------------------------------------------------------------------------


@FLOATS
def test_elastic_deviation_is_alpha_at_every_pixel(dtype):
    n, alpha = 20_000, 1.7
    field = elastic(n, alpha, sigma=1.5, side=9, rng=np.random.default_rng(0), dtype=dtype)
    assert field.dtype == dtype and field.shape == (n, 2, 9, 9)
    # the deviation of n draws is off by alpha / sqrt(2 n) = 0.5 %, of the mean by alpha / sqrt(n): five of these
    np.testing.assert_allclose(field.std(axis=0), alpha, rtol=0.025)
    np.testing.assert_allclose(field.mean(axis=0), 0, atol=5 * alpha / n**0.5)


def test_elastic_displacement_is_smooth_over_sigma():
    """White noise under a Gaussian kernel correlates as exp(-d^2 / 4 sigma^2), along each axis and not between them."""
    n, sigma, side = 20_000, 2.0, 25
    field = elastic(n, 1.0, sigma, side, np.random.default_rng(1))
    centre, down, right = field[:, 0, 12, 12], field[:, 0, 15, 12], field[:, 0, 12, 14]
    assert np.mean(centre * down) == pytest.approx(np.exp(-(3**2) / (4 * sigma**2)), abs=0.03)
    assert np.mean(centre * right) == pytest.approx(np.exp(-(2**2) / (4 * sigma**2)), abs=0.03)
    assert np.mean(centre * field[:, 1, 12, 12]) == pytest.approx(0, abs=0.03)


def test_simards_alpha_in_pixels():
    """alpha = 34 and sigma = 4 of Simard et al. are 1.4 pixels: their smoothing, done as they say."""
    place = np.arange(-20, 21)
    kernel = np.exp(-(place**2) / (2 * 4.0**2))
    kernel /= kernel.sum()
    theirs = 34 * np.sqrt(np.sum(np.outer(kernel, kernel) ** 2) / 3)  # the variance of uniform noise is 1/3
    assert theirs == pytest.approx(34 / (4 * np.sqrt(12 * np.pi)), rel=1e-6) == pytest.approx(1.384, abs=1e-3)


# --- draws ----------------------------------------------------------------------------------------------


def parts_of(where):
    """Rotation, stretches, shear (degrees) and shift of each drawn affine map, read off where it reads."""
    side = where.shape[-1]
    middle = (side - 1) / 2
    inverse = np.stack([where[:, :, 1, 0] - where[:, :, 0, 0], where[:, :, 0, 1] - where[:, :, 0, 0]], axis=2)
    A = np.linalg.inv(inverse)
    centre = where.mean(axis=(2, 3)) - middle  # A^-1 (0 - s)
    shift = -np.einsum("nij,nj->ni", A, centre)
    # A = R S D: its second column is R (0, d_c)
    rotation = np.arctan2(-A[:, 0, 1], A[:, 1, 1])
    cos, sin = np.cos(rotation), np.sin(rotation)
    first = np.stack(
        [cos * A[:, 0, 0] + sin * A[:, 1, 0], -sin * A[:, 0, 0] + cos * A[:, 1, 0]]
    )  # R' of the first column
    stretch = np.stack([first[0], np.hypot(A[:, 0, 1], A[:, 1, 1])])
    return np.degrees(rotation), stretch, np.degrees(np.arctan(-first[1] / first[0])), shift.T


def test_draws_are_uniform_within_their_strengths():
    strengths = Deformation(rotation=30.0, scale=0.5, shear=20.0, translation=3.0, alpha=0)
    rotation, stretch, shear, shift = parts_of(strengths.draw(4000, 5, np.random.default_rng(0), np.float64))
    for name, values, most in [
        ("rotation", rotation, 30.0), ("shear", shear, 20.0),
        ("row shift", shift[0], 3.0), ("column shift", shift[1], 3.0),
        ("row stretch", np.log(stretch[0]), np.log(1.5)), ("column stretch", np.log(stretch[1]), np.log(1.5)),
    ]:  # fmt: skip
        assert np.abs(values).max() <= most * (1 + 1e-9), name
        # quartiles of 4,000 uniform draws: off by 1.4 % of `most` in the mean
        np.testing.assert_allclose(
            np.quantile(values, [0.25, 0.5, 0.75]) / most, [-0.5, 0, 0.5], atol=0.07, err_msg=name
        )
    draws = np.stack([rotation, shear, *shift, *np.log(stretch)])
    assert np.abs(np.corrcoef(draws) - np.eye(6)).max() < 0.08  # independent


def test_elastic_part_is_added():
    strengths = dataclasses.replace(STILL, alpha=0.8, sigma=2.0)
    where = strengths.draw(3000, 5, np.random.default_rng(0), np.float64)
    np.testing.assert_allclose((where - np.indices((5, 5))).std(axis=0), 0.8, rtol=0.07)


def test_defaults_deform_but_leave_digits_in_range():
    x, _ = stream().samples(0, 500)
    assert 0 <= x.min() and x.max() <= 1
    still, _ = stream(deformation=STILL).samples(0, 500)
    assert np.abs(x - still).mean() > 0.1  # images of noise, so a pixel's move changes much


# --- sequences ------------------------------------------------------------------------------------------


def test_same_seed_same_bits_and_any_part_by_itself():
    x, t = stream().samples(0, 300, 2, 1)
    for start, stop in [(0, 1), (0, 300), (5, 6), (63, 65), (64, 128), (BLOCK, 2 * BLOCK + 1), (299, 300)]:
        for made, expected in zip(stream().samples(start, stop, 2, 1), (x, t)):
            np.testing.assert_array_equal(made, expected[start:stop])


def test_sequences_and_seeds_differ():
    names = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (2**40,)]
    firsts = [stream(seed).samples(0, 10, *name)[0] for seed in (0, 1) for name in names]
    blocks = [stream().samples(10 * BLOCK, 10 * BLOCK + 10)[0], stream().samples(0, 10, 10)[0]]
    drawn = np.array(firsts + blocks).reshape(len(firsts) + 2, -1)
    assert len(np.unique(drawn, axis=0)) == len(drawn)


def test_no_block_is_made_in_vain(monkeypatch):
    digits, made = stream(), []
    block = digits._block
    monkeypatch.setattr(digits, "_block", lambda name: made.append(name[-1]) or block(name))
    for start, stop, blocks in [(0, 64, [0]), (0, 65, [0, 1]), (63, 128, [0, 1]), (64, 65, [1]), (130, 131, [2])]:
        made.clear()
        digits.samples(start, stop)
        assert made == blocks


def test_defaults_are_those_that_records_were_made_with():
    """Whatever changes here changes every sample: the records of experiments then speak of other digits."""
    assert BLOCK == 64
    assert Deformation() == Deformation(rotation=15, scale=0.15, shear=10, translation=2, alpha=1.2, sigma=4)


def test_labels_are_drawn_evenly():
    _, t = stream().samples(0, 20_000)
    assert np.bincount(t - 10, minlength=20).min() > 850  # 1000 each, deviation 31


# --- bad input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Deformation)])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "1"])
def test_strengths_must_be_numbers(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a finite number of at least 0, got {value!r}"):
        Deformation(**{name: value})


@pytest.mark.parametrize("changes, message", [
    ({"shear": 90}, "shear must be less than 90 degrees, got 90"),
    ({"sigma": 0}, "sigma must be positive, got 0; alpha = 0 leaves the elastic part out"),
])  # fmt: skip
def test_strengths_without_a_meaning(changes, message):
    with pytest.raises(ValueError, match=message):
        Deformation(**changes)


GOOD = {"x": np.zeros((3, 4), np.float32), "t": np.arange(3), "seed": 0}


@pytest.mark.parametrize("changes, error, message", [
    ({"x": [[0.0]]}, TypeError, "x must be a NumPy array, got list"),
    ({"t": [0, 1, 2]}, TypeError, "t must be a NumPy array, got list"),
    ({"x": np.zeros((3, 4), np.uint8)}, TypeError, "x must be float32 or float64, got uint8"),
    ({"x": np.zeros((3, 5), np.float32)}, ValueError, r"square image a row, .* got shape \(3, 5\)"),
    ({"x": np.zeros((3, 2, 2), np.float32)}, ValueError, r"got shape \(3, 2, 2\)"),
    ({"x": np.zeros((0, 4), np.float32)}, ValueError, r"got shape \(0, 4\)"),
    ({"x": np.full((3, 4), 1.5)}, ValueError, r"x must lie in \[0, 1\], got values in 1.5..1.5"),
    ({"x": np.full((3, 4), -0.1)}, ValueError, r"x must lie in \[0, 1\], got values in -0.1..-0.1"),
    ({"x": np.full((3, 4), np.nan)}, ValueError, r"x must lie in \[0, 1\], got values in nan..nan"),
    ({"t": np.arange(4)}, ValueError, r"one label for each of the 3 images, got shape \(4,\)"),
    ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ({"seed": 0.5}, TypeError, "seed must be a whole number, got 0.5"),
    ({"deformation": 3}, TypeError, "deformation must be a Deformation, got 3"),
])  # fmt: skip
def test_bad_data(changes, error, message):
    with pytest.raises(error, match=message):
        DeformedDigits(**(GOOD | changes))


@pytest.mark.parametrize("arguments, error, message", [
    ((3, 3), ValueError, "start must be less than stop, got 3 and 3"),
    ((-1, 3), ValueError, "start must be at least 0, got -1"),
    ((0, 2.0), TypeError, "stop must be a whole number, got 2.0"),
    ((0, 2, 1, -1), ValueError, "name of the sequence must be at least 0, got -1"),
    ((0, 2, "a"), TypeError, "name of the sequence must be a whole number, got 'a'"),
])  # fmt: skip
def test_bad_parts(arguments, error, message):
    with pytest.raises(error, match=message):
        stream().samples(*arguments)
