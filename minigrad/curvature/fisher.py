"""Fisher information of a net's output distribution, as an operator G = J' M J on theta.

Three different matrices go by that name; none is ever called just "Fisher" here.

    exact       E_x E_{t ~ p(t|r)} [g g']     M = the loss's metric in r, in closed form (Pascanu & Bengio, eq. 8)
    mc          the same, with t sampled      unbiased; `samples` draws an input
    empirical   E_{(x, t) ~ data} [g g']      uses the labels: no Fisher information unless the model is right

g is one sample's gradient of log p(t | x). Weight decay is no distribution and is left out; add it as an operator.
"""

import functools
import operator

from ..autodiff import ops
from ..backend import check_name, parallel
from ..linalg import SliceSum
from ..losses import SampleBlocks

KINDS = ("exact", "mc", "empirical")


def fisher(objective, theta, data, kind="exact", *, rng=None, samples=1):
    """The Fisher information at theta as a psd operator (n, n); forward pass once, then products only.

    data: x for "exact" and "mc", the batch (x, t) for "empirical". rng: for "mc", whose targets are drawn here, once.
    Raises ValueError for an unknown kind, mc without rng or with no sample, and what `objective.linearize` raises.
    """
    check_name("Fisher kind", kind, KINDS)
    loss = objective.loss
    x, t = objective.checked(theta, data) if kind == "empirical" else (data, None)
    r, J = objective.linearize(theta, x)
    n = r.shape[0]
    if kind == "exact":
        return pullback(J, lambda rows: loss.metric(r[rows], n))
    if kind == "empirical":
        loss.check(r.shape, t)
        scores = [n * loss.gradient(r, t)]
    else:
        if rng is None or samples < 1:
            raise ValueError(f"fisher: mc needs an rng and samples >= 1, got rng={rng}, samples={samples}")
        scores = [n * loss.gradient(r, loss.sample(r, rng)) for _ in range(samples)]
    return pullback(J, lambda rows: score_metric([s[rows] for s in scores], n))


def pullback(J, metric):
    """G = J' M J, slice by slice where J is sliced: metric(rows) is M for those samples."""
    if not hasattr(J, "slices"):
        return J.T @ metric(slice(None)) @ J
    slices = zip(J.parts, J.slices, strict=True)
    return SliceSum(parallel(lambda pair: pair[0].T @ metric(pair[1]) @ pair[0], slices))


def score_metric(scores, n):
    """M: v -> mean over draws of s (s . v) / n, sample by sample; its pullback is the mean of g g'. scores: (N, O)."""
    c = 1.0 / (n * len(scores))

    def product(v):
        terms = [s * (c * ops.sum(s * v, axis=1, keepdims=True)) for s in scores]
        return functools.reduce(operator.add, terms)

    return SampleBlocks(scores[0].shape, scores[0].dtype, product, name="M")
