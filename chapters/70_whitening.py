# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Whitening
#
# **The question.** Natural gradient divides by the Fisher information. Can we instead choose parameters in which that
# matrix is nearly the identity, so that plain gradient descent does the same? And what has batch normalization to do
# with it?
#
# **The papers.** Desjardins, Simonyan, Pascanu & Kavukcuoglu, *Natural Neural Networks* (2015): whitened layers,
# PRONG, mirror descent. George's thesis, 3.5.2 (whitened layers) and 3.6 (RMSProp, batch normalization). Batch
# normalization is by Ioffe & Szegedy (2015). Their samples are columns, ours rows: their $V U$ is our $U^\top V$.
#
# | in the papers | here | shape | what it is |
# |---|---|---|---|
# | $h_{i-1}$ | `h` | (N, in) | a layer's input |
# | $\delta_i$ | `delta` | (N, out) | cotangent of its pre-activation |
# | $\theta = (W, b)$ | `theta` | (in + 1, out) a layer | the parameters as everybody knows them |
# | $\Omega = (V, d)$ | `omega` | the same | the whitened parameters |
# | $\Phi = (U, c)$ | `Whitening` | (in, in), (in,) | whitening coefficients, measured, not trained |
# | $\Sigma$, $\lambda$, $\epsilon$ | `C`, `lam`, `epsilon` | | h's covariance, its eigenvalues, what is added |
# | $T$, $N_s$ | `interval`, `samples` | numbers | how often, and on how many samples $\Phi$ is measured |
# | $P_\Phi$, $P_\Phi^{-1}$ | `to_whitened`, `from_whitened` | (n, n) | $\theta \to \Omega$ and back, $B^{-1}$ and $B$ |
# | $D$ | | (in,) | the per-batch diagonal of section 3.2 |
# | $\gamma$, $\beta$ | `scale`, `shift` | (out,) | batch normalization's parameters |

# %%
# %matplotlib inline
import os

import numpy as np

import minigrad
from minigrad.autodiff import linearize, ops
from minigrad.autodiff.normalization import batch_norm
from minigrad.curvature import fisher, input_moments, kronecker_factors
from minigrad.losses import Categorical, Gaussian
from minigrad.nets import BatchNorm, FanIn, WhitenedNet, from_whitened, mlp, to_whitened, whitening
from minigrad.optimizers import PRONG, SGD
from minigrad.plot import BLACK, BLUE, ORANGE, VERMILLION, figure, label_ends

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
minigrad.use("numpy")  # this chapter works on small host arrays, whatever backend is set
rng = np.random.default_rng(70)
close = np.testing.assert_allclose

# %% [markdown]
# ## 1. What makes a layer's Fisher information ill conditioned
#
# For one layer with pre-activations $a = h W + b$, each sample's gradient is the outer product $(h\;1)^\top \delta$. If
# $h$ and $\delta$ are taken for independent (eq. 5), the layer's block of the Fisher information is
#
# $$ F \approx A \otimes S, \qquad A = \mathbb E\big[(h\;1)^\top (h\;1)\big],
#    \qquad S = \mathbb E[\delta^\top \delta], $$
#
# and its condition number is the product of the two. $A$ is bad for reasons that one can see: inputs have a mean, they
# have different scales, they are correlated. In a linear layer with squared error, $S = I$, and nothing is
# approximated.

# %%
h = rng.normal(size=(500, 2)) @ np.array([[1.5, 0.9], [0.0, 0.35]]) + np.array([2.0, 1.0])
net = mlp([2, 1])
objective, theta = minigrad.Objective(net, Gaussian()), net.init(rng, "float64")
F = fisher(objective, theta, h).dense()
h1 = np.hstack([h, np.ones((500, 1))])
close(F, h1.T @ h1 / 500)
print(f"condition of F = A: {np.linalg.cond(F):.0f}; of the covariance of h alone: {np.linalg.cond(np.cov(h.T)):.0f}")

# %% [markdown]
# ## 2. A whitened layer
#
# Put between $h$ and the weights what makes the input white (eq. 6 and 7):
#
# $$ a = (h - c)\, U^\top V + d, \qquad c = \mathbb E[h],
#    \qquad U = \operatorname{diag}(\lambda + \epsilon)^{-1/2} Q^\top,
#    \qquad Q \operatorname{diag}(\lambda) Q^\top = C = \mathbb E\big[(h - c)^\top (h - c)\big]. $$
#
# $V$ and $d$ are trained. $\tilde h = (h - c) U^\top$ has mean 0 and covariance $\operatorname{diag}(\lambda /
# (\lambda + \epsilon))$: with $\epsilon = 0$ it is the identity. So is $\mathbb E[(\tilde h\;1)^\top(\tilde h\;1)]$,
# and the block becomes $I \otimes S$.


# %%
def phi(h, epsilon):
    """U and c of eq. 6 and 7."""
    c = h.mean(axis=0)
    lam, Q = np.linalg.eigh((h - c).T @ (h - c) / len(h))
    return Q.T / np.sqrt(lam + epsilon)[:, None], c


U, c = phi(h, 0.0)
white = (h - c) @ U.T
close(white.mean(axis=0), 0, atol=1e-12)
close(white.T @ white / 500, np.eye(2), atol=1e-12)
for epsilon in (0.1, 1.0):
    U_eps, _ = phi(h, epsilon)
    lam = np.linalg.eigvalsh(np.cov(h.T, bias=True))
    close(np.cov(((h - c) @ U_eps.T).T, bias=True), np.diag(lam / (lam + epsilon)), atol=1e-12)

fig, axes = figure(1, 4, width=8.6, height=2.5)
for ax, points, title in ((axes[0], h, "h"), (axes[1], white, "whitened h")):
    ax.scatter(*points.T, s=3, color=BLUE)
    ax.axhline(0, color=BLACK, lw=0.6)
    ax.axvline(0, color=BLACK, lw=0.6)
    ax.set(title=title, xlim=(-5, 7), ylim=(-5, 7), aspect="equal")
grid = np.linspace(-2, 2, 80)
for ax, points, name in ((axes[2], h, "W"), (axes[3], white, "V")):
    weights = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    bowl = ((points @ weights.T) ** 2).mean(axis=0).reshape(80, 80) / 2  # targets 0, bias 0
    ax.contour(grid, grid, np.sqrt(bowl), 12, colors=[VERMILLION], linewidths=0.8)
    ax.set(title=f"root of the loss over {name}", aspect="equal")
_ = fig.suptitle("Whitening the inputs makes the bowl round: mean, scales and correlation are gone", fontsize=9)

# %% [markdown]
# ## 3. Both name the same function
#
# $(W; b)$ and $(V; d)$ are related by a matrix. With $(h\;1)$ as a row, $(\tilde h\;1) = (h\;1)\,B$, so
#
# $$ \begin{pmatrix} W \\ b \end{pmatrix} = B \begin{pmatrix} V \\ d \end{pmatrix}, \qquad
#    B = \begin{pmatrix} U^\top & 0 \\ -c\, U^\top & 1 \end{pmatrix}, \qquad
#    B^{-1} = \begin{pmatrix} U^{-\top} & 0 \\ c & 1 \end{pmatrix}, \qquad
#    U^{-\top} = \operatorname{diag}(\lVert u_k \rVert^{-2})\, U, $$
#
# the last because the rows $u_k$ of $U$ are orthogonal: going back needs no solve. For a deep net $B$ has one such
# block a layer (kron $I$). It is the paper's $P_\Phi^{-1}$.

# %%
B = np.block([[U.T, np.zeros((2, 1))], [-(c @ U.T)[None], np.ones((1, 1))]])
close(h1 @ B, np.hstack([white, np.ones((500, 1))]), atol=1e-12)
close(np.linalg.inv(B)[:2, :2], U / (U**2).sum(axis=1, keepdims=True), atol=1e-12)
close(np.linalg.inv(B)[2], [*c, 1], atol=1e-12)

deep = mlp([4, 6, 5, 3], "tanh", init=FanIn())
the = minigrad.Objective(deep, Categorical())
generator = np.random.default_rng(4)
theta = deep.init(generator, "float64") + 0.2 * generator.normal(size=deep.layout.size)
x = generator.normal(size=(200, 4)) @ generator.normal(size=(4, 4)) + 1.0


def measured(the, theta, x, epsilon):
    """Phi of every layer, on x: the library's Whitenings."""
    _, J = the.linearize(theta, x)
    return tuple(whitening(m.name, m.span, m.covariance, m.mean, epsilon) for m in input_moments(J))


layers = measured(the, theta, x, 0.01)
omega = to_whitened(layers, theta.size) @ theta
difference = np.abs(WhitenedNet(deep, layers).apply(omega, x) - deep.apply(theta, x)).max()
print(f"a deep net and the same net whitened: outputs differ by {difference:.0e}")
assert difference < 1e-12

# %% [markdown]
# The Fisher information transforms as a tensor, $F_\Omega = B^\top F_\theta B$. Layer by layer, and with the exact $F$
# (no independence assumed):

# %%
F = fisher(the, theta, x).dense()
F_white = fisher(minigrad.Objective(WhitenedNet(deep, layers), Categorical()), omega, x).dense()
B_all = from_whitened(layers, theta.size).dense()
close(F_white, B_all.T @ F @ B_all, atol=1e-10)

middle = deep.layout.slices["layer1"]
fig, axes = figure(1, 2, width=6.4, height=3.0)
for ax, M, title in ((axes[0], F, "in theta"), (axes[1], F_white, "whitened")):
    block = np.abs(M[middle, middle])
    ax.imshow(np.log10(block / block.max() + 1e-3), cmap="magma", vmin=-2.5, vmax=0)
    ax.set(title=f"|F| of the middle layer, {title}", xticks=[], yticks=[])
    ax.grid(False)
_ = fig.suptitle("Whitened, pairs of weights matter that belong to the same input: blocks, all like S", fontsize=9)


def in_blocks(M):
    """Which share of the squares of M's entries is of two weights of the same input?"""
    inputs, outputs = deep.layout.shapes["layer1"]
    M = M[middle, middle].reshape(inputs, outputs, inputs, outputs) ** 2
    return sum(M[i, :, i].sum() for i in range(inputs)) / M.sum()


print(f"share of |F|^2 in these blocks: {in_blocks(F):.0%} -> {in_blocks(F_white):.0%}")
assert in_blocks(F_white) > 0.7 > 0.4 > in_blocks(F)
condition = lambda M: (lambda lam: lam[-1] / lam[len(lam) // 2])(np.linalg.eigvalsh(M))
print(f"largest / median eigenvalue of the whole F: {condition(F):.0f} -> {condition(F_white):.0f}")
assert condition(F_white) < 0.3 * condition(F)

# %% [markdown]
# ## 4. A step, seen from theta
#
# A gradient step on $\Omega$ is $-\eta B^\top g$; on $\theta = B \Omega$ it is $-\eta\, B B^\top g$. And
#
# $$ B B^\top = \begin{pmatrix} K & -K c^\top \\ -c K & 1 + c K c^\top \end{pmatrix}
#    = \big(\mathbb E[(h\;1)^\top (h\;1)] + \epsilon \operatorname{diag}(1, \ldots, 1, 0)\big)^{-1},
#    \qquad K = (C + \epsilon I)^{-1}, $$
#
# the block inverse of George's 3.3.3 with $\epsilon$ in the covariance, and none at the bias. So one step of SGD in
# whitened coordinates is $\Delta W = -\eta (C + \epsilon I)^{-1}\, \mathbb E[(h - c)^\top \delta]$,
# $\Delta b = -\eta\, \mathbb E[\delta] - c\, \Delta W$: natural gradient for a Fisher information whose $S$ is a
# multiple of the identity.

# %%
U_eps, _ = phi(h, 0.1)
B_eps = np.block([[U_eps.T, np.zeros((2, 1))], [-(c @ U_eps.T)[None], np.ones((1, 1))]])
A = h1.T @ h1 / 500
close(B_eps @ B_eps.T, np.linalg.inv(A + 0.1 * np.diag([1, 1, 0])), atol=1e-10)

t = rng.integers(0, 3, 200)
_, g = the.value_and_grad(theta, (x, t))
draw = lambda size: (x[:size], t[:size])
prong = PRONG(0.1, samples=200, epsilon=0.01)
point, state, _ = prong.step(theta, prong.init(the, theta), the, (x, t), draw, None)
expected = theta.copy()
for f in kronecker_factors(the, theta, x):
    n = len(f.A) - 1
    preconditioner = np.linalg.inv(f.A + 0.01 * np.diag([1.0] * n + [0.0]))
    expected[slice(*f.span)] -= 0.1 * (preconditioner @ g[slice(*f.span)].reshape(n + 1, -1)).ravel()
close(prong.canonical(point, state), expected, atol=1e-11)
print("a step of PRONG is a step preconditioned by the inverse of E[(h 1)'(h 1)], damped but for the bias")

# %% [markdown]
# The equality holds between two measurements with the $A$ of the last one. As $\theta$ moves, $A$ at $\theta$ becomes
# another matrix, and the step is natural gradient's no longer; that is what $T$ trades. Rules that are not linear in
# the gradient (clipping, RMSProp in $\Omega$) break it at once.
#
# ## 5. PRONG in twenty lines
#
# Algorithm 1 on a toy: a tanh net, inputs far from white. All of line 7 is done before line 9 touches any $U$.


# %%
def forward(omega, Phi, x):
    """Outputs, and each layer's whitened input."""
    h, inputs = x, []
    for i, ((U, c), matrix) in enumerate(zip(Phi, omega, strict=True)):
        inputs.append((h - c) @ U.T)
        a = ops.matmul(inputs[-1], matrix[:-1]) + matrix[-1]
        h = ops.tanh(a) if i < len(omega) - 1 else a
    return h, inputs


def prong_by_hand(theta, data, T, lr, updates, epsilon):
    """theta: list of (in + 1, out). Returns it after so many updates, and the losses."""
    x, t = data
    omega, Phi, losses = theta, [(np.eye(len(W) - 1), np.zeros(len(W) - 1)) for W in theta], []
    for update in range(updates):
        if update % T == 0:
            theta = [np.vstack([U.T @ M[:-1], M[-1] - c @ U.T @ M[:-1]]) for (U, c), M in zip(Phi, omega)]  # line 7
            h, Phi, omega = x, [], []
            for W in theta:
                U, c = phi(h, epsilon)  # lines 8, 9
                Phi.append((U, c))
                omega.append(np.vstack([np.linalg.solve(U.T, W[:-1]), W[-1] + c @ W[:-1]]))  # line 10
                h = np.tanh(h @ W[:-1] + W[-1])
        sizes = np.cumsum([M.size for M in omega])[:-1]
        shapes = [M.shape for M in omega]

        def loss(flat, Phi=Phi, sizes=sizes, shapes=shapes):
            pieces = [flat[a:b].reshape(s) for a, b, s in zip([0, *sizes], [*sizes, len(flat)], shapes)]
            return ops.sum((forward(pieces, Phi, x)[0] - t) ** 2) / (2 * len(x))

        value, J = linearize(loss, np.concatenate([M.ravel() for M in omega]))
        losses.append(float(value))
        step = J.lop(np.ones(()))  # line 13
        omega = [M - lr * g.reshape(M.shape) for M, g in zip(omega, np.split(step, sizes))]
    return [np.vstack([U.T @ M[:-1], M[-1] - c @ U.T @ M[:-1]]) for (U, c), M in zip(Phi, omega)], losses


toy = mlp([3, 8, 1], "tanh", init=FanIn())
z = np.random.default_rng(7).normal(size=(200, 3))
x_toy, t_toy = z * np.array([1.0, 0.3, 0.1]) + np.array([1.0, 0.5, -0.5]), np.sin(1.5 * z).sum(axis=1, keepdims=True)
toy_objective = minigrad.Objective(toy, Gaussian())
start = toy.init(np.random.default_rng(1), "float64")
by_hand, losses = prong_by_hand(list(toy.layout.views(start).values()), (x_toy, t_toy), 10, 0.05, 40, 0.01)

# %% [markdown]
# And the library, on the same data:


# %%
def train(optimizer, updates, objective=toy_objective, theta=start, data=(x_toy, t_toy)):
    """theta and losses after full-batch updates."""
    point, state, losses = theta, optimizer.init(objective, theta), []
    for _ in range(updates):
        point, state, log = optimizer.step(point, state, objective, data, lambda size: data, None)
        losses.append(log["loss"])
    return (optimizer.canonical(point, state) if hasattr(optimizer, "canonical") else point), losses


found, library = train(PRONG(0.05, interval=10, samples=200, epsilon=0.01), 40)
close(found, np.concatenate([W.ravel() for W in by_hand]), rtol=1e-8, atol=1e-10)
close(library, losses, rtol=1e-10)

steps = 100 if QUICK else 600
whitened = lambda T: PRONG(0.05, interval=T, samples=200, epsilon=0.01)
rates = (0.05, 0.1, 0.2)
by_rate = {lr: train(SGD(lr), steps)[1] for lr in rates}
best = min(rates, key=lambda lr: by_rate[lr][-1])
curves = {
    "SGD, lr = 0.05": (by_rate[0.05], BLACK, "-"),
    f"SGD, lr = {best} (best of {len(rates)})": (by_rate[best], BLACK, "--"),
    "PRONG, T = 10, lr = 0.05": (train(whitened(10), steps)[1], ORANGE, "-"),
    "PRONG, whitened once": (train(whitened(None), steps)[1], ORANGE, "--"),
}
fig, ax = figure(1, 1, width=6.6, height=3.0)
for name, (values, colour, line) in curves.items():
    ax.semilogy(values, line, color=colour, label=name)
ax.set(xlabel="updates", ylabel="loss")
label_ends(ax)
_ = fig.suptitle("In whitened coordinates the same learning rate goes farther", fontsize=9)
print(", ".join(f"{name}: {values[-1]:.3f}" for name, (values, _, _) in curves.items()))
assert curves["PRONG, T = 10, lr = 0.05"][0][-1] < 0.8 * by_rate[best][-1]

# %% [markdown]
# Whitened once and never again, it goes fast too, for a while; then the metric is stale, and the same rate makes the
# loss leap. That is the price of a large $T$.
#
# ## 6. A velocity changes coordinates too
#
# Momentum's velocity is a displacement of the parameters. A new $\Phi$ changes the coordinates of every displacement:
# $v \leftarrow B_{new}^{-1} B_{old}\, v$. Then in theta the method is
# $v \leftarrow \mu v - \eta A^{-1} g$, $\theta \leftarrow \theta + v$, with one $A$ after the other, and nothing jumps
# when $A$ changes. The algorithm box says nothing of it.

# %%
optimizer = PRONG(0.05, momentum=0.8, interval=4, samples=200, epsilon=0.01)
point, state = start, optimizer.init(toy_objective, start)
theta_, v = start.copy(), np.zeros(start.size)
for update in range(10):
    if update % 4 == 0:
        B_ = from_whitened(measured(toy_objective, theta_, x_toy, 0.01), start.size).dense()
        P = B_ @ B_.T
    v = 0.8 * v - 0.05 * P @ toy_objective.value_and_grad(theta_, (x_toy, t_toy))[1]
    theta_ = theta_ + v
    point, state, _ = optimizer.step(point, state, toy_objective, (x_toy, t_toy), lambda size: (x_toy, t_toy), None)
close(optimizer.canonical(point, state), theta_, rtol=1e-7, atol=1e-9)
print("momentum in Omega, carried through the change of coordinates, is momentum in theta")

# %% [markdown]
# ## 7. Two variants
#
# **The diagonal, in every batch** (section 3.2). Eigenvectors are dear, variances are cheap: with the batch's own $D =
# \operatorname{var}(\tilde h)^{-1/2}$ let $U \leftarrow D U$ and $V \leftarrow D^{-1} V$. The function stays, and the
# step is taken in the new coordinates. Since a change of coordinates is a change of metric and nothing more, we need
# not carry it out: in the coordinates of the last full whitening it multiplies the gradient of $V$ by $D^2$.

# %%
g_V, V = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
D = 1 / (white[:50].std(axis=0))
stepped = (V / D[:, None]) - 0.1 * D[:, None] * g_V  # in the new coordinates: D^-1 V, and its gradient D g
close(D[:, None] * stepped, V - 0.1 * D[:, None] ** 2 * g_V)
close((white[:50] * D).var(axis=0), 1)

# %% [markdown]
# **The signal, too** (footnote 4). $a = ((h - c) U^\top V + d) R$ with $R^\top R = S^{-1}$ whitens the cotangents as
# well. The step on $\theta$ is then $-\eta A^{-1} g\, S^{-1}$: plain SGD has become K-FAC (chapter 60). The authors
# found it less stable for deep nets.

# %%
S, epsilon = kronecker_factors(the, theta, x)[1].S, 1e-4
s, Q = np.linalg.eigh(S)
R = Q.T / np.sqrt(s + epsilon)[:, None]
close(R.T @ R, np.linalg.inv(S + epsilon * np.eye(len(S))), rtol=1e-8)
close(R @ S @ R.T, np.diag(s / (s + epsilon)), atol=1e-10)
print("second moments of the whitened deltas:", np.round(s / (s + epsilon), 2))

# %% [markdown]
# ## 8. Batch normalization, a diagonal cousin
#
# Batch normalization (George, 3.6.2) standardizes each pre-activation over the batch and learns scale and shift anew:
#
# $$ \tilde a = \gamma\, \frac{a - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta, \qquad \mu = \tfrac1N \textstyle\sum_i a_i,
#    \quad \sigma^2 = \tfrac1N \sum_i (a_i - \mu)^2. $$
#
# Three differences to a diagonal PRONG. It acts before the nonlinearity, so a layer's input is $f$ of something
# standard, which need be neither centred nor of variance 1. It is part of the function: the gradient goes through
# $\mu$ and $\sigma$, and what the net computes for a sample depends on the others. And it sees variances only, no
# correlations. Its Jacobian, unit by unit, with $y$ the standardized values:
#
# $$ \frac{\partial y}{\partial a} = \frac1{\sqrt{\sigma^2 + \epsilon}} \Big( I - \tfrac1N \mathbf 1 \mathbf 1^\top -
#    \tfrac1N y y^\top \Big). $$
#
# Cotangents lose their mean and their component along $y$: a unit's bias gets no gradient (its shift $\beta$ does),
# and with small $\epsilon$ its weights get none along themselves, since their length has no effect.

# %%
a, N, one = rng.normal(size=(7, 1)) * 2 + 1, 7, np.ones(1)
y, J = linearize(lambda a: batch_norm(a, one, 0 * one, epsilon=0.1), a)
close(y, (a - a.mean()) / np.sqrt(a.var() + 0.1))
close(J.dense(), (np.eye(N) - np.ones((N, N)) / N - np.outer(y, y) / N) / np.sqrt(a.var() + 0.1), atol=1e-12)

normalized = mlp([4, 6, 3], "tanh", normalization=BatchNorm(1e-12))
bn = minigrad.Objective(normalized, Categorical())
theta_bn = 0.7 * rng.normal(size=normalized.layout.size)
g_bn = normalized.layout.views(bn.value_and_grad(theta_bn, (x, t))[1])["layer0"]
W_bn = normalized.layout.views(theta_bn)["layer0"]
along = (g_bn * W_bn)[:-1].sum(axis=0)
print(f"gradient of the bias: {np.abs(g_bn[-1]).max():.0e}; along the weights: {np.abs(along).max():.0e}")
close(g_bn[-1], 0, atol=1e-14)
close(along, 0, atol=1e-10)

hidden = lambda net, theta, x: input_moments(minigrad.Objective(net, Categorical()).linearize(theta, x)[1])[1]
m = hidden(normalized, theta_bn, x)
correlation = m.covariance / np.sqrt(np.outer(np.diag(m.covariance), np.diag(m.covariance)))
variances = np.diag(m.covariance)
print(f"input of the layer above: means up to {np.abs(m.mean).max():.2f}, variances {variances.min():.2f} to", end=" ")
print(f"{variances.max():.2f}, correlations up to {np.abs(correlation - np.eye(6)).max():.2f}")

# %% [markdown]
# For use after training the statistics must be constants, or a sample's answer would depend on its company. `settled`
# gives that net, measured on samples of one's choice; `fit` evaluates with it. It is an explicit argument, not a state.

# %%
settled = normalized.settled(theta_bn, x)
close(settled.apply(theta_bn, x), normalized.apply(theta_bn, x), atol=1e-12)  # on the same samples, the same net
alone = settled.apply(theta_bn, x[:1])
close(alone, settled.apply(theta_bn, x)[:1], atol=1e-12)
print(f"the same sample among 5 and among 200: outputs differ by "
      f"{np.abs(normalized.apply(theta_bn, x[:5])[0] - normalized.apply(theta_bn, x)[0]).max():.2f}")  # fmt: skip

# %% [markdown]
# **RMSProp** (George, 3.6.1: "very close to diagonal Gauss-Newton") divides the gradient by the root of its mean
# square. Natural gradient on the diagonal would divide by the diagonal of the Fisher information, without a root; and
# RMSProp squares the mean gradient of a batch, not each sample's: for independent samples of a model at rest, $\mathbb
# E[\bar g^2] = \mathbb E[g]^2 + \operatorname{var}(g) / N$. So its squares shrink with the batch, as the Fisher
# information does not.

# %%
diagonal, repeats = np.diag(F), 40 if QUICK else 1000
for size in (1, 10, 100):
    squares, generator = np.zeros(theta.size), np.random.default_rng(size)
    for _ in range(repeats):
        rows = generator.integers(0, 200, size)
        targets = Categorical().sample(deep.apply(theta, x[rows]), generator)
        squares += the.value_and_grad(theta, (x[rows], targets))[1] ** 2 / repeats
    print(f"batches of {size:3}: mean square of the gradient / diagonal of F = {squares.sum() / diagonal.sum():.4f}")

# %% [markdown]
# The ratio is $1 / N$: the root makes a step of $g / \sqrt{\operatorname{diag}(F) / N}$, which near a minimum is of
# length $\eta$ a coordinate whatever the curvature. PRONG's $U$ contains a root of $\Sigma^{-1}$ as well, but it is
# applied twice: once to the gradient, once on the way back to $\theta$.
#
# ## 9. Mirror descent
#
# Mirror descent takes its steps in a dual space, $\Omega = \nabla\psi(\theta)$ (eq. 8, 9):
#
# $$ \Omega' = \nabla\psi(\theta) - \eta\, g, \qquad \theta' = \nabla\psi^*(\Omega'). $$
#
# With $\psi = \frac12 \theta^\top F \theta$ it is natural gradient. The gradient, though, is one in $\theta$, used in
# the other space. With $\tilde\psi = \frac12 \theta^\top F^{1/2} \theta$ and the gradient in $\Omega = F^{1/2} \theta$
# (eq. 10) that is put right, and the step is the same:
#
# $$ \tilde\Omega' = F^{1/2} \theta - \eta F^{-1/2} g, \qquad \tilde\theta' = F^{-1/2} \tilde\Omega' =
#    \theta - \eta F^{-1} g. $$

# %%
J_ = rng.normal(size=(30, 4))
F_, g_, theta_ = J_.T @ J_ / 30, rng.normal(size=4), rng.normal(size=4)
lam, Q = np.linalg.eigh(F_)
power = lambda p: Q * lam**p @ Q.T
natural = theta_ - 0.1 * np.linalg.solve(F_, g_)
close(np.linalg.solve(F_, F_ @ theta_ - 0.1 * g_), natural)  # eq. 8, 9
close(power(-0.5) @ (power(0.5) @ theta_ - 0.1 * power(-0.5) @ g_), natural)  # eq. 10
rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
for B_ in (power(-0.5), power(-0.5) @ rotation, np.linalg.inv(np.linalg.cholesky(F_)).T):
    close(B_ @ (np.linalg.solve(B_, theta_) - 0.1 * B_.T @ g_), natural)
P_all = np.linalg.inv(B_all)
print(f"PRONG's map theta -> Omega, |P - P'| / |P| = {np.linalg.norm(P_all - P_all.T) / np.linalg.norm(P_all):.2f}")

# %% [markdown]
# Any $B$ with $B B^\top = F^{-1}$ gives that step: a root times any rotation. But only the symmetric one is a mirror
# map, for $\nabla\psi$ has a symmetric Jacobian, the Hessian of $\psi$. PRONG's $P$ is not symmetric: neither is
# PCA-whitening, nor centring. So it is mirror descent up to a rotation of the dual space, not the operators
# $\nabla\tilde\psi$, $\nabla\tilde\psi^*$ themselves.
#
# ## 10. The experiments
#
# `python -m minigrad run conditioning --full` is the paper's figure 2: the exact Fisher information of a small net on
# digits, before and after whitening, and its condition along training, in SGD's, RMSProp's, batch normalization's,
# PRONG's and K-FAC's coordinates. `python -m minigrad run prong-sensitivity --full` is figures 3a and 3b: $\epsilon$,
# $T$ and the start. The first in small, on the toy of this chapter: what is left of the condition number after
# whitening, by several cuts through the spectrum, since a Fisher information is singular and has no smallest
# eigenvalue worth the name.

# %%
eigenvalues = {name: np.linalg.eigvalsh(M)[::-1] for name, M in (("theta", F), ("whitened", F_white))}
fig, ax = figure(1, 1, width=5.4, height=2.8)
for (name, lam), colour in zip(eigenvalues.items(), (BLACK, ORANGE)):
    lam = lam[lam > 1e-12 * lam[0]]
    ax.semilogy(np.arange(1, lam.size + 1) / theta.size, lam / lam[0], color=colour, label=name)
ax.set(xlabel="share q of the spectrum", ylabel="eigenvalue / largest", xlim=(0, 1.1))
label_ends(ax)
_ = fig.suptitle("Whitening lifts the spectrum towards its largest eigenvalue", fontsize=9)
for q in (0.1, 0.25, 0.5, 0.75):
    ratio = {name: lam[0] / lam[int(q * lam.size)] for name, lam in eigenvalues.items()}
    print(
        f"q = {q}: {ratio['theta']:8.0f} -> {ratio['whitened']:6.0f}, {ratio['whitened'] / ratio['theta']:.0%} is left"
    )

# %% [markdown]
# ## 11. What is different in the paper as printed
#
# - **$\Sigma = \mathbb E[h h^\top]$** (section 3.1) is not what makes $U(h - c)$ white: it leaves $I - (Uc)(Uc)^\top$.
#   Either centre in both places or in neither.
# - **$\epsilon$ twice**: line 9 of algorithm 1 decomposes $\Sigma + \epsilon I$, eq. 7 adds $\epsilon$ to the
#   eigenvalues. Once.
# - **One loop**: lines 7-10 stand in one loop over layers. At layer $i$, line 7 multiplies by the $U_{i-1}$ that line 9
#   has replaced at layer $i - 1$; line 10 then gives back the old $V_i$, and the function changes. All canonical
#   parameters must be computed first.
# - **$W = V D^{-1} U$ with $\mathbb V[D U h] = 1$** (section 3.2): $V$ then sees $D^{-1} U h$, of variance
#   $\mathbb V[U h]^2$. It must be $U \leftarrow D U$, $V \leftarrow V D^{-1}$, with $W = V U$.
# - **Eq. 10** has $\mathbb E[\frac{d\ell}{d\theta} F^{-1/2}]$, a row, beside columns: $F^{-1/2} \mathbb E[\ldots]$.
# - **"The operators correspond to the projections"** (section 3.3): up to a rotation, see section 9.
#
# In George's thesis, 3.5.2: $U^2 = C^{-1}$ holds for the symmetric root alone; any $U$ with $U^\top U = C^{-1}$ will
# do.
#
# The numbers:

# %%
lam, Q = np.linalg.eigh(h.T @ h / 500)
U_raw = Q.T / np.sqrt(lam)[:, None]
left = (h - c) @ U_raw.T
print("E[hh'] for the covariance: variances of whitened inputs", np.round(np.linalg.eigvalsh(left.T @ left / 500), 3))
close(left.T @ left / 500, np.eye(2) - np.outer(U_raw @ c, U_raw @ c), atol=1e-12)

old, new = layers, measured(the, theta, x, 1.0)
one_loop = WhitenedNet(deep, (old[0], *new[1:])).apply(omega, x)  # V_i as it was, U_i already replaced
size = np.abs(deep.apply(theta, x)).max()
print(f"one loop: outputs of up to {size:.1f} change by up to {np.abs(one_loop - deep.apply(theta, x)).max():.1f}")

scaled = white * np.array([0.5, 2.0])
print("V D^-1 U: V's inputs have variances", np.round((scaled * scaled.std(axis=0)).var(axis=0), 2), "for", end=" ")
print(np.round(scaled.var(axis=0), 2), "before")
U, C = phi(h, 0.0)[0], np.cov(h.T, bias=True)
off = lambda M: np.abs(M @ C - np.eye(2)).max()
print(f"thesis, for the U of eq. 7: |U'U C - I| = {off(U.T @ U):.0e}, |U U C - I| = {off(U @ U):.2f}")

# %% [markdown]
# ## 12. Exercises
#
# 1. An input unit has variance $\lambda$ and is uncorrelated with the others. By which factor does whitening with
#    $\epsilon$ multiply the learning rate of its weights, seen from $\theta$? And of a dead one ($\lambda = 0$)?
#    `check_exercise_1(lambda lam, epsilon: ...)`.
# 2. Every input is replaced by $2h + 1$ (and the weights so that the function stays). Does the path of PRONG with
#    $\epsilon = 0$ through function space change? `check_exercise_2("yes" or "no")`.
# 3. A batch-normalized unit's weights are multiplied by 3. By what is their gradient multiplied ($\epsilon \to 0$)?
#    `check_exercise_3(factor)`.


# %%
def check_exercise_1(factor):
    for lam, epsilon in ((2.0, 0.1), (0.0, 0.1), (0.5, 0.0)):
        U = whitening("h", (0, 3), np.array([[lam, 0.0], [0.0, 3.0]]), np.zeros(2), epsilon).U
        assert np.isclose(factor(lam, epsilon), (U.T @ U)[0, 0]), "B B' is what a step is multiplied with"
    print("right")


def check_exercise_2(answer):
    outputs = []
    for scale, shift in ((1.0, 0.0), (2.0, 1.0)):
        views = toy.layout.views(start.copy())
        W = views["layer0"]
        W[:-1], W[-1] = W[:-1] / scale, W[-1] - shift / scale * W[:-1].sum(axis=0)
        theta = np.concatenate([view.ravel() for view in views.values()])
        data = (scale * x_toy + shift, t_toy)
        moved, _ = train(PRONG(0.01, interval=5, samples=200, epsilon=0.0), 5, theta=theta, data=data)
        outputs.append(toy.apply(moved, data[0]))
    truth = "no" if np.abs(outputs[0] - outputs[1]).max() < 1e-6 else "yes"
    assert answer == truth, "what does whitening make of an affine map of its input?"
    print("right")


def check_exercise_3(factor):
    gradients = []
    for scale in (1.0, 3.0):
        theta = theta_bn.copy()
        normalized.layout.views(theta)["layer0"][:] *= scale
        gradients.append(normalized.layout.views(bn.value_and_grad(theta, (x, t))[1])["layer0"][:-1])
    assert np.allclose(gradients[1], factor * gradients[0], atol=1e-8), "the function does not change"
    print("right")


# %% tags=["hide-input"]
# The checkers are checked too, with a right and a wrong answer each.
check_exercise_1(lambda lam, epsilon: 1 / (lam + epsilon))
check_exercise_2("no")
check_exercise_3(1 / 3)
for checker, wrong in (
    (check_exercise_1, lambda lam, epsilon: (lam + epsilon) ** -0.5),
    (check_exercise_2, "yes"),
    (check_exercise_3, 3),
):
    try:
        checker(wrong)
    except AssertionError:
        continue
    raise RuntimeError("a wrong answer was taken for right")
