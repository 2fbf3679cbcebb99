"""Fisher information of a net's output distribution, as an operator G = J' M J on theta.

Three different matrices go by that name; none is ever called just "Fisher" here.

    exact       E_x E_{t ~ p(t|r)} [g g']     M = the loss's metric in r, in closed form (Pascanu & Bengio, eq. 8)
    mc          the same, with t sampled      unbiased; `samples` draws an input
    empirical   E_{(x, t) ~ data} [g g']      uses the labels: no Fisher information unless the model is right

g is one sample's gradient of log p(t | x). Weight decay is no distribution and is left out; add it as an operator.
"""

from ..backend import check_name, parallel, xp
from ..linalg import SliceSum
from .samples import SampleGradients, SampleMetric, gradient_covariance

KINDS = ("exact", "mc", "empirical")


def fisher(objective, theta, data, kind="exact", *, rng=None, samples=1):
    """The Fisher information at theta as a psd operator (n, n); forward pass once, then products only.

    data: x for "exact" and "mc", the batch (x, t) for "empirical". rng: for "mc", whose targets are drawn here, once.
    Raises ValueError for an unknown kind, mc without rng or with no sample, and what `objective.linearize` raises.
    """
    check_name("Fisher kind", kind, KINDS)
    if kind == "empirical":
        return gradient_covariance(objective, theta, data)
    if kind == "mc" and (rng is None or samples < 1):
        raise ValueError(f"fisher: mc needs an rng and samples >= 1, got rng={rng}, samples={samples}")
    loss = objective.loss
    r, J = objective.linearize(theta, data)
    if kind == "exact":
        n = r.shape[0]
        return pullback(J, lambda rows: loss.metric(r[rows], n))
    return SampleMetric(SampleGradients(J, [loss.gradient(r, loss.sample(r, rng), 1) for _ in range(samples)]))


def factored_fisher(objective, theta, x):
    """The exact Fisher information as G = P' P / (O N), with O rows a sample where mc draws some: a SampleMetric.

    The rows are J_i' b_k sqrt(O) for the columns b_k of B_i, with B_i B_i' = M_i the metric of sample i: scores at
    chosen targets, so to speak, whose mean is not left to chance. The operator equals `fisher(..., kind="exact")`, at O
    times the memory; what it adds are the Gram matrix and its solves (`sample_space_solve`), for few outputs.
    """
    r, J = objective.linearize(theta, x)
    n, outputs = r.shape
    B = objective.loss.factor(r, 1)
    columns = outputs**0.5 * xp.eye(outputs, dtype=r.dtype)
    return SampleMetric(SampleGradients(J, [B.matvec(xp.tile(e, n)).reshape(r.shape) for e in columns]))


def pullback(J, metric):
    """G = J' M J, slice by slice where J is sliced: metric(rows) is M for those samples."""
    if not hasattr(J, "slices"):
        return J.T @ metric(slice(None)) @ J
    slices = zip(J.parts, J.slices, strict=True)
    return SliceSum(parallel(lambda pair: pair[0].T @ metric(pair[1]) @ pair[0], slices))
