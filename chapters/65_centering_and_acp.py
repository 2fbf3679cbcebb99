# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Centring and covariance
#
# **The question.** Half of a layer's curvature is made of nothing but the layer's input. What does that half alone tell
# a method to do, and how much of the tricks "centre the inputs", "normalize the batch", RMSProp follows from it?
#
# **The paper.** George's thesis, sections 3.3.3 and 3.4: centred gradient descent (algorithm 2), the amortized
# covariance preconditioner ACP (algorithm 3). Its figure 3.1 and its section on RMSProp (3.6.1) are left "WIP"; here
# they are done.
#
# | in the thesis | here | shape | what it is |
# |---|---|---|---|
# | $h_i$ | row of `h` | (in,) | a layer's input; samples are rows |
# | $\nabla_{a_i} l$, $\Delta_{a_i}$ | row of `delta` | (out,) | gradient of a sample's loss in the pre-activation |
# | $\frac1n \sum_i h_i$ | `mu` | (in,) | mean input |
# | $C$ | `C` | (in, in) | covariance of the input |
# | $A$ | `A` | (in + 1, in + 1) | second moments of $(h, 1)$ |
# | $\Delta W$, $\Delta b$ | `step[:-1]`, `step[-1]` | (in, out), (out,) | what is subtracted; its $W$ is our $W^\top$ |
# | $\alpha$ | `alpha` | number | stands for the other half, $J_a^\top D J_a$ |
# | $\lambda$ (damping), $\lambda$ (step) | `lam`, `lr` | numbers | one letter for both in the thesis |

# %%
# %matplotlib inline
import os

import numpy as np

import minigrad
from minigrad.curvature import gauss_newton, per_sample_gradients
from minigrad.linalg import homogeneous_inverse
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import MeanOnly, autoencoder, mlp
from minigrad.optimizers import ACP, SGD, CentredGD, SquaredGradient
from minigrad.plot import BLACK, BLUE, GREY, SKY, VERMILLION, curves, figure, label_ends, plain_numbers

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
minigrad.use("numpy")  # this chapter works on small host arrays, whatever backend is set
rng = np.random.default_rng(65)
close = np.testing.assert_allclose

# %% [markdown]
# ## 1. The half that knows the input
#
# A layer's Gauss-Newton block (eq. 3.3.2, chapter 60) is a mean of Kronecker products, one a sample. The thesis
# replaces the second factor by a multiple of the identity,
#
# $$ \frac1n \sum_i \begin{pmatrix} h_i \\ 1 \end{pmatrix} \begin{pmatrix} h_i \\ 1 \end{pmatrix}^{\!\top} \otimes
#    J_{a_i}^\top D_i J_{a_i} \;\approx\; A \otimes \alpha I, \qquad
#    A = \begin{pmatrix} \frac1n \sum h_i h_i^\top & \mu \\ \mu^\top & 1 \end{pmatrix}, $$
#
# and looks at $A$. Eliminate the bias's row and the covariance $C = \frac1n \sum h_i h_i^\top - \mu \mu^\top$ appears:
#
# $$ A = \begin{pmatrix} I & \mu \\ & 1 \end{pmatrix} \begin{pmatrix} C & \\ & 1 \end{pmatrix}
#        \begin{pmatrix} I & \\ \mu^\top & 1 \end{pmatrix}, \qquad
#    A^{-1} = \begin{pmatrix} I & \\ -\mu^\top & 1 \end{pmatrix} \begin{pmatrix} C^{-1} & \\ & 1 \end{pmatrix}
#        \begin{pmatrix} I & -\mu \\ & 1 \end{pmatrix}
#      = \begin{pmatrix} C^{-1} & -C^{-1} \mu \\ -\mu^\top C^{-1} & 1 + \mu^\top C^{-1} \mu \end{pmatrix}. $$
#
# Read the three factors from the right: *centre*, *divide by the covariance*, *mend the bias*.

# %%
N, n_in, n_out = 200, 4, 3
h = rng.normal(size=(N, n_in)) @ rng.normal(size=(n_in, n_in)) + np.array([1.0, 2.0, -1.0, 0.5])
delta = rng.normal(size=(N, n_out)) + 0.3 * h[:, :n_out]
h1 = np.concatenate([h, np.ones((N, 1))], axis=1)
A, C, mu = h1.T @ h1 / N, np.cov(h.T, bias=True), h.mean(axis=0)
G = h1.T @ delta / N  # the gradient: rows of weights, then the bias's row
centre = np.block([[np.eye(n_in), -mu[:, None]], [np.zeros((1, n_in)), np.ones((1, 1))]])
middle = np.block([[np.linalg.inv(C), np.zeros((n_in, 1))], [np.zeros((1, n_in)), np.ones((1, 1))]])
close(np.linalg.inv(A), centre.T @ middle @ centre, atol=1e-12)
close(np.linalg.inv(A), homogeneous_inverse(h.T @ h / N, mu), atol=1e-12)

# %% [markdown]
# Applied to the gradient this gives equations 3.3.3 and 3.3.4:
#
# $$ \Delta W = \frac1\alpha\, C^{-1}\, \frac1n \sum_j (h_j - \mu)\, \nabla_{a_j} l^{\,\top}, \qquad
#    \Delta b = \frac1\alpha\, \frac1n \sum_j \nabla_{a_j} l - \mu^\top \Delta W . $$

# %%
alpha = 0.7
step = np.linalg.solve(np.kron(A, alpha * np.eye(n_out)), G.ravel()).reshape(G.shape)  # (A kron alpha I)^-1 vec(G)
close(step[:-1], np.linalg.inv(C) @ (h - mu).T @ delta / N / alpha, atol=1e-12)
close(step[-1], delta.mean(axis=0) / alpha - mu @ step[:-1], atol=1e-12)

# %% [markdown]
# ## 2. Centred gradient descent
#
# Algorithm 2 keeps the first of the three factors and drops the others:
#
# $$ b \leftarrow b - \lambda\, \frac1n \sum_i \Delta_{a_i}, \qquad
#    W \leftarrow W - \lambda\, \frac1n \sum_i (h_i - \mu)\, \Delta_{a_i}^\top . $$
#
# (The thesis prints plus signs.) In the gradient $(G_W; g)$ of a layer that is $G_W - \mu g$, one outer product: the
# batch is swept once, as for SGD. In matrices it is `centre @ G`, and `centre` $= P$ is not symmetric. So it is no
# metric, and the direction is nobody's gradient. Does it still descend? The slope of the loss along the step is minus
#
# $$ \langle (G_W; g),\, P\, (G_W; g) \rangle = \lVert G_W \rVert^2 - \langle G_W, \mu g \rangle + \lVert g \rVert^2
#    = \lVert G_W - \tfrac12 \mu g \rVert^2 + \big( 1 - \tfrac14 \lVert \mu \rVert^2 \big) \lVert g \rVert^2 . $$
#
# **It descends, whatever the gradient, if and only if $\lVert \mu \rVert \le 2$.** Beyond, the gradient
# $G_W = \tfrac12 \mu g$ is one at which every small step goes up. Such gradients exist: a linear layer has the `delta`
# that we want when we choose its targets.


# %%
def worst_layer(length, rng):
    """A linear layer under squared error whose input's mean has this length and whose gradient is mu g / 2."""
    h = rng.normal(size=(50, 3))
    mu = rng.normal(size=3)
    mu *= length / np.linalg.norm(mu)
    h += mu - h.mean(axis=0)
    g = rng.normal(size=2)
    delta = g - (h - mu) @ np.linalg.solve(np.cov(h.T, bias=True), np.outer(mu, g)) / 2
    W = rng.normal(size=(4, 2))
    return minigrad.Objective(mlp([3, 2]), Gaussian()), W.ravel(), (h, h @ W[:-1] + W[-1] - delta), g


lengths, slopes = np.linspace(0, 4, 17), []
for length in lengths:
    objective, theta, batch, g = worst_layer(length, rng)
    new, _, log = CentredGD(1e-6).step(theta, {"update": 0}, objective, batch)
    slopes.append((objective.value(new, batch) - log["loss"]) / 1e-6 / (g @ g))
close(slopes, lengths**2 / 4 - 1, atol=1e-3)
fig, ax = figure(height=2.8)
ax.axhspan(0, 3.3, color=GREY, alpha=0.12, linewidth=0)
ax.plot(lengths, lengths**2 / 4 - 1, color=SKY, label="$|\\mu|^2 / 4 - 1$")
ax.plot(lengths, slopes, "o", color=BLACK, ms=3.5)
ax.text(0.1, 2.7, "uphill", fontsize=8, color=GREY)
ax.set(xlabel="length of the mean input", ylabel="slope of the loss / $|g|^2$", ylim=(-1.2, 3.3))
ax.set_title("At its worst gradient, a centred step goes uphill where the mean is longer than 2", fontsize=9)
label_ends(ax)

# %% [markdown]
# Two is not much. The mean image of MNIST has length 6; a layer of 250 sigmoids around $\frac12$ has one of 8. Why then
# does it train? Look at what $P$ makes of the curvature. For a linear layer under squared error the Hessian is
# $A \otimes I$, and
#
# $$ P A = \begin{pmatrix} C & \\ \mu^\top & 1 \end{pmatrix} $$
#
# is triangular: its eigenvalues are those of the covariance, and 1. So the iteration converges for every
# $\lambda < 2 / \max(\lambda_{\max}(C), 1)$, *whatever $\mu$ is*, while gradient descent has to live with the largest
# eigenvalue of $A$, which is more than $\lVert \mu \rVert^2$. It need not go down on its way.

# %%
close(centre @ A, np.block([[C, np.zeros((n_in, 1))], [mu[None], np.ones((1, 1))]]), atol=1e-12)
objective, theta, batch, _ = worst_layer(5.0, rng)
h1_ = np.concatenate([batch[0], np.ones((50, 1))], axis=1)
A_, C_ = h1_.T @ h1_ / 50, np.cov(batch[0].T, bias=True)
best = np.linalg.lstsq(h1_, batch[1])[0].ravel()
floor = objective.value(best, batch)


def excess(optimizer, steps=12):
    """How far the loss is above its minimum, step by step."""
    point, state, found = theta, optimizer.init(objective, theta), []
    for _ in range(steps):
        point, state, log = optimizer.step(point, state, objective, batch)
        found.append(log["loss"] - floor)
    return np.array(found)


top = {"SGD": np.linalg.eigvalsh(A_)[-1], "centred GD": max(np.linalg.eigvalsh(C_)[-1], 1.0)}
runs = {
    "SGD": excess(SGD(1 / top["SGD"])),
    "centred GD": excess(CentredGD(1 / top["centred GD"])),
    "ACP": excess(ACP(1.0, alpha=1.0, damping=1e-2, samples=None)),
}
fig, ax = figure(height=2.8)
curves(ax, {name: (np.arange(12), run) for name, run in runs.items()})
ax.set(yscale="log", xlabel="updates", ylabel="loss above its minimum", ylim=(1e-12, None))
ax.set_title("A linear layer, |mean| = 5: centring climbs first, and converges as if there were no mean", fontsize=9)
label_ends(ax)
assert runs["centred GD"][1] > runs["centred GD"][0] and runs["centred GD"][-1] < 1e-6 * runs["SGD"][-1]
print(f"largest eigenvalue: A {top['SGD']:.1f}, P A {top['centred GD']:.1f}")

# %% [markdown]
# Weight decay is part of the gradient here, so $P$ multiplies it too. $P$ is invertible: the points where the method
# rests are those of the penalized objective, as they should be, and would not be if decay were left uncentred.
#
# What of *mean-only batch normalization*, which takes the batch's mean off the pre-activation, $(h - \mu) W + \beta$?
# The gradient in its $W$ is $\frac1n \sum (h_i - \mu) \delta_i^\top$ as well. It is the same rule, with two
# differences: in the coordinates $(W, \beta)$ a step of $W$ does not move the output's mean, which is the third factor
# of $A^{-1}$ (mend the bias), so it *is* gradient descent on something; and the $\delta$ that it sends further down has
# lost its mean too.

# %%
plain, normalized = mlp([4, 3, 2]), mlp([4, 3, 2], normalization=MeanOnly())
x, t = rng.normal(size=(30, 4)) + 1.0, rng.normal(size=(30, 2))
phi = normalized.init(rng, "float64")
p = normalized.layout.views(phi)
mean = x.mean(axis=0) @ p["layer0"][:-1]
first = np.concatenate([p["layer0"][:-1], (p["layer0.shift"] - mean)[None]])
same = plain.layout.pack({"layer0": first, "layer1": p["layer1"]})
close(normalized.apply(phi, x), plain.apply(same, x), atol=1e-12)
_, g_normalized = minigrad.Objective(normalized, Gaussian()).value_and_grad(phi, (x, t))
new, _, _ = CentredGD(1.0).step(same, {"update": 0}, minigrad.Objective(plain, Gaussian()), (x, t))
close(g_normalized[normalized.layout.slices["layer0"]][:12], (same - new)[:12], atol=1e-12)

# %% [markdown]
# ## 3. ACP, as printed and as it must be
#
# ACP keeps the covariance too, measured once in $N$ updates on a batch of its own. For damping, section 3.4.2 writes
# the system that it means,
#
# $$ \big( A \otimes \alpha I + \lambda I \big) \operatorname{vec}(\Delta) = \operatorname{vec}(G)
#    \quad\Longleftrightarrow\quad \Delta = \frac1\alpha \Big( A + \frac\lambda\alpha I \Big)^{-1} G . $$
#
# With $\epsilon = \lambda / \alpha$, eliminate the bias as before, whose corner is now $1 + \epsilon$:
#
# $$ \Delta W = \frac1\alpha\, K\, \frac1n \sum_j \Big( h_j - \frac{\mu}{1 + \epsilon} \Big) \nabla_{a_j} l^{\,\top},
#    \qquad \Delta b = \frac{1}{1 + \epsilon} \Big( \frac1\alpha \frac1n \sum_j \nabla_{a_j} l
#    - \mu^\top \Delta W \Big), \qquad
#    K^{-1} = C + \epsilon I + \frac{\epsilon}{1 + \epsilon}\, \mu \mu^\top . $$

# %%
lam = 0.05
e = lam / alpha
step = np.linalg.solve(np.kron(A, alpha * np.eye(n_out)) + lam * np.eye(G.size), G.ravel()).reshape(G.shape)
K = np.linalg.inv(C + e * np.eye(n_in) + e / (1 + e) * np.outer(mu, mu))
close(step[:-1], K @ (h - mu / (1 + e)).T @ delta / N / alpha, atol=1e-12)
close(step[-1], (delta.mean(axis=0) / alpha - mu @ step[:-1]) / (1 + e), atol=1e-12)

# %% [markdown]
# Algorithm 3 is another rule: $\Delta W = C^{-1} \frac1n \sum (h_j - \mu) \nabla_{a_j} l^\top$ and
# $\Delta b = \frac1n \sum \nabla_{a_j} l$, with no $\alpha$ in it, and $C$ damped by $\epsilon I$ if section 3.4.2 is
# to have a say. Three things are missing: the term $-\mu^\top \Delta W$ of its own eq. 3.3.4; the factor $1 / \alpha$;
# and damping enters another matrix, for $K^{-1}$ is not $C + \epsilon I$. Both, in a few lines on one layer:


# %%
def acp(form, G, h, delta, alpha, lam):
    """A layer's step by either rule; statistics on the gradient's own batch."""
    mu, C = h.mean(axis=0), np.cov(h.T, bias=True)
    if form == "damped":
        second = h.T @ h / len(h)
        return homogeneous_inverse(second, mu, lam / alpha) @ G / alpha
    weights = np.linalg.solve(C + lam / alpha * np.eye(len(C)), G[:-1] - np.outer(mu, G[-1]))
    return np.concatenate([weights, G[-1:]])


close(acp("damped", G, h, delta, alpha, lam), step, atol=1e-12)
net = mlp([4, 3, 2])
objective, theta = minigrad.Objective(net, Categorical()), net.init(rng, "float64")
batch = h, rng.integers(0, 2, N)
rows = [layer for (layer,) in per_sample_gradients(objective, theta, batch).layers]  # h and delta of each layer
for form in ("damped", "printed"):
    new, _, _ = ACP(1.0, alpha=alpha, damping=lam, samples=None, form=form).step(theta, {"update": 0}, objective, batch)
    for layer in rows:
        inputs = np.concatenate([layer.h, np.ones((N, 1))], axis=1)
        mine = acp(form, inputs.T @ layer.delta / N, layer.h, layer.delta, alpha, lam)
        close((theta - new)[slice(*layer.span)], mine.ravel(), atol=1e-11)  # the library agrees

# %% [markdown]
# How much does it matter? On a linear layer under squared error the undamped system is Newton's method and needs one
# step. Algorithm 3 (with $\alpha = 1$) needs two: what it makes of $A$ is $\begin{pmatrix} I & \\ \mu^\top & 1
# \end{pmatrix}$, which is $I$ but for the bias's row. The thesis says that the term "did not change much as $\Delta W$
# is typically at least one order of magnitude smaller" than the mean gradient. It is not $\Delta W$ that is added to
# the bias, but its product with $\mu$, a sum over all inputs. The figure takes the layer of section 1.

# %%
linear, W = minigrad.Objective(mlp([3, 2]), Gaussian()), rng.normal(size=8)
lsq = rng.normal(size=(40, 3)) + 2.0, rng.normal(size=(40, 2))
optimum = np.linalg.lstsq(np.concatenate([lsq[0], np.ones((40, 1))], axis=1), lsq[1])[0].ravel()
for form in ("damped", "printed"):
    optimizer, point = ACP(1.0, alpha=1.0, damping=0, samples=None, form=form), W
    state, off = optimizer.init(linear, W), []
    for _ in range(2):
        point, state, _ = optimizer.step(point, state, linear, lsq)
        off.append(np.linalg.norm(point - optimum) / np.linalg.norm(W - optimum))
    print(f"{form:8} distance from the optimum after one step {off[0]:.0e}, after two {off[1]:.0e}")

eps = np.geomspace(1e-4, 10, 30)
pairs = [(acp("damped", G, h, delta, 1.0, e), acp("printed", G, h, delta, 1.0, e)) for e in eps]
apart = lambda a, b: np.linalg.norm(a - b) / np.linalg.norm(a)
full, short = (acp(form, G, h, delta, 1.0, 0.01) for form in ("damped", "printed"))
print(f"epsilon 0.01: algorithm 3 is off by {apart(short[:-1], full[:-1]):.0%} in the weights, ", end="")
print(f"by {apart(short[-1], full[-1]):.0%} in the bias")
fig, ax = figure(height=2.8)
ax.loglog(eps, [apart(b[-1], a[-1]) for a, b in pairs], color=VERMILLION, label="bias")
ax.loglog(eps, [apart(b[:-1], a[:-1]) for a, b in pairs], color=BLUE, label="weights")
ax.set(xlabel="$\\epsilon = \\lambda / \\alpha$", ylabel="|difference| / |algorithm 3|")
ax.set_title("Algorithm 3 against the damped system ($\\alpha = 1$): the bias differs even undamped", fontsize=9)
plain_numbers(ax.xaxis)
label_ends(ax)

# %% [markdown]
# ## 4. Which alpha?
#
# Either a hyper-parameter, or, as a "very experimental heuristics" (3.4.2), the largest squared entry of
# $\nabla_{a_i} l$ over the minibatch and the layer's outputs, "a measure of the curvature". What is it a measure of?
# With the empirical Fisher in the place of the true one, the factor that $\alpha I$ replaces is
# $S = \frac1n \sum \delta_i \delta_i^\top$. The maximum bounds every diagonal entry of $S$. It does not bound $S$: that
# takes $\max_i \lVert \delta_i \rVert^2$, up to $n_{out}$ times as much.

# %%
S = delta.T @ delta / N
assert np.diag(S).max() <= (delta**2).max() and np.linalg.eigvalsh(S)[-1] <= (delta**2).sum(axis=1).max()
ones = np.ones((N, 6))
top_S = np.linalg.eigvalsh(ones.T @ ones / N)[-1]
print(f"six outputs that always agree: alpha = {(ones**2).max():.0f}, largest eigenvalue of S = {top_S:.0f}")
r, J = objective.linearize(theta, batch[0])
found = SquaredGradient()(J, objective.loss.gradient(r, batch[1], 1))
close(found, [(layer.delta**2).max() for layer in rows], rtol=1e-12)

# %% [markdown]
# And being made of squared gradients, it has the empirical Fisher's faults (chapter 30, section 6). It grows with the
# square of the loss's unit, where a curvature grows in proportion: halve $\beta$ of a Gaussian, which multiplies the
# loss by 4, and the undamped step is a quarter. It also vanishes with the gradients: at the end of training steps
# become *longer*, where only damping or a falling learning rate holds them.

# %%
lengths_of = {}
for beta in (1.0, 0.5):
    scaled = minigrad.Objective(mlp([3, 2]), Gaussian(beta))
    for name, optimizer in (
        ("squared", ACP(damping=0, samples=None)),
        ("number", ACP(alpha=1 / beta**2, damping=0, samples=None)),
    ):
        new, _, _ = optimizer.step(W, {"update": 0}, scaled, lsq)
        lengths_of[name, beta] = np.linalg.norm(new - W)
print(
    f"loss times 4: the step by the heuristic, times {lengths_of['squared', 0.5] / lengths_of['squared', 1.0]:.2f}; ",
    end="",
)
print(f"with alpha in the loss's unit, times {lengths_of['number', 0.5] / lengths_of['number', 1.0]:.2f}")
close(lengths_of["squared", 0.5], lengths_of["squared", 1.0] / 4, rtol=1e-10)

# %% [markdown]
# ## 5. RMSProp as a diagonal Gauss-Newton
#
# Section 3.6.1 consists of one line: "WIP: RMSProp is very close to diagonal GN for cross entropies". RMSProp divides
# by the root of a running mean of $g^2$. The bridge is section 3.1.5: cut at $y$, the Gauss-Newton matrix of a
# cross-entropy with labels is $\frac1n \sum_i g_i g_i^\top$, for one output or a softmax. Its diagonal is the mean of
# squares, and needs no row of it: $(h^2, 1)^\top \delta^2$, layer by layer.

# %%
diagonal = per_sample_gradients(objective, theta, batch).squares() / N
close(np.diag(gauss_newton(objective, theta, batch, at="y").dense()), diagonal, rtol=1e-9, atol=1e-14)
cut_at_r = np.diag(gauss_newton(objective, theta, batch).dense())
print(f"diagonal of Gauss-Newton cut at r, against cut at y: off by {apart(diagonal, cut_at_r):.0%}")

# %% [markdown]
# RMSProp squares the *batch's mean* gradient. For batches of one that is the same, and so:
#
# **With batches of one, RMSProp's running mean is the running mean of the Gauss-Newton diagonal, exactly.**
#
# With batches of $B$, drawn with replacement, the expectation of what it accumulates is
#
# $$ \mathbb E\, \Big( \frac1B \sum_{i \in \text{batch}} g_i \Big)^{\!2}
#    = \frac1B\, \mathbb E\, g_i^2 + \Big( 1 - \frac1B \Big) (\mathbb E\, g_i)^2 , $$
#
# elementwise: near a minimum, where $\mathbb E g_i = 0$, the diagonal divided by $B$; far from one, the mean gradient's
# square, in which no curvature is left. Then comes the root.

# %%
g_rows = per_sample_gradients(objective, theta, batch).dense()
for B in (1, 10, 100):
    draws = rng.integers(0, N, size=(1000 if QUICK else 4000, B))
    measured = np.mean([g_rows[i].mean(axis=0) ** 2 for i in draws], axis=0)
    expected = diagonal / B + (1 - 1 / B) * g_rows.mean(axis=0) ** 2
    ratio = measured.sum() / diagonal.sum()
    promised = expected.sum() / diagonal.sum()
    print(f"batches of {B:3}: RMSProp's squares are {ratio:.3f} of the diagonal, expected {promised:.3f}")
    close(ratio, promised, rtol=0.1)

# %% [markdown]
# | | RMSProp | $g / \operatorname{mean}(g_i^2)$ | $g / \operatorname{diag}(J^\top M J)$ |
# |---|---|---|---|
# | loss times $c$: the step is multiplied by | 1 | $1 / c$ | 1 |
# | parameters in a unit $c$ times as large: by | $c$ | 1 | 1 |
#
# So what is "very close" is the matrix, for small batches. The step is not: with the root RMSProp is a method that
# gives every parameter steps of one size, and depends on the parameters' units, which Gauss-Newton, even on the
# diagonal, does not. The root buys what the empirical Fisher lacks, indifference to the loss's unit.
#
# ## 6. The experiment
#
# Figure 3.1 of the thesis would have shown SGD, centred gradient descent and mean-only batch normalization. The full
# comparison on MNIST is `python -m minigrad run centering` (its record: `plot centering --full`). Here is a small one:
# images of two soft bars in 8 x 8 pixels, an autoencoder of sigmoids, every method with the best of the same seven
# learning rates; ACP (the damped system, alpha by the heuristic, statistics of the batch at every 20th update) beside
# them.


# %%
def bars(count, rng):
    """Images (count, 64) of a horizontal and a vertical bar with soft edges."""
    place, size = rng.uniform(1, 6, size=(2, count, 1)), np.arange(8.0)
    across, down = (np.exp(-((size - where) ** 2)) for where in place)
    return (1 - (1 - across[:, :, None]) * (1 - down[:, None, :])).reshape(count, 64)


x_train, x_test = bars(500, rng), bars(200, rng)
sizes, updates = (64, 20, 3), 60 if QUICK else 600
methods = {
    "SGD": (SGD, {}, None),
    "centred GD": (CentredGD, {}, None),
    "mean-only BN": (SGD, {}, MeanOnly()),
    "ACP": (ACP, {"damping": 1e-3, "samples": None}, None),
}
rates = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def train(name, lr, seed=0):
    """(updates, test loss) along a run; infinite at the end if it diverged."""
    kind, options, normalization = methods[name]
    the = minigrad.Objective(autoencoder(sizes, code="linear", normalization=normalization), Bernoulli())
    metrics = {"test": lambda theta: the.settled(theta, x_train).value(theta, (x_test, x_test))}
    every = updates // 20
    try:
        run = minigrad.fit(the, kind(lr, **options), (x_train, x_train), batch_size=50, updates=updates, seed=seed,
                           metrics=metrics, evaluate_every=every, progress=False)  # fmt: skip
        return run.curves["update"], run.curves["test"]
    except minigrad.training.Diverged:
        return [0], [np.inf]


entropy = -np.mean(np.sum(x_test * np.log(x_test) + (1 - x_test) * np.log1p(-x_test), axis=1))
fig, ax = figure(height=3.0)
for name in methods:
    tried = {lr: train(name, lr)[1][-1] for lr in rates}
    lr = min(tried, key=tried.get)
    seeds = [train(name, lr, seed) for seed in range(1, 2 if QUICK else 4)]
    above = np.array([test for _, test in seeds]) - entropy
    curves(ax, {name: (seeds[0][0], above)})
    print(f"{name:14} lr {lr:5g}   {np.median(above[:, -1]):.3f} nats above the best possible")
ax.set(yscale="log", xlabel="updates", ylabel="test loss above entropy (nats)")
ax.set_title("Bars of 8 x 8 pixels, autoencoder 64-20-3-20-64: median and range of 3 seeds", fontsize=9)
plain_numbers(ax.yaxis)
label_ends(ax)

# %% [markdown]
# Centring lets the learning rate be larger, and so it is ahead at first; at the end the three are within each other's
# range. Nothing here is a law: seven learning rates, one small net, no momentum.
#
# How far is the centred gradient from the gradient? "A slightly different direction", says section 3.4.1. At the start:

# %%
the = minigrad.Objective(autoencoder(sizes, code="linear"), Bernoulli())
theta = the.net.init(rng, "float64")
_, g = the.value_and_grad(theta, (x_train, x_train))
new, _, _ = CentredGD(1.0).step(theta, {"update": 0}, the, (x_train, x_train))
cosine = g @ (theta - new) / np.linalg.norm(g) / np.linalg.norm(theta - new)
print(f"cosine of the angle between gradient and centred gradient: {cosine:.2f}")
for (layer,) in per_sample_gradients(the, theta, (x_train, x_train)).layers:
    inputs = np.concatenate([layer.h, np.ones((len(layer.h), 1))], axis=1)
    found = acp("damped", inputs.T @ layer.delta / 500, layer.h, layer.delta, 1.0, 1e-2)
    bias, mend = layer.delta.mean(axis=0), layer.h.mean(axis=0) @ found[:-1]
    print(f"{layer.name}: |mean input| {np.linalg.norm(layer.h.mean(axis=0)):.1f}, "
          f"|mu dW| is {np.linalg.norm(mend) / np.linalg.norm(bias):.2f} of |mean delta|")  # fmt: skip

# %% [markdown]
# ## 7. What is wrong in the thesis as printed
#
# - Algorithms 2 and 3 add $\lambda$ times the gradient to $b$ and $W$: ascent. Both need a minus.
# - Eq. 3.3.4, last line: $\frac1n \frac1n \sum_j \nabla_{a_j} l$ must be $\frac1\alpha \frac1n \sum_j \nabla_{a_j} l$,
#   as the line above it has.
# - Algorithm 3 lacks the term $-\Delta W \mu$ of eq. 3.3.4 and the factor $1 / \alpha$ of eq. 3.3.3, and no damping is
#   in it; $C + \frac\lambda\alpha I$ is not what the system of 3.4.2 inverts (section 3).
# - 3.3.4: the bias's new term "did not change much as $\Delta W$ is typically at least one order of magnitude smaller"
#   than the mean gradient: what is added is $\Delta W \mu$ (section 6 has its size).
# - 3.4.1: "a slightly different direction": the cosine above; and it is a direction of descent for certain only where
#   $\lVert \mu \rVert \le 2$.
# - 3.4.2: $\lambda$ is the damping, in algorithms 2 and 3 the learning rate.
# - 3.6.1: RMSProp's squares are the Gauss-Newton diagonal for batches of one; its step has a root more.
#
# The numbers of the first lines:

# %%
printed = delta.sum(axis=0) / N**2 - mu @ (acp("damped", G, h, delta, alpha, 0)[:-1])
right = acp("damped", G, h, delta, alpha, 0)[-1]
print(f"eq. 3.3.4: as printed off by {apart(right, printed):.0%}")
small = minigrad.Objective(mlp([3, 2]), Gaussian())
for sign in (-1, 1):
    moved = W + sign * 0.01 * (W - CentredGD(1.0).step(W, {"update": 0}, small, lsq)[0])
    change = small.value(moved, lsq) - small.value(W, lsq)
    print(f"algorithm 2 with {'+' if sign > 0 else '-'}: the loss changes by {change:+.3f}")

# %% [markdown]
# ## 8. Exercises
#
# 1. Give a $P$ that is symmetric, positive definite, and moves the weights as algorithm 2 does (up to what the bias's
#    row adds). Hint: gradient descent in the coordinates $(W, c)$ of $a = (h - \mu) W + c$.
#    `check_exercise_1(lambda mu: P)`.
# 2. A layer has 100 sigmoid inputs, each $0.5 \pm 0.1$, independent. Up to which learning rate does centred gradient
#    descent converge on a linear layer under squared error, and up to which gradient descent?
#    `check_exercise_2(centred, plain)`, to two digits.
# 3. Batches of $B$ out of $N$ samples *without* replacement: what stands in place of $\frac1B$ in the expectation of
#    RMSProp's squares, written as $\mathbb E[g]^2 + v\, (\mathbb E[g^2] - \mathbb E[g]^2)$?
#    `check_exercise_3(lambda N, B: v)`.


# %%
def check_exercise_1(build):
    for length in (0.0, 3.0, 30.0):
        mu = np.random.default_rng(1).normal(size=4)
        mu *= length / np.linalg.norm(mu)
        P = np.asarray(build(mu))
        assert np.allclose(P, P.T) and np.linalg.eigvalsh(P)[0] > 0, "T' T for the change of coordinates T"
        assert np.allclose(P[:-1], np.concatenate([np.eye(4), -mu[:, None]], axis=1)), "the weights' rows are alg. 2's"
    print("right")


def check_exercise_2(centred, plain):
    assert np.isclose(centred, 2.0, rtol=0.01), "the covariance's eigenvalues are 0.01; the bias's is 1"
    A = np.block([[0.25 * np.ones((100, 100)) + 0.01 * np.eye(100), 0.5 * np.ones((100, 1))],
                  [0.5 * np.ones((1, 100)), np.ones((1, 1))]])  # fmt: skip
    assert np.isclose(plain, 2 / np.linalg.eigvalsh(A)[-1], rtol=0.02), "A's largest eigenvalue is about |mu|^2 + 1"
    print("right")


def check_exercise_3(v):
    values = np.random.default_rng(0).normal(size=40)
    for B in (1, 7, 40):
        order = np.random.default_rng(1).permuted(np.tile(values, (20000, 1)), axis=1)[:, :B].mean(axis=1)
        expected = values.mean() ** 2 + v(40, B) * (np.mean(values**2) - values.mean() ** 2)
        assert np.isclose(np.mean(order**2), expected, rtol=0.08, atol=1e-12), "the whole set has no scatter"
    print("right")


# %% tags=["hide-input"]
# The checkers are checked too, with a right and a wrong answer each.
both = lambda mu: np.block([[np.eye(4), -mu[:, None]], [-mu[None], np.array([[1 + mu @ mu]])]])
check_exercise_1(both)
check_exercise_2(2.0, 0.077)
check_exercise_3(lambda N, B: (N - B) / (N - 1) / B)
for checker, wrong in (
    (check_exercise_1, [lambda mu: np.block([[np.eye(4), -mu[:, None]], [-mu[None], np.ones((1, 1))]])]),
    (check_exercise_2, [200.0, 0.077]),
    (check_exercise_3, [lambda N, B: 1 / B]),
):
    try:
        checker(*wrong)
    except AssertionError:
        continue
    raise RuntimeError("a wrong answer was taken for right")
