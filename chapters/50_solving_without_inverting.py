# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Solving without inverting
#
# **The question.** A natural-gradient or Newton step is the solution of $G d = -g$. $G$ has as many rows as the network
# has parameters; it is never formed, often singular, and all we can do is multiply with it. How far do products go?
#
# **The papers.** Pascanu & Bengio (8.3, algorithm 1) solve by truncated conjugate gradients, or by MINRES-QLP (Choi,
# Paige & Saunders 2011) "to better deal with singular and ill-conditioned matrices". Martens (2010) truncates, starts
# warm and backtracks: Hessian-Free. Vinyals & Povey (2012) search the whole Krylov space: Krylov Subspace Descent.
#
# | in the papers | here | shape | what it is |
# |---|---|---|---|
# | $A$, $\mathbf G$ | `A`, `G` | (n, n) | a symmetric matrix, known by its products |
# | $b$, $-\nabla$ | `b`, `-g` | (n,) | right-hand side |
# | $r$ | `r` | (n,) | residual $b - A x$ |
# | $V_k$, $T_k$ | `V`, `T` | (n, k), (k + 1, k) | Lanczos basis and tridiagonal matrix |
# | $\phi(x)$ | `phi` | number | the quadratic $\tfrac12 x^\top A x - b^\top x$ |
# | $\lambda$ | `lam` | number | damping, $G + \lambda I$ |
# | $P$, $K$ | `P`, `K` | (N, n), (N, N) | per-sample gradients, their Gram matrix $P P^\top$ |

# %%
# %matplotlib inline
import itertools
import os

import numpy as np
import scipy.optimize

import minigrad
from minigrad.curvature import fisher, gauss_newton, gradient_covariance, per_sample_gradients, sample_space_solve
from minigrad.linalg import MartensStop, cg, identity, minres, minres_qlp
from minigrad.losses import Categorical
from minigrad.nets import mlp
from minigrad.optimizers import HessianFree, LevenbergMarquardt
from minigrad.plot import BLACK, BLUE, GREY, ORANGE, figure, label_ends

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
minigrad.use("numpy")  # this chapter works on small host arrays, whatever backend is set
rng = np.random.default_rng(50)
close = np.testing.assert_allclose


def symmetric(eigenvalues):
    """A random symmetric matrix with these eigenvalues."""
    Q, _ = np.linalg.qr(rng.normal(size=(len(eigenvalues), len(eigenvalues))))
    return (Q * eigenvalues) @ Q.T


# %% [markdown]
# ## 1. What k products can know
#
# From $b$, after $k - 1$ products, we have $b, A b, \dots, A^{k-1} b$. Their span is the *Krylov space* $\mathcal K_k$;
# every method of this chapter takes its $k$-th iterate from it, and they differ only in how they choose.
# The Lanczos process gives it an orthonormal basis $V_k$. Because $A$ is symmetric, $A v_j$ has to be
# orthogonalized against two vectors only:
#
# $$ \beta_{j+1} v_{j+1} = A v_j - \alpha_j v_j - \beta_j v_{j-1}, \qquad A V_k = V_{k+1} T_k, $$
#
# with $T_k$ tridiagonal: $\alpha$ on the diagonal, $\beta$ beside it.


# %%
def lanczos(A, b, k):
    """V (n, k + 1) with orthonormal columns and the tridiagonal T (k + 1, k), A V[:, :k] = V T."""
    V, T = np.zeros((len(b), k + 1)), np.zeros((k + 1, k))
    V[:, 0] = b / np.linalg.norm(b)
    for j in range(k):
        w = A @ V[:, j]
        w -= V[:, : j + 1] @ (V[:, : j + 1].T @ w)  # in exact arithmetic only the last two matter
        w -= V[:, : j + 1] @ (V[:, : j + 1].T @ w)
        T[: j + 1, j] = V[:, : j + 1].T @ (A @ V[:, j])
        T[j + 1, j] = np.linalg.norm(w)
        V[:, j + 1] = w / T[j + 1, j]
    return V, T


n, k = 40, 12
A, b = symmetric(np.geomspace(1, 100, n)), rng.normal(size=n)
V, T = lanczos(A, b, k)
close(A @ V[:, :k], V @ T, atol=1e-12)
close(V.T @ V, np.eye(k + 1), atol=1e-12)
assert abs(np.triu(T, 2)).max() < 1e-12  # three terms were enough
close(T[:k], V[:, :k].T @ A @ V[:, :k], atol=1e-12)

# %% [markdown]
# $T_k$ is $A$ seen from the Krylov space, and its eigenvalues, the *Ritz values*, find the ends of $A$'s spectrum
# first. That is how the largest curvature of a network is measured: LeCun's largest stable learning rate is a matter of
# ten products.

# %%
fig, ax = figure(height=2.9)
spectrum = np.concatenate([np.linspace(0, 1, n - 3), [3, 6, 10]])
V, T = lanczos(symmetric(spectrum), b, 20)
for j in range(1, 21):
    ritz = np.linalg.eigvalsh(T[:j, :j])
    ax.plot(np.full(j, j), ritz, ".", color=BLUE, ms=4)
ax.hlines(spectrum, 20.8, 21.8, color=BLACK, lw=0.6)
ax.set(xlabel="products", ylabel="Ritz values")
ax.set_title("Ritz values find the eigenvalues (black) from the outside in", fontsize=9)
assert abs(ritz[-3:] - spectrum[-3:]).max() < 1e-9

# %% [markdown]
# ## 2. Conjugate gradients
#
# For positive definite $A$, solving $A x = b$ is minimizing $\phi(x) = \tfrac12 x^\top A x - b^\top x$. The natural
# choice from $\mathcal K_k$ is the minimizer of $\phi$ there: with $x = V_k y$,
#
# $$ \phi = \tfrac12 y^\top (V_k^\top A V_k)\, y - \beta_1 e_1^\top y
#    \quad\Rightarrow\quad \bar T_k\, y = \beta_1 e_1, \qquad \beta_1 = \lVert b \rVert, $$
#
# where $\bar T_k$ is $T_k$ without its last row. Conjugate gradients (Hestenes & Stiefel 1952) reach the same $x$
# without keeping $V_k$: each direction $p$ is $A$-orthogonal to all before it, so earlier steps never need mending.


# %%
def conjugate_gradients(A, b, k):
    """The iterates x_1 .. x_k."""
    x, r = np.zeros_like(b), b.copy()
    p, xs = r, []
    for _ in range(k):
        Ap = A @ p
        alpha = (r @ r) / (p @ Ap)
        x, r_new = x + alpha * p, r - alpha * Ap
        p, r = r_new + (r_new @ r_new) / (r @ r) * p, r_new
        xs.append(x)
    return xs


V, T = lanczos(A, b, k)
ours = conjugate_gradients(A, b, k)
for j in range(1, k + 1):
    y = np.linalg.solve(T[:j, :j], np.linalg.norm(b) * np.eye(j)[0])
    close(ours[j - 1], V[:, :j] @ y, rtol=1e-9, atol=1e-12)
x, info = cg(A, b, rtol=0, maxiter=k, store=range(1, k + 1))
close([info.iterates[j] for j in range(1, k + 1)], ours, rtol=1e-9, atol=1e-12)

# %% [markdown]
# ## 3. MINRES: the same space, another choice
#
# Where $A$ is indefinite, $\phi$ has no minimum; CG divides by $p^\top A p$, which may be zero or negative, and the
# library's stops with that reason. Paige & Saunders (1975) minimize the residual instead, which always has a minimum:
#
# $$ \lVert b - A V_k y \rVert = \lVert \beta_1 e_1 - T_k\, y \rVert . $$
#
# A small least-squares problem; MINRES updates its QR factorization column by column.

# %%
mixed = symmetric(np.concatenate([-np.geomspace(1, 30, 12), np.geomspace(1, 100, n - 12)]))
V, T = lanczos(mixed, b, k)
small = [np.linalg.lstsq(T[: j + 1, :j], np.linalg.norm(b) * np.eye(j + 1)[0])[0] for j in range(1, k + 1)]
x, info = minres(mixed, b, rtol=0, maxiter=k, store=range(1, k + 1))
close([info.iterates[j] for j in range(1, k + 1)], [V[:, : len(y)] @ y for y in small], rtol=1e-8, atol=1e-10)
print("cg:", cg(mixed, b)[1].reason, "   minres:", minres(mixed, b)[1].reason)

steps = 45
with np.errstate(all="ignore"):
    by_cg = [np.linalg.norm(b - mixed @ x) for x in conjugate_gradients(mixed, b, steps)]
_, info = minres(mixed, b, rtol=1e-13, maxiter=steps)
fig, ax = figure(height=2.9)
ax.semilogy(range(1, steps + 1), by_cg, color=GREY, label="CG, carried on")
ax.semilogy(range(len(info.residuals)), info.residuals, color=BLUE, label="MINRES")
ax.set(xlabel="products", ylabel="norm of the residual")
ax.set_title("An indefinite system: MINRES cannot get worse, CG has nothing to minimize", fontsize=9)
label_ends(ax)
assert np.all(np.diff(info.residuals[:-1]) <= 1e-12)

# %% [markdown]
# ## 4. Singular systems, in pictures
#
# A Fisher matrix is singular as soon as there are more parameters than samples times outputs, and with softmax
# outputs always. Take the smallest example, $A = \operatorname{diag}(2, 0)$:
#
# - $b = (2, 0)$ lies in the range of $A$: *compatible*. Every $(1, z)$ is a solution; $(1, 0)$ is the shortest.
# - $b = (2, 1)$ does not: *incompatible*. No $x$ does better than a residual of $(0, 1)$; $(1, 0)$ is again the
#   shortest of those that do as well.
#
# In general the shortest (least-squares) solution is $A^+ b$, by the pseudo-inverse. Started from zero, CG and MINRES
# find it on compatible systems, because the Krylov space never leaves the range. On an incompatible one the part of
# $b$ outside is carried along, and blown up: $y = T_k^{-1} \beta_1 e_1$ with an ever more singular $T_k$. MINRES-QLP
# takes the shortest least-squares $y$ instead. It factors $T_k$ by reflections from the left *and* the right,
#
# $$ Q\, T_k P = L, \qquad L u = Q \beta_1 e_1, \qquad x = (V_k P)\, u, $$
#
# with $L$ lower triangular, so that a zero on its diagonal is found last and its entry of $u$ can be left at zero.
# Written out for readers, with an SVD in place of the reflections:


# %%
def shortest(A, b, k, zero=1e-10):
    """What MINRES-QLP's k-th iterate is: V_k T_k^+ beta_1 e_1."""
    V, T = lanczos(A, b, k)
    return V[:, :k] @ (np.linalg.pinv(T, rcond=zero) @ (np.linalg.norm(b) * np.eye(k + 1)[0]))


rank = 15
singular = symmetric(np.concatenate([np.linspace(1, 10, rank) * (-1) ** np.arange(rank), np.zeros(n - rank)]))
inside, outside = singular @ rng.normal(size=n), rng.normal(size=n)
pinv = np.linalg.pinv(singular, rcond=1e-10)
close(shortest(singular, inside, rank), pinv @ inside, atol=1e-9)
for name, b_ in (("compatible", inside), ("incompatible", outside)):
    for solver in (minres, minres_qlp):
        x, info = solver(singular, b_, rtol=1e-12)
        error = np.linalg.norm(x - pinv @ b_) / np.linalg.norm(pinv @ b_)
        print(f"{name:12} {solver.__name__:10} {info.reason:13} distance from the shortest solution {error:.0e}")
    close(x, pinv @ b_, rtol=1e-6, atol=1e-8)

# %% [markdown]
# Damped a little, the system is definite, and yet the part of $b$ outside of the range is multiplied by $1 / \lambda$:
# the picture follows the length of the iterates as the part of $b$ outside of $A$'s range is all that is left to fit.

# %%
fig, ax = figure(height=2.9)
steps = 40
psd = symmetric(np.concatenate([np.linspace(1, 10, rank), np.zeros(n - rank)]))
store = range(1, steps + 1)
runs = {
    "CG, damping 1e-6": cg(psd + 1e-6 * np.eye(n), outside, rtol=0, maxiter=steps, store=store),
    "MINRES": minres(psd, outside, rtol=0, maxiter=steps, store=store),
    "MINRES-QLP": minres_qlp(psd, outside, rtol=0, maxiter=steps, store=store),
}
for (name, (_, info)), color, marker in zip(runs.items(), (GREY, ORANGE, BLUE), ".s.", strict=True):
    lengths = [np.linalg.norm(info.iterates[j]) for j in sorted(info.iterates)]
    ax.semilogy(sorted(info.iterates), lengths, color=color, label=name, marker=marker, ms=5)
length = np.linalg.norm(np.linalg.pinv(psd, rcond=1e-10) @ outside)
ax.axhline(length, color=BLACK, lw=0.8, ls=":")
ax.text(steps, length * 1.3, "the shortest least-squares solution", fontsize=8, ha="right")
ax.set(xlabel="iterations", ylabel="norm of the iterate")
ax.set_title("An incompatible singular system: only MINRES-QLP ends at the shortest solution", fontsize=9)
label_ends(ax)
close(np.linalg.norm(runs["MINRES-QLP"][0]), length, rtol=1e-6)

# %% [markdown]
# ## 5. Which right-hand sides are compatible?
#
# With a matched pair, $\nabla \mathcal L = \frac1N J^\top (y - t)$ and $G = J^\top M J$. So the batch's own gradient
# lies in the range of $G$ if $y - t$ lies in the range of $M$: always for Gaussian and Bernoulli outputs, and for
# Categorical ones because $y - t$ sums to zero, as everything in the range of $\operatorname{diag}(y) - y y^\top$ does.
# The gradient of another batch, or of weight decay, has no such reason: those systems are incompatible. Damping, or
# a solver that does not mind, is no luxury there.

# %%
net = mlp([6, 8, 4])
theta, N = net.init(rng, dtype="float64"), 12
objective = minigrad.Objective(net, Categorical())
batch, other = ((rng.normal(size=(N, 6)), rng.integers(0, 4, N)) for _ in range(2))
G = fisher(objective, theta, batch[0])
dense = G.dense()
values, vectors = np.linalg.eigh(dense)
null = vectors[:, values < 1e-12 * values[-1]]
print(f"{theta.size} parameters, {N} samples of 4 outputs: rank {theta.size - null.shape[1]} = {N} * (4 - 1)")
rhs = {
    "gradient, same batch": objective.value_and_grad(theta, batch)[1],
    "gradient, other batch": objective.value_and_grad(theta, other)[1],
    "weight decay": theta,
}
for name, g in rhs.items():
    share = np.linalg.norm(null.T @ g) / np.linalg.norm(g)
    reason = minres_qlp(G, -g, rtol=1e-9)[1].reason
    print(f"{name:22} share outside of the range {share:.0e}   minres_qlp: {reason}")
assert theta.size - null.shape[1] == 3 * N
assert np.linalg.norm(null.T @ rhs["gradient, same batch"]) < 1e-12

# %% [markdown]
# ## 6. Truncated: stopping early is a choice too
#
# An iterate after few products is not a bad solution but a cautious one. From $x_0 = 0$, CG's first iterate is a step
# along the gradient; along the way $\lVert x_k \rVert$ grows (Steihaug 1983) until it is the full step. So stopping
# after $k$ products and damping by $\lambda$ do a similar thing: both leave the directions of small curvature alone.

# %%
g = rhs["gradient, same batch"]
store = range(1, 26)
_, info = cg(G + 1e-4 * identity(theta.size), -g, rtol=0, maxiter=25, store=store)
iterates = [info.iterates[j] for j in store]
damped = [np.linalg.solve(dense + lam * np.eye(theta.size), -g) for lam in np.geomspace(3, 1e-4, 40)]
loss = lambda steps: [objective.value(theta + d, batch) for d in steps]
lengths = lambda steps: [np.linalg.norm(d) for d in steps]
assert np.all(np.diff(lengths(iterates)) > -1e-9)  # they grow
fig, ax = figure(height=2.9)
ax.semilogx(lengths(damped), loss(damped), color=ORANGE, label="solved, damping 3 to 0.0001")
ax.semilogx(lengths(iterates), loss(iterates), ".-", color=BLUE, label="CG, iteration 1 to 25")
ax.axhline(objective.value(theta, batch), color=BLACK, lw=0.8, ls=":")
ax.set(xlabel="length of the step", ylabel="loss after the step")
ax.set_title("Two ways to be cautious: stop early, or damp", fontsize=9)
label_ends(ax)

# %% [markdown]
# That is why Hessian-Free (Martens 2010) keeps some iterates, at $k = 1.3^j$, and after the solve goes *back* through
# them while the true loss falls (4.6); why it stops when $\phi$ has gained less than $k \varepsilon$, relatively, over
# the last $k$ iterations (4.4), and not at a small residual; and why the next solve may start from the last direction,
# shortened (4.8). The whole method, on top of `cg`:


# %%
def hessian_free_step(objective, theta, batch, lam, start, maxiter=50):
    """One update of Martens (2010), without preconditioner: theta, the new damping, the solve's d."""
    loss, g = objective.value_and_grad(theta, batch)
    G = gauss_newton(objective, theta, batch)
    kept = {int(np.ceil(1.3**j)) for j in range(40)}
    solution, info = cg(
        G + lam * identity(theta.size), -g, 0.95 * start, rtol=0, maxiter=maxiter, stop=MartensStop(), store=kept
    )
    d = solution
    for j in sorted(set(info.iterates) - {info.iterations}, reverse=True):  # 4.6: back, while the loss falls
        if objective.value(theta + info.iterates[j], batch) >= objective.value(theta + d, batch):
            break
        d = info.iterates[j]
    change = objective.value(theta + d, batch) - loss
    rho = change / (g @ d + 0.5 * d @ (G @ d))  # 4.1: by the undamped model
    lam = lam / 1.5 if rho > 0.75 else lam * 1.5 if rho < 0.25 else lam
    return (theta + d if change < 0 else theta), lam, solution


toy, lam, start = theta.copy(), 0.1, np.zeros_like(theta)
optimizer = HessianFree(damping=LevenbergMarquardt(lam=lam), maxiter=50, exponent=None)
theirs, state = theta.copy(), optimizer.init(objective, theta)
losses = []
for _ in range(8):
    toy, lam, start = hessian_free_step(objective, toy, batch, lam, start)
    theirs, state, log = optimizer.step(theirs, state, objective, batch, None, None)
    losses.append(objective.value(toy, batch))
    close(toy, theirs, rtol=1e-6, atol=1e-9)
print("Hessian-Free:", " ".join(f"{value:.2g}" for value in losses))
assert losses[-1] < 0.1 * losses[0]

# %% [markdown]
# ## 7. Searching the whole space
#
# CG trusts its quadratic. Krylov Subspace Descent asks the objective itself: an orthonormal basis $B$ of
# $g, G g, \dots, G^{K-1} g$ and the last step, then BFGS on $a \mapsto f(\theta + B^\top a)$, a problem of a few dozen
# variables. Since $\mathcal K_K$ is the same for every $\lambda$, the space holds all of CG's iterates at every
# damping, and the best point in it is at least as good as any of them.

# %%
loss, g = objective.value_and_grad(theta, batch)
G = gauss_newton(objective, theta, batch)
K = 8
V, _ = lanczos(G.dense(), -g, K)
B = V[:, :K]
f = lambda a: objective.value(theta + B @ a, batch)
slope = lambda a: B.T @ objective.value_and_grad(theta + B @ a, batch)[1]
best = scipy.optimize.minimize(f, np.zeros(K), jac=slope, method="BFGS").fun
for lam in (1e-3, 1e-2, 1e-1):
    d = cg(G + lam * identity(theta.size), -g, rtol=0, maxiter=K)[0]
    close(B @ (B.T @ d), d, rtol=1e-7, atol=1e-9)  # CG's iterate lies in the space
    print(f"damping {lam:g}: loss {objective.value(theta + d, batch):.4f} after {K} iterations of CG")
    assert best <= objective.value(theta + d, batch) + 1e-9
print(f"BFGS in the same space: {best:.4f}, from {loss:.4f}")

# %% [markdown]
# ## 8. The space of samples
#
# When a metric is made of few rows, $G = \frac1N P^\top P$ with one row a sample (the empirical Fisher, one draw of the
# sampled Fisher, TONGA's covariance), the system of $n$ unknowns has the size $N$ in disguise (Woodbury):
#
# $$ (\tfrac1N P^\top P + \lambda I)^{-1} b
#    = \tfrac1\lambda \Big( b - \tfrac1N P^\top \big(\tfrac1N K + \lambda I\big)^{-1} P\, b \Big),
#    \qquad K = P P^\top . $$
#
# And the Gram matrix needs no row of $P$. A sample's gradient in an affine layer is the outer product of $(h, 1)$ and
# the cotangent $\delta$, so inner products of gradients are products of inner products:
#
# $$ K_{ij} = \sum_{\text{layers}} (h_i^\top h_j + 1)\, (\delta_i^\top \delta_j) . $$
#
# Exact, for about the cost of two products and a Cholesky factor of size $N$.

# %%
lam = 1e-2
P = per_sample_gradients(objective, theta, batch)
rows = np.array([objective.value_and_grad(theta, (batch[0][i : i + 1], batch[1][i : i + 1]))[1] for i in range(N)])
close(P.dense(), rows, atol=1e-14)
gram = sum((layer.h @ layer.h.T + 1) * (layer.delta @ layer.delta.T) for (layer,) in P.layers)
close(gram, rows @ rows.T, atol=1e-13)

inner = np.linalg.solve(gram / N + lam * np.eye(N), rows @ g)
woodbury = (g - rows.T @ inner / N) / lam
direct = np.linalg.solve(rows.T @ rows / N + lam * np.eye(theta.size), g)
close(woodbury, direct, rtol=1e-10, atol=1e-13)
close(sample_space_solve(gradient_covariance(objective, theta, batch), g, lam)[0], direct, rtol=1e-10, atol=1e-13)

# %% [markdown]
# Multiply-adds, counted for one affine network: a product of $G$ takes two matrix products a layer and sample;
# the Gram matrix takes half of $N (n_{in} + n_{out})$ a layer and sample, for it is symmetric.

# %%
sizes = (784, 1500, 10)
pairs = list(itertools.pairwise(sizes))
backward = sum(a * b for a, b in pairs[1:])  # R-op and L-op pass through all layers but the first once more
for N_ in (100, 1000, 2500):
    product = 2 * N_ * (sum(a * b for a, b in pairs) + backward)
    Gram = N_**2 / 2 * sum(a + b for a, b in pairs)
    print(f"784-1500-10, N = {N_:4}: Gram matrix {Gram / product:.2f} products, Cholesky {N_**3 / 6 / product:.2f}")

# %% [markdown]
# ## 9. What is different in the papers as printed
#
# - Algorithm 1 of Pascanu & Bengio solves by `linear_cg` without damping; their text says MINRES-QLP with damping. On
#   the singular system of section 5 that matters as soon as metric and gradient come from different batches.
# - Their eq. 29 has $\mathbf G^{-1}$; where $\mathbf G$ is singular read $\mathbf G^+$ or add the damping.
# - Their eq. 30 puts the linear prediction in the denominator and is said to "behave identically" with Martens' ratio.
#   It does not: see chapter 40.
#
# How the first point shows: algorithm 1 to the letter, twenty iterations of CG on the undamped metric.

# %%
for name in ("gradient, same batch", "gradient, other batch"):
    G, g = fisher(objective, theta, batch[0]), rhs[name]
    for k in (20, 60):
        d = cg(G, -g, rtol=1e-4, maxiter=k)[0]
        print(f"{name:22} {k} iterations of cg: |d| = {np.linalg.norm(d):.2g}", end="    ")
    print(f"minres_qlp: |d| = {np.linalg.norm(minres_qlp(G, -g, rtol=1e-9)[0]):.2g}")

# %% [markdown]
# ## 10. Exercises
#
# 1. $A$ has $m$ different eigenvalues. After how many products does CG have the solution? `check_exercise_1(m -> k)`.
# 2. For which $x_0$ does MINRES-QLP on $A = \operatorname{diag}(2, 0)$, $b = (2, 0)$ return $(1, 3)$?
#    `check_exercise_2(x0)`.
# 3. Two draws a sample: the sampled Fisher of $N$ inputs has $2 N$ rows. How many multiply-adds has its Gram matrix for
#    a layer of $n_{in} \times n_{out}$, if the inputs' part is computed once?
#    `check_exercise_3(lambda N, n_in, n_out: ...)`.


# %%
def check_exercise_1(products):
    for m in (1, 3, 6):
        A, b = symmetric(np.repeat(np.arange(1.0, m + 1), 5)), np.random.default_rng(m).normal(size=5 * m)
        assert products(m) == cg(A, b, rtol=1e-9)[1].iterations, "a polynomial of degree k has k roots"
    print("right")


def check_exercise_2(x0):
    x, _ = minres_qlp(np.diag([2.0, 0.0]), np.array([2.0, 0.0]), np.array(x0, float))
    assert np.allclose(x, [1, 3]), "from x0, the correction is the shortest"
    print("right")


def check_exercise_3(count):
    right = lambda N, n_in, n_out: N**2 / 2 * n_in + (2 * N) ** 2 / 2 * n_out
    for sizes in ((10, 3, 4), (100, 784, 10)):
        assert np.isclose(count(*sizes), right(*sizes)), "both draws share h"
    print("right")


# %% tags=["hide-input"]
# The checkers are checked too, with a right and a wrong answer each.
check_exercise_1(lambda m: m)
check_exercise_2([0, 3])
check_exercise_3(lambda N, n_in, n_out: N**2 * (n_in / 2 + 2 * n_out))
for checker, wrong in (
    (check_exercise_1, lambda m: m + 1),
    (check_exercise_2, [3, 0]),
    (check_exercise_3, lambda N, n_in, n_out: 2 * N**2 * (n_in + n_out)),
):
    try:
        checker(wrong)
    except AssertionError:
        continue
    raise RuntimeError("a wrong answer was taken for right")
