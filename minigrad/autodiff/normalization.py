"""Batch normalization as one primitive (Ioffe & Szegedy 2015, algorithm 1), unit by unit over the N rows of a:

    y = (a - mu) / s,    out = gamma y + beta        mu, s^2 - epsilon: mean and variance of a's rows

With c = gamma / s its R-op and L-op are

    dout = c (da - mean(da) - y mean(y da)) + y dgamma + dbeta
    u_a = c (u - mean(u) - y mean(y u)),    u_gamma = sum(y u),    u_beta = sum(u)

so a pass reads its rows twice: for two sums, and to mix them with y's rows.

Where the batch is cut in slices that are worked on at once, each with a tape of its own, sums over the batch are
`among.total`s of the slices' sums (`backend.Meeting`). That map, from what each slice has to what all then have, is its
own transpose: the cotangent of each slice's sum is the total of the cotangents of what the slices received.
"""

import math

from ..backend import WHOLE, xp
from . import ops
from .ops import rows_of
from .tape import Joint, Linear, Var, keeping, primitive


@keeping
def _batch_norm(a, scale, shift, *, epsilon, among):
    """scale (a - mu) / s + shift; kept: (a - mu) / s, 1 / s and N"""
    if not scale.shape == shift.shape == a.shape[-1:]:
        raise ValueError(
            f"scale {scale.shape} and shift {shift.shape} do not match a {a.shape}: expected {a.shape[-1:]}"
        )
    rows, n = rows_of(a), row_count(a, among)
    (total,) = among.total([ops.sum_of_rows(rows)])
    y = rows - total / n
    (squares,) = among.total([_dots(y, y)])
    inverse = 1.0 / xp.sqrt(squares / n + epsilon)
    y *= inverse
    out = xp.multiply(y, scale, dtype=xp.result_type(y, scale, shift))
    out += shift
    return out.reshape(a.shape), (y, inverse, n)


@_batch_norm.linear("jointly")
def _(out, a, scale, shift, *, kept, epsilon, among):
    y, inverse, n = kept or _standardized(a, epsilon, among)
    c, shape = scale * inverse, out.shape

    def rop(v, v_scale, v_shift):
        v = rows_of(v)
        dots, sums = among.total([_dots(y, v), _sums(v)])
        return ops.reshape(_mixed(v, c, y, v_scale - c * dots / n, v_shift - c * sums / n), shape)

    def lop(u):
        u = rows_of(u)
        own = [_dots(y, u), _sums(u)]  # for scale and shift; a gradient's slices are added up in the end
        dots, sums = among.total(own)
        return ops.reshape(_mixed(u, c, y, -c * dots / n, -c * sums / n), shape), *own

    return Joint(rop, lop)


def batch_norm(a, scale, shift, epsilon=0.0, among=WHOLE):
    """scale (a - mu) / sqrt(var + epsilon) + shift for a (N, ..., k), scale and shift (k,): see above.

    mu and var (k,) are over all axes but the last, and derivatives go through them. among: who has the batch's other
    rows, if any. Raises ValueError for other shapes of scale and shift.
    """
    return _batch_norm(a, scale, shift, epsilon=epsilon, among=among)


def _standardized(a, epsilon, among):
    """(y, 1 / s, N), to be differentiated again."""
    n = row_count(a, among)
    centred = rows_of(centre(a, among))
    inverse = 1.0 / ops.sqrt(_total(ops.sum(centred * centred, axis=0), among=among) / n + epsilon)
    return centred * inverse, inverse, n


def centre(a, among=WHOLE):
    """a (N, ..., k) less its mean over all axes but the last. among: who has the batch's other rows, if any."""
    return a - _total(ops.sum(rows_of(a), axis=0), among=among) / row_count(a, among)


@primitive
def _total(x, *, among):
    """The sum of x over slices of a batch"""
    return among.total([x])[0]


@_total.linear(0)
def _(y, x, *, among):
    total = lambda v: _total(v, among=among)
    return Linear(total, total)


def row_count(a, among):
    """N, of the whole batch."""
    return (among.samples or a.shape[0]) * math.prod(a.shape[1:-1])


def _sums(v):
    """The sum of the rows."""
    return ops.sum(v, axis=0) if type(v) is Var else ops.sum_of_rows(v)


def _dots(y, v):
    """The sum of the rows of y v, without making them where they are not traced."""
    return ops.sum(y * v, axis=0) if Var in (type(y), type(v)) else xp.einsum("nk,nk->k", y, v)


def _mixed(v, c, y, d, e):
    """c v + d y + e, row by row."""
    if Var in map(type, (v, c, y, d, e)):
        return c * v + d * y + e
    rows = xp.multiply(v, c, dtype=xp.result_type(v, c, y, d, e))
    rows += y * d
    rows += e
    return rows
