"""A step of a recurrent net as two primitives around an affine layer: long short-term memory (Hochreiter & Schmidhuber
1997), with the forget gate of Gers, Schmidhuber & Cummins (2000).

The tape's operations have one output, so the state is one matrix, s = (h | c): the cell's output beside its memory.
"""

from ..backend import xp
from .ops import concatenate, sigmoid, tanh
from .tape import Joint, keeping, primitive


def _cells(s):
    """H of a state (N, 2 H), or 0 if it is none."""
    return s.shape[1] // 2 if s.ndim == 2 and s.shape[1] % 2 == 0 else 0


@primitive
def _lstm_input(x, s):
    """(x | h)"""
    H = _cells(s)
    if H < 1 or x.ndim != 2 or len(x) != len(s):
        raise ValueError(f"x {x.shape} does not match the state {s.shape}: expected x (N, n_in) and (h | c) (N, 2 H)")
    return xp.concatenate([x, s[:, :H]], axis=1)


@_lstm_input.linear("jointly")
def _(y, x, s):
    n_in = x.shape[1]

    def lop(u):
        u_h = u[:, n_in:]
        return u[:, :n_in], concatenate([u_h, xp.zeros(u_h.shape, u.dtype)], axis=1)

    return Joint(lstm_input, lop)


def lstm_input(x, s):
    """What the affine layer of a step sees: (x | h) of its input x (N, n_in) and the state s = (h | c) (N, 2 H).

    Raises ValueError unless the shapes are these.
    """
    return _lstm_input(x, s)


@keeping
def _lstm_cell(a, s):
    """(h' | c') of one step; kept: gates, g and tanh c'"""
    H = _cells(s)
    if H < 1 or a.shape != (len(s), 4 * H):
        raise ValueError(f"a {a.shape} does not match the state {s.shape}: expected a (N, 4 H) and (h | c) (N, 2 H)")
    gates, g = sigmoid.value(a[:, : 3 * H]), xp.tanh(a[:, 3 * H :])
    y = xp.empty(s.shape, xp.result_type(gates, s))
    h, c = y[:, :H], y[:, H:]
    xp.multiply(gates[:, H : 2 * H], s[:, H:], out=c)
    c += gates[:, :H] * g
    t = xp.tanh(c)
    xp.multiply(gates[:, 2 * H :], t, out=h)
    return y, (gates, g, t)


@_lstm_cell.linear("jointly")
def _(y, a, s, *, kept):
    """With k = o (1 - tanh(c')^2) = o - h' tanh c', and of the old state c alone:

    dc' = i' g da_i + c f' da_f + i g' da_g + f dc,   dh' = o' tanh c' da_o + k dc'.
    """
    H = y.shape[1] // 2
    gates, g, t = kept or (sigmoid(a[:, : 3 * H]), tanh(a[:, 3 * H :]), tanh(y[:, H:]))
    i, f, o = gates[:, :H], gates[:, H : 2 * H] * 1.0, gates[:, 2 * H :]  # f is kept, and would keep all gates with it
    slopes = 1.0 - gates
    slopes *= gates
    D_i, D_f, D_o = slopes[:, :H] * g, slopes[:, H : 2 * H] * s[:, H:], slopes[:, 2 * H :] * t
    D_g, k = i - i * (g * g), o - t * y[:, :H]

    def rop(v, ds):
        dc = D_i * v[:, :H] + D_f * v[:, H : 2 * H] + D_g * v[:, 3 * H :] + f * ds[:, H:]
        return concatenate([D_o * v[:, 2 * H : 3 * H] + k * dc, dc], axis=1)

    def lop(u):
        u_h = u[:, :H]
        u_c = k * u_h + u[:, H:]
        u_a = concatenate([D_i * u_c, D_f * u_c, D_o * u_h, D_g * u_c], axis=1)
        return u_a, concatenate([xp.zeros(u_h.shape, u.dtype), f * u_c], axis=1)

    return Joint(rop, lop)


def lstm_cell(a, s):
    """The state (h' | c') that follows s = (h | c), both (N, 2 H): c' = sigmoid(f) c + sigmoid(i) tanh(g) and
    h' = sigmoid(o) tanh(c'), for pre-activations a = (i | f | o | g) (N, 4 H) made of the step's input and h.

    Raises ValueError unless the widths match.
    """
    return _lstm_cell(a, s)
