"""The op table: one row for each way in which an operation may be used; test_ops.py checks every row in every argument.

A new primitive needs a row here, or `test_every_rule_has_a_row` fails.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from minigrad.autodiff import conv, ops, recurrent, tape
from minigrad.autodiff.conv import Window
from minigrad.autodiff.normalization import batch_norm, centre
from tests.autodiff import plain_images
from tests.helpers import dev


@dataclass(frozen=True)
class Case:
    """f(*arguments) on traced or plain arrays of the given shapes, and the same value by NumPy or SciPy alone.

    domain: "real" numbers are away from 0, "positive" ones too, "distinct" ones away from each other. smooth: a complex
    step may be taken.
    """

    name: str
    f: Callable
    value: Callable
    shapes: tuple
    domain: str = "real"
    smooth: bool = True

    def __str__(self):
        return f"{self.name} {' '.join(str(shape).replace(' ', '') for shape in self.shapes)}"

    def arguments(self):
        """Host arrays, the same at every call."""
        rng = np.random.default_rng(1)
        sizes = [math.prod(shape) for shape in self.shapes]
        total = sum(sizes)
        x = rng.permutation(total) * 0.37 - 0.2 * total + 0.1 if self.domain == "distinct" else rng.random(total) + 0.4
        if self.domain == "real":
            x *= rng.choice([-1, 1], total)
        cuts = np.split(x, np.cumsum(sizes)[:-1])
        return [cut.reshape(shape) for cut, shape in zip(cuts, self.shapes, strict=True)]


def rows(name, f, value, *operands, **options):
    """One case for each tuple of shapes."""
    return [Case(name, f, value, shapes, **options) for shapes in operands]


PAIRS = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((4,), (3, 4)),
    ((3, 1), (1, 4)),
    ((), (3, 4)),
    ((3, 4), ()),
    ((2, 1, 3), (4, 1)),
    ((2, 1, 1), (2, 4, 1)),
    ((1,), (1, 1)),
    ((), ()),
    ((0, 3), (3,)),
    ((1, 3), (0, 1)),
]
SINGLES = [((3, 4),), ((),), ((1,),), ((2, 0, 3),)]


def _mask(shape):
    return np.arange(math.prod(shape)).reshape(shape) % 3 != 0


def _where(x, y):
    return ops.where(dev(_mask(np.broadcast_shapes(x.shape, y.shape))), x, y)


def _np_where(x, y):
    return np.where(_mask(np.broadcast_shapes(x.shape, y.shape)), x, y)


def _two(x):
    """A constant of x's precision that takes part in broadcasting."""
    return dev([[0.5], [-2.0]], x.dtype)


TWO = np.array([[0.5], [-2.0]])

ARITHMETIC = [
    *rows("add", ops.add, np.add, *PAIRS),
    *rows("subtract", ops.subtract, np.subtract, *PAIRS),
    *rows("multiply", ops.multiply, np.multiply, *PAIRS),
    *rows("divide", ops.divide, np.divide, *PAIRS),
    *rows("power", ops.power, np.power, *PAIRS, domain="positive"),
    *rows("maximum", ops.maximum, np.maximum, *PAIRS, domain="distinct", smooth=False),
    *rows("minimum", ops.minimum, np.minimum, *PAIRS, domain="distinct", smooth=False),
    *rows("where", _where, _np_where, *PAIRS),
    *rows(
        "where, condition broadcast",
        lambda x, y: ops.where(dev(_mask((2, 3, 1))), x, y),
        lambda x, y: np.where(_mask((2, 3, 1)), x, y),
        ((4,), ()),
        ((3, 4), (1, 4)),
    ),
    *rows("3 + x", lambda x: 3.0 + x, lambda x: 3.0 + x, *SINGLES),
    *rows("3 - x", lambda x: 3.0 - x, lambda x: 3.0 - x, *SINGLES),
    *rows("x - 3", lambda x: x - 3.0, lambda x: x - 3.0, *SINGLES),
    *rows("3 x", lambda x: 3.0 * x, lambda x: 3.0 * x, *SINGLES),
    *rows("3 / x", lambda x: 3.0 / x, lambda x: 3.0 / x, *SINGLES),
    *rows("x / 3", lambda x: x / 3.0, lambda x: x / 3.0, *SINGLES),
    *rows("array - x", lambda x: _two(x) - x, lambda x: TWO - x, ((3,),), ((2, 3),), ((),)),
    *rows("x / array", lambda x: x / _two(x), lambda x: x / TWO, ((3,),), ((2, 3),), ((),)),
    *rows("array / x", lambda x: _two(x) / x, lambda x: TWO / x, ((3,),), ((2, 3),), ((),)),
    *rows("x x + x", lambda x: x * x + x, lambda x: x * x + x, *SINGLES),
    *[
        Case(f"x ** {p}", lambda x, p=p: x**p, lambda x, p=p: x**p, shape)
        for p in (2, 3, -1, -2, 0, 1, 2.0, 0.0)
        for shape in [((3, 4),), ((),)]
    ],
    *[Case(f"x ** {p}", lambda x, p=p: x**p, lambda x, p=p: x**p, ((3,),), "positive") for p in (0.5, -1.5, 2.7)],
    *rows("x ** array", lambda x: x ** _two(x) ** 2, lambda x: x**TWO**2, ((3,),), ((2, 3),), ((),), domain="positive"),
    *rows("2 ** x", lambda x: 2.0**x, lambda x: 2.0**x, *SINGLES),
]

ELEMENTWISE = [
    *rows("negative", ops.negative, np.negative, *SINGLES),
    *rows("exp", ops.exp, np.exp, *SINGLES),
    *rows("expm1", ops.expm1, np.expm1, *SINGLES),
    *rows("log", ops.log, np.log, *SINGLES, domain="positive"),
    *rows("log1p", ops.log1p, np.log1p, *SINGLES, domain="positive"),
    *rows("sqrt", ops.sqrt, np.sqrt, *SINGLES, domain="positive"),
    *rows("tanh", ops.tanh, np.tanh, *SINGLES),
    *rows("sigmoid", ops.sigmoid, special.expit, *SINGLES),
    *rows("softplus", ops.softplus, lambda x: np.logaddexp(0, x), *SINGLES),
    *rows("log_sigmoid", ops.log_sigmoid, special.log_expit, *SINGLES),
    *rows("abs", ops.abs, np.abs, *SINGLES, smooth=False),
    *rows("relu", ops.relu, lambda x: np.maximum(x, 0), *SINGLES, smooth=False),
    *rows("clip", lambda x: ops.clip(x, -0.7, 0.8), lambda x: np.clip(x, -0.7, 0.8), *SINGLES, smooth=False),
    *rows("clip below", lambda x: ops.clip(x, 0.3, None), lambda x: np.clip(x, 0.3, None), ((3, 4),), smooth=False),
    *rows("clip above", lambda x: ops.clip(x, None, 0.3), lambda x: np.clip(x, None, 0.3), ((3, 4),), smooth=False),
]


def _reductions(name, f, value, shapes_and_axes, **options):
    return [
        Case(
            f"{name} axis={axis} keepdims={keep}",
            lambda x, axis=axis, keep=keep: f(x, axis=axis, keepdims=keep),
            lambda x, axis=axis, keep=keep: value(x, axis=axis, keepdims=keep),
            (shape,),
            **options,
        )
        for shape, axis in shapes_and_axes
        for keep in (False, True)
    ]


def _np_norm(x, axis, keepdims):
    return np.sqrt(np.sum(x**2, axis=axis, keepdims=keepdims))


AXES = [
    ((3, 4), None),
    ((3, 4), 0),
    ((3, 4), -1),
    ((1, 3), 0),
    ((3, 1), 1),
    ((5,), 0),
    ((2, 3, 4), 1),
    ((2, 3, 4), (0, 2)),
    ((2, 3, 4), (-1, 0)),
    ((2, 3, 4), -3),
    ((), None),
]
NOTHING = [((0, 3), 0), ((3, 0), 1), ((0,), None)]  # the reduced axis is empty
EMPTY = [((0, 3), 1), ((3, 0), 0)]  # the result is empty
ALONG = [((3, 4), -1), ((3, 4), 0), ((5,), -1), ((2, 3, 4), 1), ((3, 1), 1), ((0, 3), 1)]

REDUCTIONS = [
    *_reductions("sum", ops.sum, np.sum, AXES + NOTHING + EMPTY),
    *_reductions("mean", ops.mean, np.mean, AXES + EMPTY),
    *_reductions("max", ops.max, np.max, AXES + EMPTY, domain="distinct", smooth=False),
    *_reductions("min", ops.min, np.min, AXES + EMPTY, domain="distinct", smooth=False),
    *_reductions("norm", ops.norm, _np_norm, AXES + NOTHING + EMPTY),
    *_reductions("logsumexp", ops.logsumexp, special.logsumexp, AXES[:-1] + EMPTY),
    *rows("logsumexp of one", ops.logsumexp, lambda x: x, ((),)),
    *[
        Case(f"{f.__name__} axis={a}", lambda x, f=f, a=a: f(x, a), lambda x, g=g, a=a: g(x, a), (s,))
        for f, g in ((ops.softmax, special.softmax), (ops.log_softmax, special.log_softmax))
        for s, a in ALONG
    ],
    Case("softmax, default axis", ops.softmax, lambda x: special.softmax(x, -1), ((2, 3),)),
    Case("log_softmax, default axis", ops.log_softmax, lambda x: special.log_softmax(x, -1), ((2, 3),)),
]

PRODUCTS = [
    ((3, 4), (4, 2)),
    ((4,), (4,)),
    ((4,), (4, 2)),
    ((3, 4), (4,)),
    ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((4,), (2, 4, 3)),
    ((2, 3, 4), (4,)),
    ((1, 1), (1, 1)),
    ((0, 4), (4, 2)),
    ((3, 0), (0, 2)),
]
LAYERS = [((3, 4), (5, 2)), ((1, 4), (5, 1)), ((4,), (5, 2)), ((2, 3, 4), (5, 2)), ((0, 4), (5, 2)), ((3, 1), (2, 3))]

MATRICES = [
    *rows("matmul", ops.matmul, np.matmul, *PRODUCTS),
    *rows("affine", ops.affine, lambda h, W: h @ W[:-1] + W[-1], *LAYERS),
    *rows("reused", lambda h, W: ops.affine(h, ops.reused(W)), lambda h, W: h @ W[:-1] + W[-1], *LAYERS),
    Case("A @ x", lambda x: dev(TWO.T, x.dtype) @ x, lambda x: TWO.T @ x, ((2, 3),)),
    Case("x @ A", lambda x: x @ dev(TWO, x.dtype), lambda x: x @ TWO, ((3, 2),)),
    Case("x @ x", lambda x: x @ x, lambda x: x @ x, ((3, 3),)),
]


def _moved(key):
    if isinstance(key, tuple):
        return tuple(_moved(k) for k in key)
    return dev(key) if isinstance(key, np.ndarray) else key


KEYS = [
    ((5,), slice(1, 3)),
    ((5,), slice(None, None, -2)),
    ((5,), 2),
    ((3, 4), -1),
    ((3, 4), (slice(None), 1)),
    ((3, 4), (slice(None, None, 2), slice(1, None))),
    ((3, 4), (1, 2)),
    ((3, 4), (..., None, 0)),
    ((3, 4), None),
    ((3, 4), slice(2, 2)),
    ((3, 4), np.array([2, 0])),
    ((3, 4), np.array([2, 0, 2, 2])),
    ((3, 4), np.array([[0, 1], [1, 0]])),
    ((3, 4), (np.array([0, 1, 0]), np.array([3, 1, 3]))),
    ((3, 4), (slice(None), np.array([1, 1, 3]))),
    ((3, 4), (np.array([0, 0]), slice(1, 3))),
    ((2, 3, 4), (1, slice(None), np.array([0, 0, 1]))),
    ((3, 4), _mask((3, 4))),
    ((3, 4), (_mask((3,)), 1)),
    ((3, 4), np.array([], int)),
    ((3, 4), np.int64(1)),
]


def _scattered(u, key, shape):
    out = np.zeros(shape)
    np.add.at(out, key, u)
    return out


def _scatters(key, shape, u_shape):
    return Case(
        f"scatter {key}",
        lambda u: ops.scatter(u, key=_moved(key), shape=shape),
        lambda u: _scattered(u, key, shape),
        (u_shape,),
    )


INDEXING = [
    *[Case(f"x[{k}]", lambda x, k=k: x[_moved(k)], lambda x, k=k: x[k], (s,)) for s, k in KEYS],
    _scatters((slice(1, 3), 0), (4, 2), (2,)),
    _scatters(np.array([1, 1, 0]), (3, 2), (3, 2)),
    *[
        Case(
            f"take_along_axis {index} axis={axis}",
            lambda x, i=index, a=axis: ops.take_along_axis(x, dev(i), a),
            lambda x, i=index, a=axis: np.take_along_axis(x, np.array(i), a),
            (shape,),
        )
        for shape, index, axis in [
            ((3, 4), [[1], [3], [0]], 1),
            ((3, 4), [[1, 1], [3, 0], [0, 0]], -1),
            ((3, 4), [[2, 0, 1, 1]], 0),
            ((3, 4), [[0, 3]], 1),
            ((1, 4), [[0], [2], [2]], 1),
            ((4,), [3, 3, 0], 0),
            ((2, 1, 3), [[[2, 0]], [[1, 1]]], 2),
        ]
    ],
    *[
        Case(f"pad {w}", lambda x, w=w: ops.pad(x, w), lambda x, w=w: np.pad(x, w), (s,))
        for s, w in [((3,), [(2, 1)]), ((2, 3), [(0, 1), (2, 0)]), ((0, 2), [(1, 1), (0, 0)])]
    ],
    *[
        Case(
            f"split {sections} axis={axis} part={i}",
            lambda x, k=sections, a=axis, i=i: ops.split(x, k, a)[i],
            lambda x, k=sections, a=axis, i=i: np.split(x, k, a)[i],
            ((4, 6),),
        )
        for sections, axis in [(2, 0), (3, 1), (3, -1), ([1, 4], 1), ((), 0)]
        for i in range(sections if isinstance(sections, int) else len(sections) + 1)
    ],
]

SHAPES = [
    *rows("transpose", ops.transpose, np.transpose, ((3, 4),), ((2, 3, 4),), ((5,),), ((),)),
    *[
        Case(f"transpose {a}", lambda x, a=a: ops.transpose(x, a), lambda x, a=a: np.transpose(x, a), ((2, 3, 4),))
        for a in [(2, 0, 1), (1, 2, 0), (0, -1, 1), [1, 0, 2]]
    ],
    *[
        Case(f"reshape {new}", lambda x, n=new: ops.reshape(x, n), lambda x, n=new: np.reshape(x, n), (old,))
        for old, new in [((3, 4), (2, -1)), ((3, 4), 12), ((), (1, 1)), ((1, 1), ()), ((0, 3), (3, 0)), ((3,), (3,))]
    ],
    *[
        Case(
            f"broadcast_to {new}",
            lambda x, n=new: ops.broadcast_to(x, n),
            lambda x, n=new: np.broadcast_to(x, n),
            (old,),
        )
        for old, new in [((4,), (3, 4)), ((3, 1), (2, 3, 4)), ((), (2, 3)), ((1,), 3), ((3,), (3,)), ((1, 3), (0, 3))]
    ],
    *[
        Case(
            f"concatenate axis={axis}",
            lambda *xs, a=axis: ops.concatenate(xs, a),
            lambda *xs, a=axis: np.concatenate(xs, a),
            shapes,
        )
        for axis, shapes in [
            (0, ((2, 3), (1, 3), (4, 3))),
            (1, ((2, 3), (2, 0), (2, 1))),
            (-1, ((2, 1, 2), (2, 1, 3))),
            (0, ((2,),)),
        ]
    ],
    *[
        Case(
            f"stack axis={axis}",
            lambda *xs, a=axis: ops.stack(xs, a),
            lambda *xs, a=axis: np.stack(xs, a),
            (shape,) * 3,
        )
        for axis, shape in [(0, (2, 3)), (1, (2, 3)), (-1, (2, 3)), (-2, (2, 3)), (0, ()), (1, (0,))]
    ],
    Case("default axes", lambda x, y: ops.stack([ops.concatenate([x, y]), ops.split(x * y, 1)[0].sum() + x[:1]]),
         lambda x, y: np.stack([np.concatenate([x, y]), (x * y).sum() + x[:1]]), ((1,), (0,))),
]  # fmt: skip


def _view(x):
    return tape.view(x, start=2, shape=(2, 3), name="W")


def _assemble(a, b):
    return tape.assemble(a, b, spans=((1, 7), (5, 8)), size=10)


VIEWS = [
    Case("view", _view, lambda x: x[2:8].reshape(2, 3), ((10,),)),
    Case(
        "view of nothing", lambda x: tape.view(x, start=1, shape=(0, 3), name="W"), lambda x: np.zeros((0, 3)), ((2,),)
    ),
    Case("assemble", _assemble, lambda a, b: np.pad(a.ravel(), (1, 3)) + np.pad(b, (5, 2)), ((2, 3), (3,))),
]


def _image_rows(name, f, value, window, *operands, **options):
    """One case for each tuple of shapes, f and value taking the window as a last argument."""
    label = f"{name} {window.kernel} {window.stride} {window.padding}"
    return rows(label, lambda *xs: f(*xs, window), lambda *xs: value(*xs, window), *operands, **options)


IMAGES = [
    *[
        case
        for window, x, outputs in [
            (Window(2), (2, 3, 4, 2), 3),
            (Window((2, 3), (1, 2)), (2, 4, 5, 1), 2),
            (Window(3, 2, 1), (1, 4, 3, 2), 2),
            (Window((1, 2), 3, (2, 0)), (2, 1, 5, 2), 1),
            (Window(1, 2), (1, 3, 3, 2), 2),
            (Window(1), (2, 2, 2, 3), 2),
            (Window(2), (0, 2, 3, 1), 1),
        ]
        for case in _image_rows(
            "convolution", conv.convolution, plain_images.convolution, window,
            (x, (math.prod(window.kernel) * x[3] + 1, outputs)),
        )
        + _image_rows("patches", conv.patches, plain_images.patches, window, (x,))
    ],
    *[
        Case(f"fold {shape}", lambda u, w=w, shape=shape: conv._fold(u, window=w, shape=shape),
             lambda u, w=w, shape=shape: plain_images.fold(u, w, shape), (u,))
        for w, shape, u in [
            (Window(2), (2, 3, 3, 2), (2, 2, 2, 8)),
            (Window((2, 1), (1, 2), (1, 0)), (1, 2, 3, 2), (1, 3, 2, 4)),
        ]
    ],
    *[
        case
        for w, shape, u in [
            (Window(2), (2, 3, 3, 2), (2, 2, 2, 3)),
            (Window((2, 1), (1, 2), (1, 0)), (1, 2, 3, 2), (1, 3, 2, 2)),
        ]
        for columns in [math.prod(w.kernel) * shape[3]]
        for case in [
            Case(f"convolve_inputs {w.kernel}",
                 lambda u, W, w=w, z=shape: conv._convolve_inputs(u, W, window=w, shape=z, name=None),
                 lambda u, W, w=w, z=shape: plain_images.fold(u @ W[:-1].T, w, z), (u, (columns + 1, u[3]))),
            *[
                Case(f"convolve_weights {w.kernel} one={one}",
                     lambda x, u, w=w, one=one: conv._convolve_weights(x, u, window=w, one=one, name=None),
                     lambda x, u, w=w, one=one: np.vstack(
                         [np.einsum("nijp,nijo->po", plain_images.patches(x, w), u), one * u.sum((0, 1, 2))[None]]),
                     (shape, u))
                for one in (0, 1)
            ],
            Case(f"convolve, one=0 {w.kernel}",
                 lambda x, W, w=w: conv._convolve(x, W, window=w, one=0, name=None),
                 lambda x, W, w=w: plain_images.patches(x, w) @ W[:-1], (shape, (columns + 1, u[3]))),
        ]
    ],
    *[
        case
        for window, shape in [(2, (3, 4, 5, 2)), (Window(3, 2), (1, 5, 5, 2)), (Window((2, 1), (1, 3)), (2, 3, 4, 1)),
                              (3, (1, 3, 3, 1)), (1, (1, 2, 2, 2))]
        for w in [window if isinstance(window, Window) else Window(window, window)]
        for case in [
            Case(f"max_pool {w.kernel}", lambda x, w=window: conv.max_pool(x, w),
                 lambda x, w=w: plain_images.max_pool(x, w), (shape,), "distinct", smooth=False),
            Case(f"average_pool {w.kernel}", lambda x, w=window: conv.average_pool(x, w),
                 lambda x, w=w: plain_images.average_pool(x, w), (shape,)),
        ]
    ],
    *rows("global_average", conv.global_average, lambda x: x.mean(axis=(1, 2)), ((2, 3, 2, 4),)),
]  # fmt: skip


def _cell(a, s):
    """(h | c) of an LSTM, cell by cell."""
    H = s.shape[1] // 2
    y = np.empty_like(s)
    for n, j in np.ndindex(len(s), H):
        i, f, o, g = (a[n, gate * H + j] for gate in range(4))
        c = special.expit(f) * s[n, H + j] + special.expit(i) * math.tanh(g)
        y[n, j], y[n, H + j] = special.expit(o) * math.tanh(c), c
    return y


def _input(x, s):
    """(x | h), row by row."""
    return np.array([[*row, *state[: len(state) // 2]] for row, state in zip(x, s, strict=True)]).reshape(
        len(x), x.shape[1] + s.shape[1] // 2
    )


RECURRENT = [
    *rows("lstm_cell", recurrent.lstm_cell, _cell, ((3, 8), (3, 4)), ((1, 4), (1, 2)), ((0, 8), (0, 4))),
    *rows("lstm_input", recurrent.lstm_input, _input, ((3, 2), (3, 4)), ((1, 1), (1, 2)), ((0, 2), (0, 4))),
]


def _normalized(a, scale, shift, epsilon=0.0):
    axes = tuple(range(a.ndim - 1))
    return (a - a.mean(axes)) / np.sqrt(a.var(axes) + epsilon) * scale + shift


NORMALIZATION = [
    *rows("batch_norm", batch_norm, _normalized, ((4, 3), (3,), (3,)), ((3, 2, 2), (2,), (2,)), ((5, 1), (1,), (1,))),
    *rows(
        "batch_norm, epsilon",
        lambda *args: batch_norm(*args, epsilon=0.3),
        lambda *args: _normalized(*args, epsilon=0.3),
        ((4, 3), (3,), (3,)),
        ((2, 1, 2, 2), (2,), (2,)),
    ),
    *rows("centre", centre, lambda a: a - a.mean(tuple(range(a.ndim - 1))), ((4, 3),), ((3, 2, 2),), ((1, 2),)),
]

CASES = (
    ARITHMETIC + ELEMENTWISE + REDUCTIONS + MATRICES + INDEXING + SHAPES + VIEWS + IMAGES + RECURRENT + NORMALIZATION
)
