"""Images, crops and flips: every pixel where a plain loop puts it, every place as likely, the same after a resume."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from minigrad import backend
from minigrad.data import Batches, RandomCrops, images
from tests.helpers import dev, host


def rng(seed=0):
    return np.random.default_rng(seed)


def numbered(n, height, width, channels=1, dtype=np.float64):
    """Images whose pixels all differ, from 1 on: a 0 is of the padding."""
    return 1 + np.arange(n * height * width * channels, dtype=dtype).reshape(n, height, width, channels)


def plain(x, padding, h, w, top, left, mirrored):
    """The crops of padded x, pixel by pixel."""
    n, height, width, channels = x.shape
    y = np.zeros((n, h, w, channels), x.dtype)
    for i, row, column, channel in np.ndindex(*y.shape):
        across = w - 1 - column if mirrored[i] else column
        r, c = top[i] + row - padding, left[i] + across - padding
        if 0 <= r < height and 0 <= c < width:
            y[i, row, column, channel] = x[i, r, c, channel]
    return y


sides = st.integers(1, 6)


@st.composite
def crops_of_images(draw):
    """(x, crops that fit)."""
    n, height, width, channels, padding = (draw(st.integers(1, top)) for top in (4, 6, 6, 3, 3))
    padding -= 1
    h, w = (draw(st.integers(1, side + 2 * padding)) for side in (height, width))
    return numbered(n, height, width, channels), RandomCrops((h, w), padding, draw(st.booleans()))


# --- rows to images -------------------------------------------------------------------------------------


@given(st.integers(1, 4), sides, sides)
def test_images_have_channels_last(n, side, channels):
    x = np.arange(n * channels * side * side, dtype=np.float32).reshape(n, -1)
    found = images(x, channels)
    assert found.shape == (n, side, side, channels) and found.dtype == np.float32 and found.flags.c_contiguous
    for i, row, column, channel in np.ndindex(*found.shape):
        assert found[i, row, column, channel] == x[i, channel * side * side + row * side + column]


def test_grey_images_are_no_copy():
    x = np.zeros((2, 9))
    assert np.shares_memory(images(x, 1), x)


def test_images_stay_where_their_rows_are(device):
    x = np.arange(24.0).reshape(2, 12)
    on_host, placed = images(x, 3), images(dev(x), 3)
    assert isinstance(on_host, np.ndarray) and backend.is_array(placed)
    np.testing.assert_array_equal(host(placed), on_host)


@pytest.mark.parametrize(
    ("x", "channels", "error", "match"),
    [
        (np.zeros((5, 784)), 3, ValueError, r"x must be \(N, 3 \* side \* side\) for 3 channels, got \(5, 784\)"),
        (np.zeros((5, 8)), 1, ValueError, r"got \(5, 8\)"),
        (np.zeros((5, 13)), 3, ValueError, r"got \(5, 13\)"),  # 3 x 4 and one more
        (np.zeros((5, 2)), 3, ValueError, r"got \(5, 2\)"),
        (np.zeros((5, 0)), 1, ValueError, r"got \(5, 0\)"),
        (np.zeros((5, 4, 4)), 1, ValueError, r"got \(5, 4, 4\)"),
        (np.zeros(16), 1, ValueError, r"got \(16,\)"),
        (np.zeros((5, 784)), 0, ValueError, "channels must be a whole number of at least 1, got 0"),
        (np.zeros((5, 784)), 1.0, ValueError, "channels must be a whole number of at least 1, got 1.0"),
        (np.zeros((5, 784)), True, ValueError, "channels must be a whole number of at least 1, got True"),
        ([[0.0]], 1, TypeError, "x must be an array of NumPy or of the backend, got list"),
    ],
)
def test_images_refuse(x, channels, error, match):
    with pytest.raises(error, match=match):
        images(x, channels)


# --- crops ----------------------------------------------------------------------------------------------


@given(crops_of_images(), st.integers(0, 99))
def test_each_pixel_comes_from_the_drawn_place(drawn, seed):
    x, crops = drawn
    n, height, width, _ = x.shape
    before = x.copy()
    found = crops(x, rng(seed))
    places = crops.draw(n, height + 2 * crops.padding, width + 2 * crops.padding, rng(seed))
    np.testing.assert_array_equal(found, plain(x, crops.padding, *crops.shape, *places))
    np.testing.assert_array_equal(x, before)
    assert found.flags.c_contiguous


def place_of(crop, width):
    """(top, left, mirrored) of a crop of `numbered`'s first image: read off its pixels, two columns at least."""
    mirrored = crop[0, 0, 0] > crop[0, 1, 0]
    top, left = divmod(int(crop[0, -1 if mirrored else 0, 0]) - 1, width)
    return top, left, bool(mirrored)


@pytest.mark.parametrize("flips", [False, True])
def test_all_places_and_both_sides_are_equally_likely(flips):
    """Chi-square over the 3 x 2 places of a 2 x 4 crop in 4 x 5 images, times 2 with flips; chance 1e-3 to fail."""
    n, crops = 6000, RandomCrops((2, 4), flips=flips)
    found = crops(np.repeat(numbered(1, 4, 5), n, axis=0), rng(1))
    places = [
        (top, left, side) for top in range(3) for left in range(2) for side in ([False, True] if flips else [False])
    ]
    count = dict.fromkeys(places, 0)
    for crop in found:
        count[place_of(crop, 5)] += 1
    expected = n / len(places)
    assert sum((seen - expected) ** 2 for seen in count.values()) / expected < chi2.ppf(0.999, len(places) - 1)


def test_neighbours_and_calls_draw_apart():
    """In one call and from call to call: the places of sample i and of sample i + 1 are independent."""
    n, crops, generator = 6000, RandomCrops((2, 4), flips=True), rng(2)
    x = np.repeat(numbered(1, 4, 5), n, axis=0)
    codes = [[4 * top + 2 * left + side for top, left, side in (place_of(crop, 5) for crop in crops(x, generator))]
             for _ in range(2)]  # fmt: skip
    for first, second in ((codes[0][:-1], codes[0][1:]), codes):
        table = np.zeros((12, 12))
        np.add.at(table, (first, second), 1)
        expected = table.sum() / 144
        assert ((table - expected) ** 2).sum() / expected < chi2.ppf(0.999, 143)


def test_padding_shifts_images_and_lets_zeros_in():
    """Padding 1 around 2 x 3: nine shifts of the whole image, the pixels shifted out replaced by zeros."""
    x = numbered(1, 2, 3)
    wide = np.zeros((4, 5))
    wide[1:3, 1:4] = x[0, :, :, 0]
    shifts = {wide[top : top + 2, left : left + 3].tobytes() for top in range(3) for left in range(3)}
    found = RandomCrops((2, 3), padding=1)(np.repeat(x, 300, axis=0), rng())
    assert {crop[..., 0].tobytes() for crop in found} == shifts


def test_a_crop_as_large_as_the_image_is_the_image_or_its_mirror():
    x = numbered(40, 3, 4, 2)
    np.testing.assert_array_equal(RandomCrops((3, 4))(x, rng()), x)
    found = RandomCrops((3, 4), flips=True)(x, rng())
    mirrored = (found[:, :, ::-1] == x).all(axis=(1, 2, 3))
    assert 0 < mirrored.sum() < 40
    np.testing.assert_array_equal(found[~mirrored], x[~mirrored])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_side_means_a_square_and_types_are_kept(dtype):
    x = numbered(2, 7, 8, 3, dtype)
    crops = RandomCrops(5, padding=1, flips=True)
    assert crops.shape == (5, 5)
    for found in (crops(x, rng()), crops.central(x)):
        assert found.shape == (2, 5, 5, 3) and found.dtype == dtype
    np.testing.assert_array_equal(crops(x, rng(4)), RandomCrops((5, 5), 1, True)(x, rng(4)))


def test_any_memory_order():
    """An image that is a view, its channels first in memory."""
    x = numbered(3, 5, 6, 2)
    view = np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    crops = RandomCrops(4, flips=True)
    np.testing.assert_array_equal(crops(view, rng()), crops(x, rng()))


def test_host_and_backend_see_the_same_crops_where_they_are(device):
    x, crops = numbered(6, 5, 4, 3), RandomCrops((6, 3), padding=1, flips=True)
    for crop in (lambda x: crops(x, rng(3)), crops.central):
        on_host, placed = crop(x), crop(dev(x))
        assert isinstance(on_host, np.ndarray) and backend.is_array(placed)
        np.testing.assert_array_equal(host(placed), on_host)


# --- the central crop -----------------------------------------------------------------------------------


@given(crops_of_images())
def test_central_crop(drawn):
    x, crops = drawn
    n, height, width, _ = x.shape
    (h, w), p = crops.shape, crops.padding
    above, before = (height + 2 * p - h) // 2, (width + 2 * p - w) // 2  # half of what is left over
    found = crops.central(x)
    np.testing.assert_array_equal(found, plain(x, p, h, w, n * [above], n * [before], n * [False]))
    np.testing.assert_array_equal(crops.central(found), found)  # so images cropped already may be given again
    assert np.shares_memory(found, x) == (h <= height and w <= width)


def test_central_crops_of_the_two_recipes():
    x = numbered(2, 32, 32, 3)
    np.testing.assert_array_equal(RandomCrops(24, flips=True).central(x), x[:, 4:28, 4:28])
    np.testing.assert_array_equal(RandomCrops(32, padding=4, flips=True).central(x), x)


# --- bad input ------------------------------------------------------------------------------------------

X = numbered(2, 4, 6)


@pytest.mark.parametrize(
    ("x", "crops", "error", "match"),
    [
        (X, RandomCrops((5, 6)), ValueError, "crops of 5 x 6 do not fit images of 4 x 6, padding 0"),
        (X, RandomCrops((4, 7)), ValueError, "crops of 4 x 7 do not fit images of 4 x 6, padding 0"),
        (X, RandomCrops(7, padding=1), ValueError, "crops of 7 x 7 do not fit images of 4 x 6, padding 1"),
        (X, RandomCrops((4, 9), padding=1), ValueError, "crops of 4 x 9 do not fit images of 4 x 6, padding 1"),
        (X.transpose(0, 3, 1, 2), RandomCrops(4), ValueError, "do not fit images of 1 x 4"),  # channels first
        (X[0], RandomCrops(2), ValueError, r"images \(N, height, width, channels\), got shape \(4, 6, 1\)$"),
        (
            X.reshape(2, -1),
            RandomCrops(2),
            ValueError,
            r"got shape \(2, 24\); images\(x, channels\) makes them of rows",
        ),
        (X.tolist(), RandomCrops(2), TypeError, "x must be an array of NumPy or of the backend, got list"),
    ],
)
def test_bad_images(x, crops, error, match):
    for entry in (lambda: crops(x, rng()), lambda: crops.central(x)):
        with pytest.raises(error, match=match):
            entry()


def test_the_largest_crops_that_fit():
    for crops in (RandomCrops((4, 6)), RandomCrops((6, 8), padding=1)):
        assert crops(X, rng()).shape == crops.central(X).shape == (2, *crops.shape, 1)


@pytest.mark.parametrize("generator", [0, None, np.random, np.random.RandomState(0)])
def test_bad_rng(generator):
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator"):
        RandomCrops(2)(X, generator)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        *(({"size": size}, r"size must be a side or \(height, width\) in pixels, got ")
          for size in (0, -1, 2.0, None, "24", True, (4,), (4, 4, 3), (4, 0), (0, 4), (4, 2.0), [4, 4])),
        *(({"size": 4, "padding": padding}, "padding must be a whole number of at least 0, got ")
          for padding in (-1, 0.5, None, True)),
        *(({"size": 4, "flips": flips}, "flips must be True or False, got ") for flips in (0.5, 1, None)),
    ],
)  # fmt: skip
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        RandomCrops(**options)


# --- in minibatches -------------------------------------------------------------------------------------

CROPS = RandomCrops((3, 2), padding=1, flips=True)


def known(samples):
    """Images full of their number plus 1, and ten times that as the label."""
    return np.repeat(1.0 + np.arange(samples), 4 * 3 * 2).reshape(samples, 4, 3, 2), 10 + 10 * np.arange(samples)


def pixels(samples):
    return numbered(samples, 4, 3, 2), np.arange(samples)


@given(st.integers(1, 12), st.data(), st.booleans())
def test_the_label_stays_with_its_image(samples, data, drop_last):
    size = data.draw(st.integers(1, samples))
    stream = Batches(known(samples), size, rng(), drop_last, CROPS)
    for _ in range(8):
        x, t = map(host, next(stream))
        assert x.shape == (len(t), 3, 2, 2)
        assert all(set(crop.ravel()) - {0} == {label / 10} for crop, label in zip(x, t, strict=True))


def test_the_same_samples_as_without(device):
    with_crops, without = (Batches(pixels(9), 4, rng(), augment=augment) for augment in (CROPS, None))
    for _ in range(5):
        (x, t), (whole, labels) = next(with_crops), next(without)
        np.testing.assert_array_equal(host(t), host(labels))
        generator = np.random.default_rng([with_crops.seed, with_crops.epoch, with_crops.position])
        np.testing.assert_array_equal(host(x), CROPS(host(whole), generator))


@given(st.integers(1, 9), st.data(), st.booleans(), st.integers(0, 9), st.integers(0, 99))
def test_resumed_sees_the_same_crops(samples, data, drop_last, steps, seed):
    size = data.draw(st.integers(1, samples))
    unbroken, resumed = (Batches(pixels(samples), size, rng(s), drop_last, CROPS) for s in (seed, seed + 1))
    for _ in range(steps):
        next(unbroken)
    resumed.restore(json.loads(json.dumps(unbroken.state())))
    for _ in range(5):
        for one, other in zip(next(unbroken), next(resumed), strict=True):
            np.testing.assert_array_equal(host(one), host(other))


def test_every_batch_of_every_epoch_and_seed_is_cropped_afresh():
    """One image again and again: 3 x 3 places and 2 sides a sample, so 10 samples agree once in 18^10."""
    x = np.repeat(numbered(1, 4, 3), 20, axis=0)
    streams = [Batches((x, None), 10, rng(seed), augment=RandomCrops(2, flips=True)) for seed in (0, 1)]
    seen = [host(next(stream)[0]).tobytes() for stream in streams for _ in range(8)]
    assert len(set(seen)) == 16


def test_crops_have_a_generator_apart_from_the_order():
    """A zero at the end of a seed is as good as none: the first batch must not use the generator of the order."""
    numbers = []
    note = lambda x, rng: numbers.append(rng.random()) or x
    stream = Batches(pixels(4), 2, rng(), augment=note)
    for _ in range(4):
        next(stream)
    orders = {np.random.default_rng([stream.seed, epoch]).random() for epoch in range(3)}
    assert len(set(numbers)) == 4 and not orders & set(numbers)


def test_host_and_device_data_are_cropped_alike(device):
    x, t = pixels(9)
    on_host, placed = (Batches(data, 4, rng(), augment=CROPS) for data in ((x, t), (dev(x), dev(t))))
    for _ in range(3):
        (one, _), (other, _) = next(on_host), next(placed)
        assert backend.is_array(one) and backend.is_array(other)
        np.testing.assert_array_equal(host(one), host(other))


def test_a_cropped_input_is_its_own_target():
    x, _ = pixels(6)
    found, target = next(Batches((x, x), 3, rng(), augment=CROPS))
    assert target is found and found.shape == (3, 3, 2, 2)
    assert next(Batches((x, None), 3, rng(), augment=CROPS))[1] is None


@pytest.mark.parametrize("augment", [24, "crops", RandomCrops])
def test_augment_must_be_a_function(augment):
    with pytest.raises(TypeError, match=r"augment must be a function \(x, rng\) -> x, such as RandomCrops\(24\), got "):
        Batches(pixels(6), 3, rng(), augment=augment)
