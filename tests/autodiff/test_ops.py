"""Rung 1: every row of the op table, in every argument and in all of them at once."""

import numpy as np
import pytest

from minigrad import backend
from minigrad.autodiff import PRIMITIVES, check, linearize
from minigrad.autodiff.tape import Primitive
from tests.autodiff.cases import CASES
from tests.fake_device import fake_device
from tests.helpers import close, dev, host

ALL = "all"
VARIANTS = [
    (case, which) for case in CASES for which in ([ALL, *range(len(case.shapes))] if len(case.shapes) > 1 else [0])
]
each_row = pytest.mark.parametrize("case", CASES, ids=str)
each_variant = pytest.mark.parametrize(
    ("case", "which"), VARIANTS, ids=[f"{case} argument {which}" for case, which in VARIANTS]
)


def problem(case, which, dtype=np.float64):
    """(f, x): the row as a function of one array, which is argument `which`, or all of them one after the other."""
    arguments = [dev(argument, dtype) for argument in case.arguments()]
    if which != ALL:
        return lambda x: case.f(*arguments[:which], x, *arguments[which + 1 :]), arguments[which]
    stops = np.cumsum([argument.size for argument in arguments]).tolist()

    def f(x):
        cuts = zip(arguments, stops, strict=True)
        return case.f(*(x[stop - a.size : stop].reshape(a.shape) for a, stop in cuts))

    return f, backend.xp.concatenate([argument.reshape(-1) for argument in arguments])


def sweeps(f, x):
    """Everything that the engine computes from a row: value, R-op, L-op, and both again of each."""
    y, J = linearize(f, x)
    v, u = check.direction(J.x_shape, x.dtype, 2), check.direction(J.y_shape, x.dtype, 3)
    w = check.direction(J.x_shape, x.dtype, 4)
    before = backend.host_reads.count
    results = [y, J.rop(v), J.lop(u)]
    for swept in (lambda z: linearize(f, z)[1].rop(v), lambda z: linearize(f, z)[1].lop(u)):
        z, J2 = linearize(swept, x)
        results += [J2.rop(w), J2.lop(check.direction(J2.y_shape, x.dtype, 5))]
    assert backend.host_reads.count == before  # nothing waits for a device
    return results


@each_row
def test_value(case):
    arguments = case.arguments()
    found = case.f(*(dev(argument) for argument in arguments))
    close(found, case.value(*arguments), rtol=1e-14)


@each_variant
def test_derivatives(case, which):
    f, x = problem(case, which)
    check.derivatives(f, x, smooth=case.smooth)


@each_variant
def test_float32_stays_float32(case, which):
    single, double = sweeps(*problem(case, which, np.float32)), sweeps(*problem(case, which))
    for found, expected in zip(single, double, strict=True):
        assert found.dtype == np.float32
        close(found, expected.astype(np.float32), rtol=1e-5, atol=1e-6)


@each_variant
def test_on_the_fake_device(case, which):
    expected = [host(result) for result in sweeps(*problem(case, which))]
    with fake_device():
        for found, wanted in zip(sweeps(*problem(case, which)), expected, strict=True):
            close(found, wanted, rtol=1e-14, atol=1e-15)


def test_every_rule_has_a_row(monkeypatch):
    asked, rule = set(), Primitive.rule

    def spied(self, i, *args):
        asked.add((self.name, i if i in self.rules else "all"))
        return rule(self, i, *args)

    monkeypatch.setattr(Primitive, "rule", spied)
    for case, which in VARIANTS:
        linearize(*problem(case, which))
    ours = [op for op in PRIMITIVES.values() if op.value.__module__.startswith("minigrad.")]
    assert {(op.name, position) for op in ours for position in op.rules} <= asked
    assert all(op.rules for op in ours)
