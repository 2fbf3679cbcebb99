# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Kronecker factors
#
# **The question.** A layer of 1000 inputs and 500 outputs has half a million weights, and its block of the Fisher
# matrix 250 billion numbers. K-FAC replaces the block by two matrices, of sizes 1001 and 500. Where does that come
# from, what is lost on the way, and can one look at it?
#
# **The papers.** George, *Factorized second order methods in neural networks*, 3.3.1-3.3.3 and 3.5.1. K-FAC is by
# Martens & Grosse (2015), its refinement EKFAC by George, Laurent, Bouthillier, Ballas & Vincent (2018).
#
# | in the papers | here | shape | what it is |
# |---|---|---|---|
# | $h$, with a 1 for the bias | `h1` | (N, p), p = in + 1 | a layer's input $(h\ 1)$, a row for each sample |
# | $W$, $b$ | `V` or `W` | (p, q), q = out | the layer's matrix; its transpose is the papers' $(W\ b)$ |
# | $\mathbf J_a$ | `J_a` | (N, O, q) | Jacobian of the net's output in the layer's pre-activation |
# | $D(x)$ | `M` | (N, O, O) | metric of the outputs |
# | $(h\ 1)^\top (h\ 1)$, $\mathbf J_a^\top D \mathbf J_a$ | `H`, `D` | (N, p, p), (N, q, q) | what one sample brings |
# | $A$, $S$ (K-FAC's $\bar A$, $G$) | `A`, `S` | (p, p), (q, q) | their means over the samples: Kronecker factors |
# | $\mathbf G$, one layer's block | `B` | (p q, p q) | mean of $H \otimes D$ |
# | $\lambda$ | `lam` | number | damping |

# %%
# %matplotlib inline
import os

import numpy as np

import minigrad
from minigrad.curvature import block_diagonal, factored_fisher, fisher, kronecker_factors, scores
from minigrad.data import mnist
from minigrad.linalg import Eigenbasis, Kronecker, Matrix, cg, factored_damping, homogeneous_inverse, identity
from minigrad.losses import Categorical, Gaussian
from minigrad.nets import mlp
from minigrad.optimizers import EKFAC, KFAC, Adam, FixedDamping
from minigrad.plot import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILLION, figure, label_ends

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
minigrad.use("numpy")  # this chapter works on small host arrays, whatever backend is set
rng = np.random.default_rng(60)
close = np.testing.assert_allclose
norm = np.linalg.norm

# %% [markdown]
# ## 1. One sample, one layer
#
# $A \otimes S$ is the matrix of blocks $a_{ij} S$. It is made for matrices as unknowns. Let $\operatorname{vec}(V)$
# be $V$ row after row, which is how NumPy keeps it; then
#
# $$ (A \otimes S) \operatorname{vec}(V) = \operatorname{vec}(A V S^\top), \qquad
#    (A \otimes S)(B \otimes T) = A B \otimes S T . $$
#
# Papers print it for $\operatorname{vec}$ by columns, $\operatorname{vec}(A X B) = (B^\top \otimes A)
# \operatorname{vec}(X)$, and for samples as columns, $a = W h + b$. Both differences cancel: the columns of their $W$,
# then $b$, are the rows of our matrix.

# %%
p, q = 4, 3
A, S, V = rng.normal(size=(5, p)), rng.normal(size=(2, q)), rng.normal(size=(p, q))
B, T = rng.normal(size=(p, 6)), rng.normal(size=(q, 2))
close(np.kron(A, S) @ V.ravel(), (A @ V @ S.T).ravel())
close(np.kron(A, S) @ np.kron(B, T), np.kron(A @ B, S @ T))
X = V.T  # the papers' matrix (out, in + 1)
close((S @ X @ A.T).ravel(order="F"), np.kron(A, S) @ X.ravel(order="F"))
close(X.ravel(order="F"), V.ravel())  # their vec(W), then b, is our ravel
close(Kronecker(A, S) @ V.ravel(), np.kron(A, S) @ V.ravel())  # the library's is never formed

# %% [markdown]
# A layer computes $a = (h\ 1)\, V$, so $da = (h\ 1)\, dV$, and $\operatorname{vec}(da) = ((h\ 1) \otimes I)
# \operatorname{vec}(dV)$. The rest of the net adds $\mathbf J_a$, the Jacobian from $a$ to the output:
#
# $$ \mathbf J_\theta = \mathbf J_a \big((h\ 1) \otimes I\big) = (h\ 1) \otimes \mathbf J_a \tag{George 3.3.1} $$
#
# $\mathbf J_a$ comes from the output backwards: $I$ at the last layer, then times $W^\top$ and the slope of the
# activation, layer by layer.


# %%
def inputs_and_jacobians(net, theta, x):
    """[(h1 (N, p), J_a (N, O, q))] of every layer of a net of tanh or linear units, in NumPy."""
    weights = list(net.layout.views(theta).values())
    inputs, h = [], x
    for W, activation in zip(weights, net.activations, strict=True):
        inputs.append(np.hstack([h, np.ones((len(h), 1))]))
        h = inputs[-1] @ W if activation == "linear" else np.tanh(inputs[-1] @ W)
    J_a, jacobians = np.broadcast_to(np.eye(h.shape[1]), (len(x), h.shape[1], h.shape[1])), []
    for W, h1, activation in zip(weights[:0:-1], inputs[:0:-1], net.activations[-2::-1], strict=True):
        jacobians.append(J_a)
        J_a = J_a @ W[:-1].T
        if activation == "tanh":
            J_a = J_a * (1 - h1[:, None, :-1] ** 2)
    return list(zip(inputs, [*jacobians, J_a][::-1], strict=True))


toy = mlp([5, 4, 3, 2])
theta, x = toy.init(rng, dtype="float64"), rng.normal(size=(7, 5))
J = minigrad.Objective(toy, Gaussian()).linearize(theta, x)[1].dense().reshape(7, 2, -1)
for (h1, J_a), where in zip(inputs_and_jacobians(toy, theta, x), toy.layout.slices.values(), strict=True):
    for n in range(7):
        close(J[n][:, where], np.kron(h1[n], J_a[n]), atol=1e-13)

# %% [markdown]
# ## 2. Many samples: a mean of products
#
# A sample's share of the block is $\mathbf J_\theta^\top M \mathbf J_\theta$, and products multiply factor by factor:
#
# $$ B = \frac1N \sum_n \underbrace{(h_n\ 1)^\top (h_n\ 1)}_{H_n} \otimes
#        \underbrace{\mathbf J_{a,n}^\top M_n \mathbf J_{a,n}}_{D_n} \tag{George 3.3.2} $$
#
# To work with it, note that $B$ has the entries of $\frac1N \sum_n \operatorname{vec}(H_n)
# \operatorname{vec}(D_n)^\top$ in another order (Van Loan & Pitsianis 1993), and one matrix product makes those.


# %%
def samples(net, theta, x, t=None, kind="exact", seed=0):
    """[(H (N, p, p), D (N, q, q))] of every layer; M is the mean of u u' over the cotangents that define the kind."""
    r, J = minigrad.Objective(net, loss_of[net]).linearize(theta, x)
    u = np.stack(scores(loss_of[net], r, t, kind, rng=np.random.default_rng(seed)), axis=1)
    M = u.transpose(0, 2, 1) @ u / u.shape[1]
    layers = inputs_and_jacobians(net, theta, x)
    return [(h1[:, :, None] * h1[:, None, :], J_a.transpose(0, 2, 1) @ M @ J_a) for h1, J_a in layers]


def rearranged(H, D):
    """E[vec(H) vec(D)'], (p^2, q^2)."""
    return H.reshape(len(H), -1).T @ D.reshape(len(D), -1) / len(H)


def block(H, D):
    """B = E[H kron D], (p q, p q)."""
    p, q = H.shape[1], D.shape[1]
    return rearranged(H, D).reshape(p, p, q, q).transpose(0, 2, 1, 3).reshape(p * q, p * q)


softmax_toy = mlp([5, 4, 3, 4])
loss_of = {toy: Gaussian(), softmax_toy: Categorical()}
for net in loss_of:
    theta = net.init(rng, dtype="float64")
    G = fisher(minigrad.Objective(net, loss_of[net]), theta, x)
    for (H, D), exact in zip(samples(net, theta, x), block_diagonal(G, net.layout).blocks, strict=True):
        close(block(H, D), exact.dense(), atol=1e-13)
        close(block(H, D), np.mean([np.kron(*pair) for pair in zip(H, D, strict=True)], axis=0), atol=1e-13)

# %% [markdown]
# ## 3. K-FAC: a product of means
#
# $$ \mathbb E[H \otimes D] \approx \mathbb E[H] \otimes \mathbb E[D] = A \otimes S . \tag{George 3.5.1} $$
#
# What is lost is a covariance, as for any two quantities: $\mathbb E[HD] - \mathbb E[H]\, \mathbb E[D]$. In the
# order of Van Loan & Pitsianis,
#
# $$ B - A \otimes S \;\simeq\; \operatorname{cov}\big(\operatorname{vec}(H), \operatorname{vec}(D)\big), $$
#
# so K-FAC is right as far as, over the samples, what a layer receives is uncorrelated with what is asked back from it;
# and exactly right where one of the two does not vary. There are more such cases than one may think:
#
# - one sample;
# - linear nets with squared error, however deep: $\mathbf J_a$ is a product of weights and $M = I$;
# - the last layer of *any* net with squared error, for there $\mathbf J_a = I$.


# %%
def error(H, D):
    """|B - A kron S| / |B|, in Frobenius norm."""
    E = rearranged(H, D)
    return norm(E - np.outer(H.mean(axis=0), D.mean(axis=0))) / norm(E)


H, D = samples(softmax_toy, theta, x)[1]
A, S = H.mean(axis=0), D.mean(axis=0)
covariance = (H - A).reshape(7, -1).T @ (D - S).reshape(7, -1) / 7
close(norm(block(H, D) - np.kron(A, S)), norm(covariance), rtol=1e-10)

linear_toy = mlp([5, 4, 3, 2], activation="linear")
loss_of[linear_toy] = Gaussian()
at = {net: net.init(rng, dtype="float64") for net in loss_of}
for name, net, count in (
    ("softmax, one sample", softmax_toy, 1),
    ("linear net, squared error", linear_toy, 7),
    ("tanh net, squared error", toy, 7),
    ("softmax", softmax_toy, 7),
):
    errors = [error(H, D) for H, D in samples(net, at[net], x[:count])]
    print(f"{name:26}", "  ".join(f"layer {k + 1}: {e:.0e}" for k, e in enumerate(errors)))
    assert max(errors) < 1e-12 or count == 7
    assert max(errors) < 1e-12 or net is not linear_toy
    assert errors[-1] < 1e-12 or net is softmax_toy

# %% [markdown]
# By the library: `kronecker_factors` finds inputs and cotangents by walking the tape, without hooks in the net, for
# every kind of Fisher matrix.

# %%
for net in loss_of:
    objective = minigrad.Objective(net, loss_of[net])
    found = kronecker_factors(objective, at[net], x)
    for layer, (H, D) in zip(found, samples(net, at[net], x), strict=True):
        close(layer.A, H.mean(axis=0), atol=1e-13)
        close(layer.S, D.mean(axis=0), atol=1e-13)
        close(layer.block.dense(), np.kron(layer.A, layer.S), atol=1e-13)

# %% [markdown]
# ## 4. Looking at it
#
# Digits of 10 x 10 pixels, a small tanh net with softmax outputs, and its third layer: 10 inputs and a bias, 10
# outputs, a block of 110 x 110. On the left the true block of the exact Fisher matrix, every little square one pair of
# inputs; in the middle $A \otimes S$; on the right what is missing, on the same scale.

# %%
(pixels, labels), _ = mnist()
some = np.random.default_rng(0).permutation(len(pixels))[: 400 if QUICK else 2000]
images = pixels[some].reshape(-1, 28, 28)[:, 4:24, 4:24]  # digits lie in the middle 20 x 20
x = images.reshape(-1, 10, 2, 10, 2).mean(axis=(2, 4)).reshape(-1, 100).astype(float)
t = labels[some]
few = slice(0, 100 if QUICK else 1000)  # for the blocks

net = mlp([100, 6 if QUICK else 16, 10, 10, 10])
loss_of[net] = Categorical()
digits = minigrad.Objective(net, Categorical())
UPDATES = (0, 100, 1000) if not QUICK else (0, 30, 60)


def trained(seed):
    """{updates: theta}, by Adam on batches of 100."""
    theta = net.init(np.random.default_rng(seed), dtype="float64")
    run = lambda updates: minigrad.fit(
        digits, Adam(0.005), (x, t), updates=updates, batch_size=100, theta=theta, seed=seed, progress=False
    )
    return {updates: run(updates).theta if updates else theta for updates in UPDATES}


nets = [trained(seed) for seed in range(1 if QUICK else 3)]
for updates, theta in nets[0].items():
    wrong = (digits.predict(theta, x).argmax(axis=1) != t).mean()
    print(f"{updates:4} updates: loss {digits.value(theta, (x, t)):.3f}, {wrong:.1%} of the training digits wrong")

# %%
middle = UPDATES[1]
fig, axes = figure(2, 3, height=5.0)
for row, updates in zip(axes, (0, middle), strict=True):
    H, D = samples(net, nets[0][updates], x[few])[2]
    B, product = block(H, D), np.kron(H.mean(axis=0), D.mean(axis=0))
    limit = np.quantile(abs(B), 0.97)
    for ax, matrix in zip(row, (B, product, B - product), strict=True):
        ax.imshow(matrix, cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    when = f"after {updates} updates" if updates else "at the start"
    row[0].set_ylabel(when)
    row[2].set_title(f"difference: {error(H, D):.0%} of the norm", fontsize=9)
    close(B[-10:, -10:], D.mean(axis=0), atol=1e-14)
for ax, name in zip(axes[0], ("true block", "$A \\otimes S$"), strict=False):
    ax.set_title(name, fontsize=9)
fig.suptitle("A block of the Fisher matrix, its two factors multiplied out, and what they miss", fontsize=9)

# %% [markdown]
# The pattern of the squares is $A$, the pattern within each is $S$: in the middle all squares look alike, up to a
# factor. At the start they nearly do on the left, too; after some training, they do not. One corner stays exact, at the
# bottom right: for the bias $H = 1$, which does not vary.
#
# Martens & Grosse drop the blocks between layers, too. That is no small thing either:

# %%
for updates, theta in nets[0].items():
    P = factored_fisher(digits, theta, x[few][:100]).P.dense()
    F = P.T @ P / len(P)
    inside = sum(norm(F[where, where]) ** 2 for where in net.layout.slices.values())
    print(f"{updates:4} updates: the blocks on the diagonal hold {inside / norm(F) ** 2:.0%} of F's squared norm")

# %% [markdown]
# ## 5. How far off, before and after training, and for which kind?
#
# The same number for every layer, at the start and on the way. Each kind is measured against its own block: the exact
# one, that of one sampled target an input, that of the data's targets.

# %%
KINDS = {"exact": GREEN, "mc": BLUE, "empirical": VERMILLION}
errors = {
    kind: np.array(
        [
            [[error(*pair) for pair in samples(net, theta, x[few], t[few], kind)] for theta in run.values()]
            for run in nets
        ]
    )
    for kind in KINDS
}  # (seeds, updates, layers)
fig, axes = figure(1, len(UPDATES), height=2.8, sharey=True)
for j, (ax, updates) in enumerate(zip(axes, UPDATES, strict=True)):
    for shift, (kind, color) in zip((-0.15, 0, 0.15), KINDS.items(), strict=True):
        values = errors[kind][:, j]
        where = np.arange(4) + 1 + shift
        ax.vlines(where, values.min(axis=0), values.max(axis=0), color=color, lw=1)
        ax.plot(where, np.median(values, axis=0), "o", color=color, label=kind)
    ax.set(xlabel="layer", xticks=[1, 2, 3, 4], ylim=(0, 1))
    ax.set_title("at the start" if not updates else f"after {updates} updates", fontsize=9)
axes[0].set_ylabel("error of $A \\otimes S$, relative")
axes[0].legend(fontsize=8, frameon=False)
fig.suptitle(f"Training takes K-FAC's assumption away (median and range of {len(nets)} seeds)", fontsize=9)
for kind, value in errors.items():
    print(f"{kind:9}", "   ".join(f"{u} updates: {np.median(value[:, j]):.2f}" for j, u in enumerate(UPDATES)))
assert np.all(np.median(errors["exact"], axis=(0, 2))[1:] > np.median(errors["exact"][:, 0]))

# %% [markdown]
# Why? A covariance is large where both vary. How much they do, in the third layer, relative to their means:

# %%
spread = lambda factor: np.sqrt(((factor - factor.mean(axis=0)) ** 2).sum() / len(factor)) / norm(factor.mean(axis=0))
for updates, theta in nets[0].items():
    H, D = samples(net, theta, x[few])[2]
    sure = (digits.predict(theta, x[few]).max(axis=1) > 0.99).mean()
    print(f"{updates:4} updates: H varies by {spread(H):.2f}, D by {spread(D):.2f}; the net is sure of {sure:.0%}")
H, D = samples(net, nets[0][middle], x[few])[2]
B = block(H, D)

# %% [markdown]
# At the start all digits get much the same treatment, and $D$ varies little. In the end the net is sure of most digits
# and asks nothing back from them; what is left comes from the few in doubt, whose inputs are not the average ones. So
# K-FAC, used throughout training, is off by half of the block or more. What keeps it useful? The *step*, to which
# section 7 comes, and damping.
#
# ## 6. Better than the product of means
#
# **The nearest product.** In the order of Van Loan & Pitsianis, a Kronecker product is a matrix of rank one. So the
# nearest of all is the first singular pair. K-FAC's is another, but it is made of means, which can be averaged over
# batches.
#
# **EKFAC** keeps K-FAC's eigenvectors and mends the rest. With $A = Q \operatorname{diag}(\alpha) Q^\top$ and
# $S = R \operatorname{diag}(\sigma) R^\top$ the product is diagonal in the basis $U = Q \otimes R$, with the entries
# $\alpha_i \sigma_j$. Frobenius norms do not change with the basis, so for any diagonal $d$
#
# $$ \lVert B - U \operatorname{diag}(d)\, U^\top \rVert^2 = \sum_{k \ne l} (U^\top B U)_{kl}^2
#    + \sum_k \big( (U^\top B U)_{kk} - d_k \big)^2, $$
#
# and the best is $d = \operatorname{diag}(U^\top B U)$. It needs no $B$: a sample's gradient in that basis is
# $Q^\top (h\ 1)^\top \delta R$, and $d$ the mean of its squares, which is a product again, of
# $(h\ 1) Q$ squared and the diagonals of $R^\top D R$.


# %%
def eigenbasis(H, D):
    """Q, R and EKFAC's d (p, q), from the samples' H and D."""
    Q, R = (np.linalg.eigh(factor.mean(axis=0))[1] for factor in (H, D))
    along = lambda factor, basis: np.einsum("nij,ik,jk->nk", factor, basis, basis, optimize=True)
    return Q, R, along(H, Q).T @ along(D, R) / len(H)


Q, R, d = eigenbasis(H, D)
U = np.kron(Q, R)
close(d.ravel(), np.diag(U.T @ B @ U), atol=1e-14)
A, S = H.mean(axis=0), D.mean(axis=0)
kfac_d = np.diag(U.T @ np.kron(A, S) @ U)
close(kfac_d, np.outer(np.diag(Q.T @ A @ Q), np.diag(R.T @ S @ R)).ravel(), atol=1e-13)
close(d.sum(), np.trace(B))  # K-FAC's trace is another: tr H and tr D are correlated, too
ekfac = Eigenbasis(Q, R, d, psd=True)
close(norm(B - ekfac.dense()) ** 2, norm(B) ** 2 - (d**2).sum(), rtol=1e-8)
close(norm(B - np.kron(A, S)) ** 2, norm(B - ekfac.dense()) ** 2 + ((d.ravel() - kfac_d) ** 2).sum(), rtol=1e-8)


def all_errors(H, D):
    """Relative errors: A kron alpha I at its best alpha (George 3.3.3), K-FAC, EKFAC, the nearest product."""
    E, A, S = rearranged(H, D), H.mean(axis=0), D.mean(axis=0)
    AI = np.outer(A, np.eye(len(S)))
    alpha = (E * AI).sum() / (AI * AI).sum()
    whole, largest = norm(E) ** 2, np.linalg.eigvalsh(E.T @ E)[-1]
    d = eigenbasis(H, D)[2]
    rest = [norm(E - alpha * AI) ** 2, norm(E - np.outer(A, S)) ** 2, whole - (d**2).sum(), whole - largest]
    return np.sqrt(np.array(rest) / whole)


APPROXIMATIONS = ("A kron alpha I", "K-FAC", "EKFAC", "nearest product")
table = {
    updates: np.mean([all_errors(*pair) for pair in samples(net, nets[0][updates], x[few])], axis=0)
    for updates in UPDATES
}
print(" " * 12, "   ".join(f"{name:>15}" for name in APPROXIMATIONS))
for updates, row in table.items():
    print(f"{updates:4} updates", "   ".join(f"{value:15.2f}" for value in row))
    assert row[2] <= row[1] and row[3] <= row[1]

# %% [markdown]
# EKFAC is never farther than K-FAC, by construction; here it is nearer by little, because most of what is missing
# lies off the diagonal of $U^\top B U$. Note the first column: with a multiple of $I$ for $S$, the thesis' own choice
# (3.3.3), the block is a long way off from the beginning.
#
# ## 7. Inverting, and damping
#
# $(A \otimes S)^{-1} = A^{-1} \otimes S^{-1}$, so a step costs two small inverses and two matrix products with the
# gradient $V$ of the layer:
#
# $$ (A \otimes S)^{-1} \operatorname{vec}(V) = \operatorname{vec}(A^{-1} V S^{-1}) . $$
#
# $A$ has the 1 of the bias in its corner, and can be inverted by blocks (George, 3.3.3): with the mean $\mu$ and the
# covariance $C$ of $h$,
#
# $$ A^{-1} = \begin{pmatrix} C^{-1} & -C^{-1} \mu \\ -\mu^\top C^{-1} & 1 + \mu^\top C^{-1} \mu \end{pmatrix} . $$

# %%
V = rng.normal(size=(11, 10))
A_inv, S_inv = np.linalg.inv(A), np.linalg.inv(S + 1e-3 * np.eye(10))
close(np.kron(A_inv, S_inv) @ V.ravel(), (A_inv @ V @ S_inv).ravel(), rtol=1e-8)
second, mu = A[:-1, :-1], A[:-1, -1]
C_inv = np.linalg.inv(second - np.outer(mu, mu))
by_blocks = np.block([[C_inv, -(C_inv @ mu)[:, None]], [-(mu @ C_inv)[None], np.full((1, 1), 1 + mu @ C_inv @ mu)]])
close(by_blocks @ A, np.eye(11), atol=1e-8)
close(homogeneous_inverse(second, mu), by_blocks, rtol=1e-6)
ends = lambda factor: np.linalg.eigvalsh(factor.mean(axis=0))[[0, -1]]
for k, pair in enumerate(samples(net, nets[0][middle], x[few])):
    (a_min, a_max), (s_min, s_max) = map(ends, pair)
    print(f"layer {k + 1}: eigenvalues of A {a_min:.0e} to {a_max:.0e}, of S {s_min:.0e} to {s_max:.0e}")
print(f"of the 784 pixels of {len(some)} whole digits, {(pixels[some].max(axis=0) == 0).sum()} are never inked")

# %% [markdown]
# Neither needs to be invertible: a pixel that is never inked, or a unit that is dead, is a row of zeros in $A$, and the
# softmax behind the last layer does not see a constant added to all its inputs. So there is damping, and it is not for
# free: $A \otimes S + \lambda I$ is no Kronecker product. Two ways out:
#
# - *exact*, in the eigenvectors: $U \operatorname{diag}\big(1 / (\alpha_i \sigma_j + \lambda)\big)\, U^\top$;
# - *factored* (Martens & Grosse, 6.3): dampen each factor by its share,
#   $(A + \pi \sqrt\lambda\, I) \otimes (S + \tfrac{\sqrt\lambda}{\pi} I) =
#    A \otimes S + \lambda I + \sqrt\lambda\, (\pi\, I \otimes S + \tfrac1\pi A \otimes I)$.
#
# The two last terms are too much. Their traces are $p \pi \operatorname{tr} S$ and $q \operatorname{tr}(A) / \pi$;
# the sum is least where both are equal, at $\pi^2 = \frac{\operatorname{tr}(A) / p}{\operatorname{tr}(S) / q}$.

# %%
lam, I_A, I_S = 1e-2, np.eye(11), np.eye(10)
lam_A, lam_S = factored_damping(A, S, lam)
pi = np.sqrt(lam_A / lam_S)
surplus = np.kron(A + lam_A * I_A, S + lam_S * I_S) - np.kron(A, S) - lam * np.eye(110)
close(surplus, np.sqrt(lam) * (pi * np.kron(I_A, S) + np.kron(A, I_S) / pi), atol=1e-13)
traces = [np.trace(np.sqrt(lam) * (c * np.kron(I_A, S) + np.kron(A, I_S) / c)) for c in pi * np.array([0.9, 1, 1.1])]
assert min(traces) == traces[1] and np.isclose(traces[1], np.trace(surplus))
exact = Kronecker(Matrix(A, psd=True), Matrix(S, psd=True)).eigen().damped_inverse(lam)
close(exact.dense(), np.linalg.inv(np.kron(A, S) + lam * np.eye(110)), rtol=1e-7, atol=1e-9)

# %% [markdown]
# What matters in the end is the step. With the true block, $d^* = -(B + \lambda I)^{-1} g$ gains most by the quadratic
# model; another direction $d$, if its length is put right by the true block, as Martens & Grosse do (6.4), gains the
# share
#
# $$ \frac{(g^\top d)^2}{d^\top (B + \lambda I)\, d \;\cdot\; g^\top (B + \lambda I)^{-1} g} \le 1 . $$
#
# On the left of the figure the distance of the damped inverses from the true one's; on the right that share.

# %%
lams = np.geomspace(1e-5, 1, 11)
g = digits.value_and_grad(nets[0][middle], (x[few], t[few]))[1][net.layout.slices["layer2"]]
distance = {name: [] for name in ("K-FAC, exact", "K-FAC, factored", "EKFAC, exact", "the gradient")}
share = {name: [] for name in distance}
for lam in lams:
    damped = B + lam * np.eye(110)
    target = np.linalg.inv(damped)
    lam_A, lam_S = factored_damping(A, S, lam)
    inverses = {
        "K-FAC, exact": np.linalg.inv(np.kron(A, S) + lam * np.eye(110)),
        "K-FAC, factored": np.kron(np.linalg.inv(A + lam_A * I_A), np.linalg.inv(S + lam_S * I_S)),
        "EKFAC, exact": ekfac.damped_inverse(lam).dense(),
        "the gradient": np.eye(110),
    }
    for name, inverse in inverses.items():
        d = inverse @ g
        distance[name].append(norm(inverse - target) / norm(target))
        share[name].append((g @ d) ** 2 / (d @ damped @ d) / (g @ target @ g))
STYLES = ((GREEN, "-"), (ORANGE, "-"), (BLUE, "--"), (GREY, ":"))
fig, axes = figure(1, 2, height=3.0)
for ax, values, label in zip(
    axes, (distance, share), ("distance of the inverse, relative", "share of the gain"), strict=True
):
    for (name, row), (color, line) in zip(values.items(), STYLES, strict=True):
        ax.semilogx(lams, row, line, color=color, label=name)
    ax.set(xlabel="damping", ylabel=label, ylim=(0, 1.05))
axes[1].legend(fontsize=8, frameon=False, loc="lower right")
fig.suptitle("Factored damping spoils the inverse, the step hardly", fontsize=9)
for name in share:
    print(f"{name:16}", "  ".join(f"{share[name][i]:.2f} at {lams[i]:.0e}" for i in (2, 4, 6, 8)))

# %% [markdown]
# ## 8. Some steps with it
#
# All of K-FAC's idea in twenty lines: factors, an inverse for each, a product for each, the length by the true metric.
# The other preconditioners take the same place. All use the whole batch, the same fixed damping and the same rule for
# the length, so that nothing differs but the matrix; natural gradient has the whole of it, solved by conjugate
# gradients.

# %%
STEPS, LAM = 3 if QUICK else 25, 0.03
batch = (x[few], t[few])


def kfac(layer, H, D, V):
    lam_A, lam_S = factored_damping(layer.A, layer.S, LAM)
    A, S = layer.A + lam_A * np.eye(len(layer.A)), layer.S + lam_S * np.eye(len(layer.S))
    return np.linalg.solve(A, V) @ np.linalg.inv(S)


def by_ekfac(layer, H, D, V):
    Q, R, d = eigenbasis(H, D)
    return Q @ ((Q.T @ V @ R) / (d + LAM)) @ R.T


def by_true_blocks(layer, H, D, V):
    return np.linalg.solve(block(H, D) + LAM * np.eye(V.size), V.ravel()).reshape(V.shape)


def layer_by_layer(precondition):
    """The direction of a preconditioner that sees one layer at a time."""

    def direction(theta, g, G):
        layers = zip(kronecker_factors(digits, theta, batch[0]), samples(net, theta, batch[0]), strict=True)
        V = net.layout.views(g)
        return net.layout.pack({layer.name: -precondition(layer, H, D, V[layer.name]) for layer, (H, D) in layers})

    return direction


def by_all_of_it(theta, g, G):
    return cg(G, -g, rtol=1e-6, maxiter=300)[0]


def losses(direction, theta, lam=LAM):
    """Before each of STEPS steps, and after the last."""
    found = []
    for _ in range(STEPS):
        loss, g, *linearized = digits.value_grad_and_linearize(theta, batch)
        G = fisher(digits, theta, batch[0], linearized=linearized) + lam * identity(theta.size)
        d = direction(theta, g, G)
        theta = theta + d * -(g @ d) / (d @ (G @ d))
        found.append(loss)
    return [*found, digits.value(theta, batch)]


runs = {
    "gradient": (lambda theta, g, G: -g, BLACK, ":"),
    "K-FAC": (layer_by_layer(kfac), GREEN, "-"),
    "EKFAC": (layer_by_layer(by_ekfac), BLUE, "--"),
    "true blocks": (layer_by_layer(by_true_blocks), ORANGE, "-"),
    "natural gradient": (by_all_of_it, VERMILLION, "-"),
}
fig, ax = figure(height=3.2)
by_hand, final = {}, {}
for name, (direction, color, line) in runs.items():
    found = np.array([losses(direction, run[0]) for run in nets])
    ax.fill_between(range(STEPS + 1), found.min(axis=0), found.max(axis=0), color=color, alpha=0.15, lw=0)
    ax.semilogy(np.median(found, axis=0), line, color=color, label=name)
    by_hand[name], final[name] = found[0], np.median(found[:, -1])
    print(
        f"{name:16} loss {final[name]:.4f} after {STEPS} steps, seeds {found[:, -1].min():.4f}-{found[:, -1].max():.4f}"
    )
ax.set(xlabel="steps", ylabel="loss")
ax.set_title(
    f"Equal damping ({LAM:g}), the length by the true metric (median and range of {len(nets)} seeds)", fontsize=9
)
label_ends(ax)
assert final["K-FAC"] < final["gradient"]
assert QUICK or final["natural gradient"] < final["true blocks"] < final["EKFAC"]

# %% [markdown]
# The library's `KFAC` and `EKFAC` are these, once running averages, momentum and sampling are taken out:

# %%
for name, method in {"K-FAC": KFAC, "EKFAC": EKFAC}.items():
    optimizer = method(momentum=0.0, damping=FixedDamping(LAM), kind="exact", decay=0.0, interval=1)
    theta, state = nets[0][0], optimizer.init(digits, nets[0][0])
    for k in range(3):
        theta, state, log = optimizer.step(theta, state, digits, batch)
        close(log["loss"], by_hand[name][k], rtol=1e-6)
    close(digits.value(theta, batch), by_hand[name][3], rtol=1e-6)

# %% [markdown]
# Each thing that is dropped, the coupling of the layers, then that of $H$ and $D$, costs steps; and yet most of the way
# from gradient descent is K-FAC's. Knowing less has one advantage: a step by all of $\mathbf G$ is as long as a model
# that is trusted in every direction says, and with a third of the damping it is too long.

# %%
again = losses(by_all_of_it, nets[0][0], LAM / 3)
print(f"natural gradient with damping {LAM / 3:g}: loss {again[0]:.2f}, {again[-1]:.3g} after {STEPS} steps")

# %% [markdown]
# ## 9. What is wrong or different in the papers as printed
#
# - George 3.3.2: "we can not write the GN matrix nor the FIM using 2 matrices because it is a sum of Kronecker
#   products". A sum of products can be one: it is, in the three cases of section 3.
# - George 3.5.1 writes K-FAC's second factor as $\mathbb E\big[(\mathbf J_y^a)^\top D\, \mathbf J_y^a\big]$. In the
#   notation of 3.3.1, where $\mathbf J_\theta^a$ is the Jacobian of $a$ in $\theta$, that is
#   $\partial a / \partial y$; it must be $\mathbf J_a^y$, the $\mathbf J_a$ of eq. 3.3.2.
# - George 3.5.1: "inverting the FIM now requires inverting 2 smaller matrices". As shown above these are singular in
#   general; and with damping there is no such pair, but by approximation.
#
# For a sigmoid output $y = \sigma(a)$ with $D = 1 / (y (1 - y))$, the second point in numbers:

# %%
y = 0.3
slope, metric = y * (1 - y), 1 / (y * (1 - y))
as_printed, as_it_must_be = (1 / slope) * metric * (1 / slope), slope * metric * slope
print(f"as printed {as_printed:.1f}, as it must be {as_it_must_be:.2f}")
close(as_it_must_be, y * (1 - y))  # the Fisher information of a Bernoulli variable in its logit

# %% [markdown]
# ## 10. Exercises
#
# 1. How many numbers has the block of a layer of `n_in` inputs (and a bias) and `n_out` outputs, and how many its two
#    factors? `check_exercise_1(lambda n_in, n_out: (block, factors))`.
# 2. Somebody ravels a layer's matrix (in + 1, out) by columns instead. Which matrix is K-FAC's block then?
#    `check_exercise_2(lambda A, S: ...)`.
# 3. A net of relu units 3-4-2, squared error, as in `relu_net`. Find five different inputs for which K-FAC's blocks are
#    exact in both layers. `check_exercise_3(x)`.

# %%
relu_net = mlp([3, 4, 2], activation="relu")
relu_theta = relu_net.init(np.random.default_rng(5), dtype="float64")


def check_exercise_1(count):
    for n_in, n_out in ((4, 3), (1000, 500)):
        right = (((n_in + 1) * n_out) ** 2, (n_in + 1) ** 2 + n_out**2)
        assert tuple(count(n_in, n_out)) == right, "do not forget the bias"
    print("right")


def check_exercise_2(make):
    rng = np.random.default_rng(2)
    A, S, V = rng.normal(size=(3, 3)), rng.normal(size=(2, 2)), rng.normal(size=(3, 2))
    found = make(A, S) @ V.ravel(order="F")
    assert np.allclose(found, (A @ V @ S.T).ravel(order="F")), "the columns of V belong to outputs"
    print("right")


def check_exercise_3(x):
    x = np.array(x, float)
    assert len(np.unique(x, axis=0)) >= 5, "five different inputs"
    objective = minigrad.Objective(relu_net, Gaussian())
    G = block_diagonal(fisher(objective, relu_theta, x), relu_net.layout)
    for layer, exact in zip(kronecker_factors(objective, relu_theta, x), G.blocks, strict=True):
        gap = norm(layer.block.dense() - exact.dense())
        assert gap < 1e-10 * norm(exact.dense()), "where does the Jacobian of a relu net not change?"
    print("right")


# %% tags=["hide-input"]
# The checkers are checked too, with a right and a wrong answer each.
check_exercise_1(lambda n_in, n_out: (((n_in + 1) * n_out) ** 2, (n_in + 1) ** 2 + n_out**2))
check_exercise_2(lambda A, S: np.kron(S, A))
point, around = np.array([0.5, -1.0, 2.0]), np.random.default_rng(3).normal(size=(5, 3))
check_exercise_3(point + 1e-3 * around)  # the same units are active at all of them
for checker, wrong in (
    (check_exercise_1, lambda n_in, n_out: ((n_in * n_out) ** 2, n_in**2 + n_out**2)),
    (check_exercise_2, lambda A, S: np.kron(A, S)),
    (check_exercise_3, point + 3 * around),
):
    try:
        checker(wrong)
    except AssertionError:
        continue
    raise RuntimeError("a wrong answer was taken for right")
