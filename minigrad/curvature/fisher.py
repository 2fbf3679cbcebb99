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


def fisher(objective, theta, data, kind="exact", *, rng=None, samples=1, linearized=None):
    """The Fisher information at theta as a psd operator (n, n); forward pass once, then products only.

    data: x for "exact" and "mc", the batch (x, t) for "empirical". rng: for "mc", whose targets are drawn here, once.
    linearized: r, J of this theta and x, where `objective.value_grad_and_linearize` has given them.
    Raises ValueError for an unknown kind, mc without rng or with no sample, and what `objective.linearize` raises.
    """
    check_kind(kind, rng, samples)
    if kind == "empirical":
        return gradient_covariance(objective, theta, data, linearized=linearized)
    r, J = linearized or objective.linearize(theta, data)
    if kind == "exact":
        n = r.shape[0]
        return pullback(J, lambda rows: objective.loss.metric(r[rows], n))
    return SampleMetric(SampleGradients(J, scores(objective.loss, r, kind=kind, rng=rng, samples=samples)))


def fisher_diagonal(objective, theta, data, kind="mc", *, rng=None, samples=1):
    """The diagonal of `fisher`, (n,): the mean over samples of E[g^2], elementwise, and no operator.

    data, kind, rng, samples: as in `fisher`. "exact" sweeps backwards once an output. A large batch goes through in
    slices of `objective.rows`, none of whose tapes is kept.
    Raises what `fisher` raises, and NotImplementedError where the net is not made of affine layers (`affine_layers`).
    """
    check_kind(kind, rng, samples)
    x, t = objective.checked(theta, data) if kind == "empirical" else (objective.inputs(theta, data), None)
    total = xp.zeros_like(theta)
    for rows in objective.alone.slices(theta, x.shape[0], objective.rows):
        r, J = objective.linearize(theta, x[rows])
        draws = scores(objective.loss, r, None if t is None else t[rows], kind, rng=rng, samples=samples)
        total += SampleGradients(J, draws).squares() * (1.0 / (len(draws) * x.shape[0]))
    return total


def factored_fisher(objective, theta, x):
    """The exact Fisher information as G = P' P / (O N), with O rows a sample where mc draws some: a SampleMetric.

    The rows are J_i' b_k sqrt(O) for the columns b_k of B_i, with B_i B_i' = M_i the metric of sample i: scores at
    chosen targets, so to speak, whose mean is not left to chance. The operator equals `fisher(..., kind="exact")`, at O
    times the memory; what it adds are the Gram matrix and its solves (`sample_space_solve`), for few outputs.
    """
    r, J = objective.linearize(theta, x)
    return SampleMetric(SampleGradients(J, scores(objective.loss, r, kind="exact")))


def scores(loss, r, t=None, kind="exact", *, rng=None, samples=1):
    """Cotangents of r, [u (N, O), ...], whose mean outer product u_i u_i' is the metric M_i of sample i.

    exact: b_k sqrt(O) for the O columns b_k of B_i, B_i B_i' = M_i. mc: gradients of -log p at `samples` targets drawn
    from the model, so that the mean is M_i in expectation. empirical: the one at t, which has no such mean.
    Raises ValueError for an unknown kind, mc without rng or with no sample, and for targets that do not fit r.
    """
    check_kind(kind, rng, samples)
    if kind == "mc":
        return [loss.gradient(r, loss.sample(r, rng), 1) for _ in range(samples)]
    if kind == "empirical":
        loss.check(r.shape, t)
        return [loss.gradient(r, t, 1)]
    n, outputs = r.shape
    B, columns = loss.factor(r, 1), outputs**0.5 * xp.eye(outputs, dtype=r.dtype)
    return [B.matvec(xp.tile(e, n)).reshape(r.shape) for e in columns]


def check_kind(kind, rng, samples):
    """Raise ValueError for an unknown kind of Fisher information, and for mc without rng or with no sample."""
    check_name("Fisher kind", kind, KINDS)
    if kind == "mc" and (rng is None or samples < 1):
        raise ValueError(f"Fisher kind mc needs an rng and samples >= 1, got rng={rng}, samples={samples}")


def pullback(J, metric):
    """G = J' M J, slice by slice where J is sliced, summed over its ranks: metric(rows) is M for those samples."""
    if not hasattr(J, "slices"):
        return J.T @ metric(slice(None)) @ J
    slices = zip(J.parts, J.slices, strict=True)
    return SliceSum(parallel(lambda pair: pair[0].T @ metric(pair[1]) @ pair[0], slices), ranks=J.ranks, run=J.run)
