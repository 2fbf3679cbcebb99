# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Hilbert-constrained gradient descent
#
# **The question.** A step of the parameters is a means; what should be small is the change of the *function*. What does
# a learning rule do that penalizes this change, and how is it related to the natural gradient?
#
# **The papers.** Benjamin et al. 2018, *Improving generalization by regularizing in L2 function space*: HCGD (algorithm
# 1) and natural gradient by gradient descent (algorithm 2). Benjamin et al. 2019, *Measuring and regularizing networks
# in function space*, section 3.2 and appendices D and E, print both again, with other formulas in places.
#
# | in the papers | here | shape | what it is |
# |---|---|---|---|
# | $J$ | `g` | (n,) | gradient of the loss on the training batch |
# | $\Delta\theta_j$ | `d` | (n,) | the step after $j$ corrections |
# | $f_\theta(x_i)$ | row of `y` | (out,) | what the net predicts, behind the softmax |
# | $X_V$ | `x` | (N, in) | the validation batch |
# | $\lambda$, $\eta$, $\epsilon$ | `lam`, `eta`, `lr` | numbers | weight of the penalty, inner rate, learning rate |
# | $F$ | `F` | (n, n) | Fisher information |
# | (none) | `Jy` | (N out, n) | Jacobian of all outputs, $G = J_y^\top J_y / N$ |
# | (none) | `delta` | number | damping |

# %%
# %matplotlib inline
import os

import numpy as np
import scipy.optimize

import minigrad
from minigrad import experiments
from minigrad.curvature import fisher
from minigrad.function_space import mean_square, mean_square_and_grad, root_mean_square_and_grad
from minigrad.linalg import cg, identity
from minigrad.losses import Categorical, Gaussian
from minigrad.nets import mlp
from minigrad.optimizers import HCGD, SGD, Adam, NaturalDescent
from minigrad.plot import BLACK, BLUE, GREEN, GREY, VERMILLION, figure

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
minigrad.use("numpy")  # this chapter works on small host arrays, whatever backend is set
rng = np.random.default_rng(82)
close = np.testing.assert_allclose


def problem(loss, samples=60, sizes=(6, 8, 3)):
    """A small net with data that it can learn: objective, theta, training batch, validation inputs."""
    objective = minigrad.Objective(mlp(list(sizes)), loss)
    x = rng.normal(size=(2 * samples, sizes[0]))
    r = np.tanh(x[:, : sizes[-1]] * 2) + 0.1 * rng.normal(size=(2 * samples, sizes[-1]))
    t = r.argmax(axis=1) if isinstance(loss, Categorical) else r
    return objective, objective.net.init(rng, "float64"), (x[:samples], t[:samples]), x[samples:]


objective, theta, batch, x = problem(Categorical())
loss, g = objective.value_and_grad(theta, batch)
y = objective.predict(theta, x)

# %% [markdown]
# ## 1. The natural gradient is a penalty on change
#
# Penalize the change of the output distribution, measured by the Kullback-Leibler divergence, to second order (2018,
# eq. 2-5; 2019, eq. 3-6):
#
# $$ C(d) = g^\top d + \tfrac\lambda2\, d^\top F d, \qquad \nabla C = g + \lambda F d = 0
#    \;\Longrightarrow\; d = -\tfrac1\lambda F^{-1} g . $$
#
# (Both papers print the last line without its minus.) Two things to check: that $\tfrac12 d^\top F d$ is the divergence
# to second order, in either order of its arguments, and that the minimum is where we say. A softmax has a singular
# Fisher information, so we add the damping $\tfrac\delta2 \lVert d \rVert^2$ here and from now on.

# %%
F = fisher(objective, theta, x)
d = rng.normal(size=theta.size)
for size in (1e-2, 1e-3):
    r, s = (objective.net.apply(theta + step, x) for step in (0 * d, size * d))
    ratios = [objective.loss.kl(*pair) / (0.5 * size**2 * (d @ (F @ d))) for pair in ((r, s), (s, r))]
    print(f"|d| = {size * np.linalg.norm(d):.3f}: KL / (d'Fd/2) = {ratios[0]:.4f} and, turned round, {ratios[1]:.4f}")
close(ratios, 1, rtol=1e-2)

lam, delta = 2.0, 0.1
A = lam * F + delta * identity(theta.size)
found = scipy.optimize.minimize(
    lambda d: g @ d + 0.5 * d @ (A @ d), 0 * g, jac=lambda d: g + A @ d, method="BFGS", options={"gtol": 1e-10}
).x
natural, _ = cg(A, -g, rtol=1e-12)
close(found, natural, atol=1e-6)

# %% [markdown]
# ## 2. Two penalties on the change of outputs
#
# HCGD measures the change of the function by the outputs themselves (2018, eq. 6; 2019, eq. 1):
#
# $$ D^2(d) = \frac1N \sum_i \lvert f_{\theta + d}(x_i) - f_\theta(x_i) \rvert^2 , \qquad
#    \text{penalty } \lambda D \text{ ("root")} \quad\text{or}\quad \lambda D^2 \text{ ("mean")} . $$
#
# The algorithm boxes have the root, 2019's eq. 2 the mean. To second order they are made of one matrix,
#
# $$ D^2 = d^\top G\, d + O(\lVert d \rVert^3), \quad D \approx \sqrt{d^\top G\, d},\quad G = \tfrac1N J_y^\top J_y . $$
#
# $G$ is the Fisher information of a Gaussian with mean $y$: HCGD is natural gradient in another metric.

# %%
Jy = np.stack(  # column by column, by central differences
    [
        (objective.predict(theta + 1e-6 * e, x) - objective.predict(theta - 1e-6 * e, x)).ravel() / 2e-6
        for e in np.eye(theta.size)
    ],
    axis=1,
)
G = Jy.T @ Jy / len(x)
for size in (1e-2, 1e-3):
    D2 = mean_square(objective.predict(theta + size * d, x), y)
    print(f"|d| = {size * np.linalg.norm(d):.3f}: D^2 / d'Gd = {D2 / (size**2 * d @ G @ d):.4f}")
close(D2, size**2 * d @ G @ d, rtol=1e-2)

# %% [markdown]
# How far is $G$ from the Fisher information $F$? Behind a softmax, $J_y = M J_r$ with $M_i = \mathrm{diag}(y_i) - y_i
# y_i^\top$, sample by sample; and that same $M$ is the Fisher metric of the logits. So
#
# $$ F = \tfrac1N J_r^\top M J_r, \qquad G = \tfrac1N J_r^\top M^2 J_r . $$
#
# An eigenvalue $\mu$ of $M$ is at most $\tfrac12$, so $G \preceq \tfrac12 F$; where all $O$ classes are equally likely
# $M^2 = M / O$ and the two are proportional. Where the net is sure, $M \approx 0$ and $M^2$ is smaller still: **HCGD
# lets a net change its mind about sure answers more cheaply than the natural gradient does.**

# %%
shares = {}
for gain in (1e-3, 1.0, 4.0, 16.0):
    the = theta.copy()
    views = objective.layout.views(the)
    views["layer1"][:] *= gain  # the last layer: from uniform to sure outputs
    dense = fisher(objective, the, x).dense()
    J = np.stack(
        [
            (objective.predict(the + 1e-6 * e, x) - objective.predict(the - 1e-6 * e, x)).ravel() / 2e-6
            for e in np.eye(theta.size)
        ],
        axis=1,
    )
    shares[gain] = np.trace(J.T @ J / len(x)) / np.trace(dense)
    sure = objective.predict(the, x).max(axis=1).mean()
    print(f"mean largest probability {sure:.2f}: trace G / trace F = {shares[gain]:.3f}")
    assert np.linalg.eigvalsh(0.5 * dense - J.T @ J / len(x))[0] > -1e-7
close(shares[1e-3], 1 / 3, rtol=1e-2)

# %% [markdown]
# ## 3. What the root does
#
# **At zero.** $D$ is a norm of $d$, to first order: it has a kink at $d = 0$, and no gradient there. The library
# returns the shortest subgradient, 0.
#
# **For short steps.** $\nabla D = G d / \sqrt{d^\top G d}$ does not depend on the length of $d$, but $\nabla D^2 = 2 G
# d$ shrinks with it. The correction $\eta \lambda \nabla D$ has one size whatever the learning rate; for a small one it
# is longer than the proposal, and overshoots. So $\eta$ must fall with the learning rate, as 2018 does in its last
# experiment and our `HCGD` does by itself.

# %%
value, slope = root_mean_square_and_grad(objective, theta, x, y)
assert value == 0 and not slope.any()
scales = 10.0 ** np.arange(-4, 0.5, 0.5)
root, mean = (
    [np.linalg.norm(measure(objective, theta - s * g, x, y)[1]) for s in scales]
    for measure in (root_mean_square_and_grad, mean_square_and_grad)
)
close(root[0], np.linalg.norm(G @ g) / np.sqrt(g @ G @ g), rtol=1e-3)
close(mean[0] / scales[0], 2 * np.linalg.norm(G @ g), rtol=1e-3)
fig, axes = figure(1, 2)
along = np.linspace(-1, 1, 81)
lines = np.array([[mean_square(objective.predict(theta - s * g, x), y)] for s in along]).ravel()
axes[0].plot(along, np.sqrt(lines), color=VERMILLION, label="root, $D$")
axes[0].plot(along, lines, color=BLUE, label="mean, $D^2$")
axes[0].set(xlabel="lr of a step $-$lr g", ylabel="penalty / $\\lambda$")
axes[0].legend(frameon=False)
axes[1].loglog(scales, 0.01 * np.array(root), "o-", color=VERMILLION, label="correction, root")
axes[1].loglog(scales, 0.01 * np.array(mean), "s-", color=BLUE, label="correction, mean")
axes[1].loglog(scales, scales * np.linalg.norm(g), color=GREY, label="proposal")
axes[1].set(xlabel="learning rate", ylabel="length")
_ = axes[1].legend(frameon=False)

# %% [markdown]
# **In the end.** What does the inner loop converge to? Linearized, $C(d) = g^\top d + \lambda \sqrt{d^\top G d}$ is
# homogeneous: $C(s d) = s\, C(d)$ for $s > 0$. So its minimum is 0, at $d = 0$, or there is none. By Cauchy-Schwarz in
# the metric $G$, with $g$ in its range,
#
# $$ g^\top d + \lambda \sqrt{d^\top G d} \;\ge\; \big( \lambda - \lambda^* \big) \sqrt{d^\top G d}, \qquad
#    \lambda^* = \sqrt{g^\top G^{+} g} , $$
#
# with equality for some $d$. **Below $\lambda^*$ the inner loop of the boxes walks away without end; above it, it moves
# towards no step at all**, and circles there, for its corrections do not get shorter. It works because it is stopped.
# A linear net, where nothing is an approximation, shows it:

# %%
linear = minigrad.Objective(mlp([4, 2]), Gaussian())
w = linear.net.init(rng, "float64")
data = rng.normal(size=(40, 4)), rng.normal(size=(40, 2))
_, slope_w = linear.value_and_grad(w, data)
H = np.kron(*(np.c_[data[0], np.ones(40)].T @ np.c_[data[0], np.ones(40)] / 40, np.eye(2)))  # G of a linear layer
star = np.sqrt(slope_w @ np.linalg.solve(H, slope_w))
counts = [1, 2, 5, 10, 20, 50, 100, 200, 500]
forms = {
    "root, $\\lambda = \\lambda^* / 2$": (dict(lam=star / 2), VERMILLION, "o-"),
    "root, $\\lambda = 2 \\lambda^*$": (dict(lam=star * 2), BLACK, "s-"),
    "mean, damped": (dict(lam=0.5, penalty="mean", damping=0.5), BLUE, "^-"),
}
lengths = {
    label: [
        np.linalg.norm(
            HCGD(SGD(0.2), n, 0.05, validation=None, **form).step(w, {"update": 0}, linear, data, None, None)[0] - w
        )
        for n in counts
    ]
    for label, (form, _, _) in forms.items()
}
fig, ax = figure()
for label, (_, colour, style) in forms.items():
    ax.loglog(counts, lengths[label], style, color=colour, label=label)
ax.set(xlabel="corrections n", ylabel="length of the step")
ax.legend(frameon=False)
first, second, third = lengths.values()
assert 2.3 < first[-1] / first[-2] < 2.7  # 500 / 200 corrections: the way grows in proportion
assert max(second[3:]) < 0.5 * 0.2 * np.linalg.norm(slope_w)  # it stays near 0: the proposal was twice as long
direct = np.linalg.solve(2 * 0.5 * H + 0.5 * np.eye(len(w)), -slope_w)
close(third[-1], np.linalg.norm(direct), rtol=1e-3)

# %% [markdown]
# ## 4. The algorithm in twenty lines
#
# HCGD proposes a step by any method, and corrects it. As the boxes print it, in our letters (their $v$ points uphill):


# %%
def hcgd(theta, v, batch, x, n=1, lr=0.1, beta=0.9, lam=0.5, eta=0.02):
    """Algorithm 1 of 2018 / algorithm 2 of 2019 with n corrections; returns theta, v."""
    _, J = objective.value_and_grad(theta, batch)
    v = beta * v + lr * J
    step, f = -v, objective.predict(theta, x)
    for j in range(1, n + 1):
        _, change = root_mean_square_and_grad(objective, theta + step, x, f)
        gL2 = lam * change if j == 1 else J + lam * change
        step = step - eta * gL2
        v = v + eta * gL2
    return theta + step, v


for n in (1, 3):
    ours, v = theta, np.zeros_like(theta)
    optimizer = HCGD(SGD(0.1, momentum=0.9), n, 0.02, lam=0.5, validation=60)
    lib, state = theta, optimizer.init(objective, theta)
    for _ in range(3):
        ours, v = hcgd(ours, v, batch, x, n)
        lib, state, log = optimizer.step(lib, state, objective, batch, lambda size: (x, None), rng)
    close(lib, ours, atol=1e-12)
    close(state["v"], -v, atol=1e-12)

# %% [markdown]
# Three remarks on the box.
#
# *The first correction has no $J$*, the others do. With the proposal $d_0 = -\epsilon J$ of plain SGD this is no slip
# if the inner loop is *damped*: SGD's step minimizes $J^\top d + \lVert d \rVert^2 / 2\epsilon$, so in
#
# $$ C(d) = J^\top d + \lambda D(d) + \tfrac{1}{2\epsilon} \lVert d \rVert^2, \qquad
#    \nabla C(d_0) = J - \tfrac1\epsilon\, \epsilon J + \lambda \nabla D(d_0) = \lambda \nabla D(d_0), $$
#
# and one correction is a gradient step on $C$. But the box goes on with $J + \lambda \nabla D$: from its second
# correction on it descends the undamped function of section 3. Our `damping=` keeps the damping throughout; at $1 /
# \epsilon$ both agree for $n = 1$.
#
# *Corrections learn.* Each but the first adds $-\eta J$ to the step: ten of them are SGD at $\epsilon + 9 \eta$ before
# the penalty has said a word. With the paper's $\epsilon = 0.1$ and $\eta = 0.02$ that is nearly three times the
# learning rate, which a comparison with SGD at $\epsilon$ has to be told.
#
# *The loop runs `for 1 < j < n`*, so $n = 2$ would correct once, like $n = 1$, and $n = 10$ nine times. The text counts
# $2 + 3n$ passes for $n$ corrections, each with a validation batch of its own: we read $1 < j \le n$. The box draws one
# validation batch, before the loop, and that takes $3 + 2n$.

# %%
plain, damped = (
    HCGD(SGD(0.1), 1, 0.02, validation=60, damping=delta_or_none).step(
        theta, {"update": 0}, objective, batch, lambda size: (x, None), rng
    )[0]
    for delta_or_none in (None, 10.0)
)
close(plain, damped, atol=1e-14)
one, ten = (
    HCGD(SGD(0.1), n, 0.02, validation=60).step(theta, {"update": 0}, objective, batch, lambda size: (x, None), rng)[0]
    for n in (1, 10)
)
along_g = lambda new: -(new - theta) @ g / (g @ g)
print(f"step along -g, in units of g: {along_g(one):.3f} for n = 1, {along_g(ten):.3f} for n = 10")
adam = HCGD(Adam(0.01), 1, 0.02, validation=60)
_, _, log = adam.step(theta, adam.init(objective, theta), objective, batch, lambda size: (x, None), rng)
print(f"any method can propose: Adam+HC corrects its step by a length of {log['correction']:.4f}")

# %% [markdown]
# ## 5. With the squared penalty and damping, it is a natural gradient
#
# $\lambda D^2$ has the quadratic form $2 \lambda G$ for its Hessian at 0. So with damping the inner loop has one fixed
# point, and for small steps that is
#
# $$ d = -\big( 2 \lambda G + \delta I \big)^{-1} g . $$
#
# "Small" can be had at will: give the net targets that are its own outputs plus something of size $s$; then $g$ and $d$
# are of size $s$, and the distance from the solve must be of size $s^2$.

# %%
gaussian, phi, (inputs, _), _ = problem(Gaussian())
far = []
for s in (1e-2, 1e-3, 1e-4):
    near = inputs, gaussian.predict(phi, inputs) + s * rng.normal(size=(60, 3))
    _, slope = gaussian.value_and_grad(phi, near)
    metric = fisher(gaussian, phi, inputs)  # a Gaussian's own: J'J/N
    direct, _ = cg(2 * 0.5 * metric + 0.1 * identity(phi.size), -slope, rtol=1e-12)
    inner = HCGD(SGD(0.1), 1000 if QUICK else 3000, 0.1, lam=0.5, penalty="mean", validation=None, damping=0.1)
    new, _, _ = inner.step(phi, {"update": 0}, gaussian, near, None, None)
    far.append(np.linalg.norm(new - phi - direct) / np.linalg.norm(direct))
    print(f"targets {s:g} away: the corrections end {far[-1]:.1e} of the step from the solve")
assert 5 < far[0] / far[1] < 20

# %% [markdown]
# ## 6. Natural gradient by gradient descent
#
# Algorithm 2 of 2018 (3 of 2019) does the same with $F$: propose, then descend $g^\top d + \tfrac\lambda2 d^\top F d$.
#
# $$ d_{j+1} = d_j - \eta\, (g + \lambda F d_j) $$
#
# "The deep learning framework must implement forward-mode differentiation", or store the gradients of all samples: here
# $F d$ is one R-op and one L-op (chapter 20), and nothing is stored. In the eigenvector of $F$ with eigenvalue $\mu$
# the error shrinks by $1 - \eta (\lambda \mu + \delta)$ a correction. So $\eta < 2 / (\lambda \mu_{\max} + \delta)$ is
# needed, small eigenvalues converge slowly, and in the null space (without damping) the proposal stays as it is.
# Conjugate gradients pay the same product an iteration:

# %%
mu = np.linalg.eigvalsh(fisher(objective, theta, batch[0]).dense())
eta = 1 / (lam * mu[-1] + delta)
A = lam * fisher(objective, theta, batch[0]) + delta * identity(theta.size)
natural, _ = cg(A, -g, rtol=1e-13)
counts = [1, 2, 5, 10, 20, 50, 100]
descent = [
    NaturalDescent(SGD(0.1), n, eta, lam=lam, damping=delta).step(theta, {"update": 0}, objective, batch, None, rng)[0]
    - theta
    for n in counts
]
conjugate = [cg(A, -g, x0=-0.1 * g, maxiter=n, rtol=1e-13)[0] for n in counts]
apart = lambda steps: [np.linalg.norm(step - natural) / np.linalg.norm(natural) for step in steps]
fig, ax = figure()
ax.loglog(counts, apart(descent), "o-", color=VERMILLION, label="gradient descent")
ax.loglog(counts, np.maximum(apart(conjugate), 1e-12), "s--", color=GREEN, label="conjugate gradients")
ax.set(xlabel="products with F", ylabel="distance from the natural gradient\n(share of its length)")
ax.legend(frameon=False)
slowest = (1 - eta * (lam * mu[0] + delta)) ** 100
print(
    f"after 100 products descent is {apart(descent)[-1]:.1e} off; its slowest error has {slowest:.1e} of its size left"
)
assert apart(conjugate)[3] < 0.1 * apart(descent)[3]

# %% [markdown]
# ## 7. What the papers claim, and what comes out here
#
# Figures 1 and 2 of 2018 compare SGD and HCGD on MNIST by epochs and by passes through the net, figure 5 (2019, C.7)
# how far the nets travel meanwhile. The experiments are `hcgd-mnist` and `distance-travelled`; `python -m minigrad run
# hcgd-mnist --full` makes the record. Where one comes with minigrad it is shown below, else a run of a few seconds, and
# then the verdicts mean little.
#
# Beside the paper's methods runs plain SGD at $\epsilon + 9 \eta$. All of HCGD's corrections but the first go down the
# loss by $\eta g$, so $n = 10$ is, before the penalty says anything, SGD with a learning rate that much larger; what
# the penalty is worth shows in the difference from that.

# %%
_ = experiments.show("hcgd-mnist")

# %%
if not QUICK:
    _ = experiments.show("distance-travelled")

# %% [markdown]
# ## 8. What is wrong in the papers as printed
#
# - 2018 eq. 5, 2019 eq. 6: $\Delta\theta = \frac1\lambda F^{-1} J$ lacks its minus; the algorithms move towards
#   $-\frac1\lambda F^{-1} J$, as they must.
# - Both boxes: `for 1 < j < n` must be $1 < j \le n$; as printed $n = 2$ is $n = 1$ (section 4).
# - Both boxes: the first correction descends the damped function, the later ones the undamped one, which has no
#   minimum but 0 (section 3). 2018 says that $\Delta\theta_0$ is corrected "towards $\Delta\theta'$", the minimum.
# - 2018 eq. 6 penalizes $\lambda D$; in its eq. 7 and its box's line 15 no root is legible in our copy. 2019 eq. 2 has
#   $\frac\lambda N \sum$, its boxes the root of $\frac{\lambda^2}{N} \sum$. These are two methods (section 3).
# - 2018 section 1.2: the divergence "from $P_{\theta_t}$ to $P_{\theta_{t+1}}$" is written
#   $D_{KL}(P_{\theta_{t+1}} \Vert P_{\theta_t})$, but its eq. 1 averages over $P_{\theta_t}$: that is
#   $D_{KL}(P_{\theta_t} \Vert P_{\theta_{t+1}})$. To second order they are one (section 1).
# - 2018 eq. 8, 2019 eq. 7: $F = G G^\top$ for an array $G$ of the gradients of $N$ samples must be $\frac1N G G^\top$.
# - The sums over $i = 0, \ldots, N$ have $N + 1$ terms under a $\frac1N$.
# - 2018 section 3: the net is "850 - 90 - 50 - 10", and an MNIST digit has 784 pixels.

# %%
gradients = np.stack(
    [objective.value_and_grad(theta, (batch[0][i : i + 1], batch[1][i : i + 1]))[1] for i in range(60)], axis=1
)
empirical = fisher(objective, theta, batch, kind="empirical").dense()
print(f"GG' is {np.trace(gradients @ gradients.T) / np.trace(empirical):.0f} times the empirical Fisher of 60 samples")
wrong, right = (sign * np.linalg.solve(A.dense(), g) for sign in (1, -1))
for name, step in (("printed", wrong), ("with a minus", right)):
    print(f"eq. 5 {name}: the loss changes by {objective.value(theta + 0.1 * step, batch) - loss:+.3f}")

# %% [markdown]
# ## 9. Exercises
#
# 1. For a linear net under squared error measured on its own training inputs, $G$ is the Hessian. By how much does HCGD
#    with the mean penalty, damping $\delta \to 0$ and $n \to \infty$ scale Newton's step?
#    `check_exercise_1(lambda lam: factor)`.
# 2. Write the first correction for the *mean* penalty, to first order in the learning rate, as $d_1 = -\epsilon\, P g$.
#    `check_exercise_2(lambda G, lam, eta: P)`. (For small $\epsilon$ HCGD, `penalty="mean"`, is a preconditioner.)
# 3. With the root penalty, which $\lambda$ is needed at least so that the inner loop, continued for ever on a linear
#    net, takes no step? `check_exercise_3(lambda g, G: lam)`.


# %%
def check_exercise_1(factor):
    newton = -np.linalg.solve(H, slope_w)
    for lam in (0.25, 2.0):
        inner = HCGD(SGD(0.1), 4000, 0.1 / lam, lam=lam, penalty="mean", validation=None, damping=1e-6)
        new, _, _ = inner.step(w, {"update": 0}, linear, data, None, None)
        assert np.allclose(new - w, factor(lam) * newton, rtol=1e-3, atol=1e-4), "the penalty's Hessian is 2 lam G"
    print("right")


def check_exercise_2(build):
    P = build(G, 0.5, 0.02)
    new, _, _ = HCGD(SGD(1e-4), 1, 0.02, lam=0.5, penalty="mean", validation=60).step(
        theta, {"update": 0}, objective, batch, lambda size: (x, None), rng
    )
    assert np.allclose(new - theta, -1e-4 * P @ g, rtol=1e-4, atol=1e-10), "the penalty's gradient is 2 lam G d"
    print("right")


def check_exercise_3(threshold):
    found = threshold(slope_w, H)
    for factor, still in ((1.05, True), (0.95, False)):
        inner = HCGD(SGD(1e-3), 3000, 0.01, lam=factor * found, validation=None)
        new, _, _ = inner.step(w, {"update": 0}, linear, data, None, None)
        assert (np.linalg.norm(new - w) < 0.2) == still, "lam* of section 3"
    print("right")


# %% tags=["hide-input"]
# The checkers are checked too, with a right and a wrong answer each.
check_exercise_1(lambda lam: 1 / (2 * lam))
check_exercise_2(lambda G, lam, eta: np.eye(len(G)) - 2 * eta * lam * G)
check_exercise_3(lambda g, G: np.sqrt(g @ np.linalg.solve(G, g)))
for checker, wrong in (
    (check_exercise_1, lambda lam: 1 / lam),
    (check_exercise_2, lambda G, lam, eta: np.eye(len(G)) - eta * lam * G),
    (check_exercise_3, lambda g, G: 0.5 * np.sqrt(g @ np.linalg.solve(G, g))),
):
    try:
        checker(wrong)
    except AssertionError:
        continue
    raise RuntimeError("a wrong answer was taken for right")
