# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Networks as functions
#
# **The question.** Training moves parameters, but what we want is a function. How far apart are two networks as
# functions, how many samples does it take to know, and does the distance of their parameters say the same?
#
# **The paper.** Benjamin, Rolnick & Kording, *Measuring and regularizing networks in function space* (2019), section 2
# and appendices A-C; the space is that of their earlier paper (2018, section 2).
#
# | in the paper | here | shape | what it is |
# |---|---|---|---|
# | $f(x_i)$ | row of `f`, `y` | (K,) | outputs: after the softmax, probabilities |
# | $\lVert f - g \rVert^2$ | `mean_square(f, g)`, $D_2$ | number | mean square distance |
# | $\lVert f - g \rVert$ | `root_mean_square(f, g)`, $D$ | number | root mean square distance |
# | $\lVert \Delta\theta \rVert$ | `parameter_square(theta, phi) ** 0.5` | number | $\ell^2$ distance of parameters |
# | | `s` | (N,) | squared distances of single samples |
# | | $J_y$ | (N K, n) | Jacobian of the outputs, through the softmax |

# %%
# %matplotlib inline
import itertools
import os

import numpy as np

import minigrad
from minigrad import Objective, experiments
from minigrad.curvature import fisher, gauss_newton
from minigrad.function_space import (
    classical_scaling,
    distances,
    embed,
    estimate,
    mean_square,
    mean_square_and_grad,
    parameter_square,
    root_mean_square,
    squared_distances,
    stress,
    travelled,
)
from minigrad.losses import Categorical, Gaussian
from minigrad.nets import FanIn, He, mlp
from minigrad.plot import BLACK, BLUE, GREY, ORANGE, VERMILLION, figure, label_ends, plain_numbers

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
minigrad.use("numpy")  # this chapter works on small host arrays, whatever backend is set
rng = np.random.default_rng(80)
close = np.testing.assert_allclose

# %% [markdown]
# ## 1. A distance between networks
#
# The inputs have a distribution $\mu$, and with it vector-valued functions have an inner product and a norm,
#
# $$ \langle f, g \rangle = \mathbb E_x\, f(x)^\top g(x), \qquad \lVert f - g \rVert^2 = \mathbb E_x |f(x) - g(x)|^2
#    \;\approx\; D_2 = \frac1N \sum_{i=1}^N |f(x_i) - g(x_i)|^2, \qquad D = \sqrt{D_2} . $$
#
# $D$ is a distance: $D(f, h) \le D(f, g) + D(g, h)$. Its square is not. That is the first difference between the two
# numbers that the papers write as one, and there are two more: as a penalty, $D$ has a gradient that does not vanish as
# the distance does (chapter 82), and in percent, $D$ is known twice as well as $D_2$ (section 2).
#
# Neither is "the expected $\ell^2$ distance between the outputs", as the introduction of the paper has it: that is
# $\mathbb E |f - g| \le D$, by Jensen's inequality.

# %%
net, N, K = mlp([6, 12, 4]), 500, 4
objective, x = Objective(net, Categorical()), rng.normal(size=(500, 6))
theta, phi, psi = (net.init(rng, "float64") for _ in range(3))
f, g, h = (objective.predict(point, x) for point in (theta, phi, psi))

D2 = sum(sum((f[i, k] - g[i, k]) ** 2 for k in range(K)) for i in range(N)) / N
close(mean_square(f, g), D2, rtol=1e-13)
close(root_mean_square(f, g), D2**0.5, rtol=1e-13)
assert root_mean_square(f, h) <= root_mean_square(f, g) + root_mean_square(g, h)
line = [np.full((1, 1), float(t)) for t in range(3)]
assert mean_square(line[0], line[2]) > mean_square(line[0], line[1]) + mean_square(line[1], line[2])
expected = np.linalg.norm(f - g, axis=1).mean()
print(f"D2 {D2:.4f}   D {D2**0.5:.4f}   E|f - g| {expected:.4f}")

# %% [markdown]
# How large can it get? Two probability vectors are at most $\sqrt2$ apart, where each is sure of another class:
# $|p - q|^2 = |p|^2 + |q|^2 - 2 p^\top q \le 2$. So $D$ of two classifiers lies between 0 and $\sqrt2$, not 1.

# %%
sure, otherwise = np.eye(K)[[0, 1, 2]], np.eye(K)[[1, 2, 0]]
close(root_mean_square(sure, otherwise), 2**0.5)
p = rng.dirichlet(0.1 * np.ones(K), size=(2, 1000))
assert squared_distances(p[0], p[1]).max() <= 2

# %% [markdown]
# ## 2. How many samples?
#
# $D_2$ is a mean of independent numbers $s_i$, so it is unbiased, and its interval is that of every mean. With
# $\mathrm{sd}$ the standard deviation of a single $s_i$,
#
# $$ D_2 \pm z\, \frac{\mathrm{sd}}{\sqrt N}, \qquad z = 1.96 \text{ for } 95\,\% . $$
#
# For the root there are two ways: take the root of both bounds, which is exact in so far as the first interval is, or
# go by the slope of the root (delta method):
#
# $$ D \pm z\, \frac{\mathrm{sd}}{2 D \sqrt N} . $$
#
# In percent that is half of the former. To know $D$ to a relative error $\epsilon$ takes
# $N = \left( \frac{z\, \mathrm{sd}}{2 \epsilon D_2} \right)^2$ samples, to know $D_2$ as well takes four times as many.
# And $D$ is biased: the root of a mean that scatters is too small in expectation, by $\mathrm{sd}^2 / (8 D^3 N)$.

# %%
many = rng.normal(size=(20_000 if QUICK else 100_000, 6))
f_many, g_many = (objective.predict(point, many) for point in (theta, phi))
truth = estimate(f_many, g_many)
s = squared_distances(f_many, g_many)
trials, n = 2000, 100
estimates, held = [], {"D2": 0, "root of the bounds": 0, "delta method": 0}
for _ in range(trials):
    i = rng.integers(0, len(s), n)
    found = estimate(f_many[i], g_many[i])
    low, high = found.interval()
    held["D2"] += low <= truth.mean_square <= high
    low, high = found.root_interval()
    held["root of the bounds"] += low <= truth.root_mean_square <= high
    half = 1.96 * found.deviation / (2 * found.root_mean_square * n**0.5)
    held["delta method"] += abs(found.root_mean_square - truth.root_mean_square) <= half
    estimates.append((found.root_mean_square, found.mean_square))
for name, count in held.items():
    print(f"{name:20} {count / trials:.1%} of the intervals from {n} samples hold the truth")
    assert abs(count / trials - 0.95) < 0.04
bias = -(truth.deviation**2) / (8 * truth.root_mean_square**3 * n)
roots, squares = np.array(estimates).T
bent = roots - (squares - truth.mean_square) / (2 * truth.root_mean_square)  # less the linear part, whose mean is 0
print(f"bias of the root: {bent.mean() - truth.root_mean_square:.5f}, promised {bias:.5f}")
close(bent.mean() - truth.root_mean_square, bias, rtol=0.3)
print(f"5 % of D2: {truth.samples_for(0.05)} samples; 5 % of D: {truth.samples_for(0.10)}")

# %% [markdown]
# What decides is $\mathrm{sd} / D_2$. It is small where all inputs contribute alike, and large where the functions
# differ on few inputs. Late in training they do: most images are sure in both nets, and few make up the distance. Then
# a small batch is likely to have met none of them; both $D_2$ and $\mathrm{sd}$ come out too small, together, and the
# interval is short where it should be long. Below, the functions differ on a share of the inputs only, by 1.

# %%
fig, ax = figure(height=2.8)
sizes = np.array([10, 20, 50, 100, 200, 500, 1000, 2000])
for share, colour in ((0.5, BLACK), (0.1, BLUE), (0.01, VERMILLION)):
    coverage = []
    for n in sizes:
        differ = rng.binomial(n, share, size=500 if QUICK else 4000)  # D2 = share, s is 0 or 1
        mean = differ / n
        half = 1.96 * np.sqrt(mean * (1 - mean) * n / (n - 1)) / np.sqrt(n)
        coverage.append(100 * np.mean(np.abs(mean - share) <= half))
    ax.plot(sizes, coverage, "o-", color=colour, ms=3.5, label=f"differ on {100 * share:g} %")
ax.axhline(95, color=GREY, linewidth=0.8)
ax.set(xscale="log", xlabel="samples", ylabel="% of intervals that hold", ylim=(0, 105))
ax.set_title("An interval from n samples is only as good as the rare ones that are among them", fontsize=9)
plain_numbers(ax.xaxis)
label_ends(ax)

# %% [markdown]
# ## 3. Close by: a metric
#
# Move the parameters by $d$. To first order the outputs move by $J_y d$, so that
#
# $$ D_2(\theta, \theta + d) = d^\top \Big( \frac1N J_y^\top J_y \Big) d + O(|d|^3) . $$
#
# Halve the step, and the remainder is an eighth:

# %%
J_y = np.array([objective.predict(theta + 1e-30j * e, x).imag.ravel() / 1e-30 for e in np.eye(theta.size)]).T
L2 = J_y.T @ J_y / N
d = rng.normal(size=theta.size)
d *= 0.2 / np.linalg.norm(d)
rest = [mean_square(f, objective.predict(theta + t * d, x)) - t**2 * d @ L2 @ d for t in (1, 0.5, 0.25, 0.125)]
print("remainder, from each to the next:", *(f"{b / a:.3f}" for a, b in itertools.pairwise(rest)))
close(rest[3] / rest[2], 1 / 8, rtol=0.2)

# %% [markdown]
# A familiar matrix: with the softmax inside of the net and squared error outside ($\beta = 1$), it is the Gauss-Newton
# matrix, and the Fisher information of a Gaussian with mean $y$. The L2 metric is a natural gradient's metric, of
# another output distribution than the one that is trained.


# %%
class Probabilities:
    """The net with its softmax, as a net."""

    layout = net.layout

    def apply(self, theta, x):
        return Categorical().predict(net.apply(theta, x))


outside = Objective(Probabilities(), Gaussian())
close(gauss_newton(outside, theta, (x, f)).dense(), L2, atol=1e-12)
close(fisher(outside, theta, x).dense(), L2, atol=1e-12)

# and D2's gradient is its derivative: 2 L2 d near theta
_, slope = mean_square_and_grad(objective, theta + 1e-6 * d, x, f)
close(slope, 2e-6 * L2 @ d, rtol=1e-3, atol=1e-12)

# %% [markdown]
# And the natural one? With logits $r$, $S = \operatorname{diag}(y) - y y^\top$ is both the softmax's Jacobian and the
# Fisher metric in $r$. So
#
# $$ F = \frac1N \sum_i J_{r,i}^\top\, S_i\, J_{r,i}, \qquad
#    \frac1N J_y^\top J_y = \frac1N \sum_i J_{r,i}^\top\, S_i^2\, J_{r,i} . $$
#
# $S$'s eigenvalues lie in $[0, \frac12]$, hence L2 $\preceq \frac12 F$. Where the net is undecided, $y = 1/K$, both are
# parallel: $S^2 = S / K$. Where it is sure, $S$ vanishes like $1 - y_{\max}$ and $S^2$ like its square: **the L2 metric
# has a far lower opinion of samples that are already sure.** A probability that falls from $10^{-3}$ to $10^{-6}$ is
# next to no distance, but a factor of a thousand in the likelihood.
#
# Also far off: $D_2 \le 2\, \mathrm{KL}$, by Pinsker's inequality.

# %%
F = fisher(objective, theta, x).dense()
assert np.linalg.eigvalsh(0.5 * F - L2)[0] > -1e-12
undecided = theta.copy()
net.layout.views(undecided)["layer1"][:] = 0.0
at_start = fisher(objective, undecided, x).dense(), fisher(outside, undecided, x).dense()
close(at_start[1], at_start[0] / K, atol=1e-14)
for first, second in ((theta, phi), (theta, 3 * phi), (theta, theta + d)):
    r, q = net.apply(first, x), net.apply(second, x)
    assert mean_square(Categorical().predict(r), Categorical().predict(q)) <= 2 * Categorical().kl(r, q)

y = np.linspace(0.001, 0.999, 300)
fig, ax = figure(height=2.8)
ax.plot(y, y * (1 - y), color=BLACK)
ax.plot(y, 2 * (y * (1 - y)) ** 2, color=VERMILLION)
ax.text(0.22, 0.2, "Fisher  $y (1 - y)$", ha="right", fontsize=8)
ax.text(0.5, 0.085, "L2  $2 y^2 (1 - y)^2$", ha="center", fontsize=8, color=VERMILLION)
ax.set(xlabel="probability $y$ of one of two classes", ylabel="metric in the logit")
ax.set_title("What a change of the logit counts: near certainty, L2 counts nothing", fontsize=9)

# %% [markdown]
# ## 4. Parameters are another matter
#
# The metric has directions in which parameters move and the function does not. Some are exact: exchange two hidden
# units, or multiply a relu unit's inputs by $c$ and its outputs by $1 / c$. As far apart as you like, and one function.

# %%
relu = mlp([6, 12, 4], "relu", init=He())
plain = Objective(relu, Categorical())
start = relu.init(rng, "float64")
far = start.copy()
views = relu.layout.views(far)
views["layer0"] *= 100.0
views["layer1"][:-1] /= 100.0
away = parameter_square(start, far) ** 0.5
same = root_mean_square(plain.predict(start, x), plain.predict(far, x))
print(f"parameters {away:.0f} apart, functions {same:.0e}")
assert away > 100 and same < 1e-12

# %% [markdown]
# Others are nearly so. The ratio $D / |\Delta\theta|$ of a small step is at most the root of L2's largest eigenvalue,
# and for a step in a random direction the root of the mean eigenvalue, which is much less:

# %%
lam = np.linalg.eigvalsh(L2)
steps = rng.normal(size=(200, theta.size))
steps *= 1e-3 / np.linalg.norm(steps, axis=1, keepdims=True)
ratios = [root_mean_square(f, objective.predict(theta + step, x)) / 1e-3 for step in steps]
top = np.linalg.eigh(L2)[1][:, -1]
best = root_mean_square(f, objective.predict(theta + 1e-3 * top, x)) / 1e-3
print(f"ratio: {best:.3f} along the top eigenvector, {np.sqrt(np.mean(np.square(ratios))):.3f} in random directions")
close(best, lam[-1] ** 0.5, rtol=1e-2)
close(np.mean(np.square(ratios)), lam.mean(), rtol=0.2)

# %% [markdown]
# **Where does training start?** "All three initializations begin at approximately the same point in function space.
# [...] rather than encoding entirely random functions, random sets of parameters lead on average to the same function."
# Behind a softmax that is a statement about the scale of the weights: small logits are all the uniform distribution.
# With larger weights every initialization is another function.

# %%
images = rng.random((300, 100))
variances = (0.1, 1 / 3, 1.0, 2.0, 4.0, 8.0, 16.0)
apart = []
for alpha in variances:
    wide = mlp([100, 50, 50, 10], "relu", init=FanIn(alpha))
    outputs = [Objective(wide, Categorical()).predict(wide.init(rng, "float64"), images) for _ in range(6)]
    D = distances(outputs)
    apart.append(D[np.triu_indices(6, 1)].mean())
fig, ax = figure(height=2.8)
ax.plot(variances, apart, "o-", color=BLACK, ms=3.5)
ax.axhline(2**0.5, color=GREY, linewidth=0.8)
for alpha, name in ((1 / 3, "PyTorch's default"), (2.0, "He")):
    where = (alpha, apart[variances.index(alpha)])
    ax.annotate(name, where, xytext=(8, -12), textcoords="offset points", fontsize=8)
ax.set(xscale="log", xlabel="variance of the weights, times inputs", ylabel="D between initializations")
ax.set_title("Random nets 100-50-50-10: one function or many, as the weights' variance has it", fontsize=9)
plain_numbers(ax.xaxis)
assert apart[1] < 0.1 < 0.5 < apart[-1]

# %% [markdown]
# ## 5. Paths
#
# Of a path through either space, three things can be measured: the distance from its start, the distance travelled, and
# all distances between its points. The paper sums *squared* distances of consecutive points (appendix C), since a
# random walk has a sum that grows linearly; its distance from the start then grows as the root of time.

# %%
walk = np.cumsum(rng.normal(size=(400, 50)), axis=0)
total = np.array(travelled(walk, parameter_square))
close(total[-1], np.sum(np.diff(walk, axis=0) ** 2), rtol=1e-12)
away = np.array([parameter_square(walk[0], point) for point in walk])
fig, ax = figure(height=2.6)
ax.plot(total, color=BLACK, label="travelled")
ax.plot(away, color=ORANGE, label="from the start")
ax.set(xlabel="step of a random walk in 50 dimensions", ylabel="squared distance")
ax.set_title("A random walk in many dimensions hardly ever turns back", fontsize=9)
label_ends(ax)

# %% [markdown]
# ### The picture
#
# Figure 1 of the paper puts all points of several paths in a plane so that their distances are as true as can be:
# multidimensional scaling. It minimizes the *stress*,
#
# $$ \sigma(X) = \sum_{i<j} \big( |x_i - x_j| - \delta_{ij} \big)^2 . $$
#
# SMACOF does so by majorization: at the present points $Z$, Cauchy-Schwarz gives
# $|x_i - x_j|\, |z_i - z_j| \ge (x_i - x_j)^\top (z_i - z_j)$, so that $\sigma$ has a quadratic upper bound that
# touches it at $X = Z$. The bound's minimum is
#
# $$ X = \frac1T B(Z) Z, \qquad B_{ij} = -\frac{\delta_{ij}}{|z_i - z_j|}, \quad B_{ii} = -\sum_{j \ne i} B_{ij} , $$
#
# where $\sigma$ cannot be larger than at $Z$.


# %%
def between(X):
    return np.linalg.norm(X[:, None] - X[None], axis=2)


def smacof(D, X, iterations):
    """Points and the stress on the way."""
    path = []
    for _ in range(iterations):
        d = between(X) + np.eye(len(X))
        B = -D / d
        B -= np.diag(B.sum(axis=1))
        path.append(np.triu((between(X) - D) ** 2).sum())
        X = B @ X / len(X)
    return X, path


cloud = rng.normal(size=(30, 2))
X, path = smacof(between(cloud), rng.normal(size=(30, 2)), 300)
assert all(after <= before + 1e-12 for before, after in itertools.pairwise(path))
close(between(classical_scaling(between(cloud))), between(cloud), atol=1e-10)  # of a plane: exact, without iterating

paths = np.cumsum(rng.normal(size=(3, 20, 8)), axis=1).reshape(60, 8)  # not of a plane
D = distances(list(paths), parameter_square)
close(D, between(paths), rtol=1e-12)
picture = embed(D, rng=np.random.default_rng(0), starts=3)
ours = min((smacof(D, np.random.default_rng(seed).normal(size=(60, 2)), 1500)[0] for seed in range(3)),
           key=lambda X: stress(D, X))  # fmt: skip
print(f"stress: classical scaling {stress(D, classical_scaling(D)):.4f}, ours {stress(D, ours):.4f}, ", end="")
print(f"the library's {picture.stress:.4f}")
assert picture.stress <= stress(D, ours) * (1 + 1e-6)

# %% [markdown]
# The stress that is left over (relative to the distances, as a root) says how much to believe. Points that are all
# equally far from each other, as independent initializations are, cannot be drawn in a plane; what comes out has a
# shape that is not in the data.

# %%
equal = 1.0 - np.eye(40)
shown = embed(equal, rng=np.random.default_rng(1), starts=3)
fig, axes = figure(1, 2, height=3.0)
axes[0].plot(*shown.points.T, "o", color=BLACK, ms=3.5)
axes[0].set_title(f"40 points, all at distance 1: stress {shown.stress:.2f}", fontsize=9)
for part, colour in zip(picture.points.reshape(3, 20, 2), (BLUE, VERMILLION, ORANGE), strict=True):
    axes[1].plot(*part.T, "o-", color=colour, ms=3, linewidth=0.8)
axes[1].set_title(f"three walks in 8 dimensions: stress {picture.stress:.2f}", fontsize=9)
for ax in axes:
    ax.set_aspect("equal", adjustable="datalim")

# %% [markdown]
# ## 6. What the paper claims, and what comes out here
#
# The experiments are `trajectories` (figure 1), `distance-ratio` (figures 2, A.1, A.3, A.5) and `distance-estimator`
# (figures 3, A.2), on MNIST with a perceptron where the paper has convolutional nets on CIFAR-10. Each computes a
# number for each claim, and its caption says whether the claim held. `python -m minigrad run NAME --full` makes the
# records; where one comes with minigrad it is shown below, else a run of a few seconds (its caption says how short, and
# then the verdicts mean little).


# %%
_ = experiments.show("trajectories")

# %%
if not QUICK:
    _ = experiments.show("distance-ratio")

# %%
if not QUICK:
    _ = experiments.show("distance-estimator")

# %% [markdown]
# ## 7. What is wrong or loose in the paper as printed
#
# - The sums run from $i = 0$ to $N$: $N + 1$ terms, divided by $N$ (section 2, equation 2, algorithm 2). A factor
#   $1 + 1/N$ at equal terms.
# - "$| \cdot |^2$ refers to the 2-norm": it is the square of the 2-norm, as the norm's definition needs.
# - $\langle f, g \rangle = \int f(x) g(x)\, d\mu$ is for scalar functions; for vectors, $f(x)^\top g(x)$.
# - "The expected $\ell^2$ distance between the outputs" (introduction): that is $\mathbb E |f - g|$; $\lVert f - g
#   \rVert$ is the root of the expected square (section 1 has both).
# - $\lVert f - g \rVert$ is estimated without a root in section 2 (as $\lVert f - g \rVert^2$) and in equation 2, with
#   it in equation 1 and the algorithms; "the $L^2$ distance" of the figures may be either.
# - "Possible values range from 0 to 1" (figure 2): to $\sqrt2$, or to 2 for the square (section 1).
# - The bounds "can be obtained from the standard deviation of the $L^2$ distance on single examples" (figure 3): for
#   $D_2$, of the *squared* distances; for $D$ with $1 / (2 D)$ (section 2). From $\mathrm{sd}(|f - g|) / \sqrt N$ would
#   come the interval of $\mathbb E |f - g|$. Numbers:

# %%
wrong = np.sqrt(s).std(ddof=1) / 10  # of 100 samples
right = truth.deviation / (2 * truth.root_mean_square * 10)
measured = np.std(roots)
print(f"standard deviation of D from 100 samples: {measured:.4f}; right {right:.4f}, from single distances {wrong:.4f}")
close(measured, right, rtol=0.1)
print(f"sums of N + 1 terms over N: off by {1 / N:.1%} at N = {N}")

# %% [markdown]
# ## 8. Exercises
#
# 1. Two classifiers agree on a share $1 - a$ of the inputs and on the others are sure of different classes. How many
#    samples bound $D$ to 5 % with 95 % confidence? `check_exercise_1(lambda a: N)`, to one percent.
# 2. What is the largest $D_2$ of two sigmoid (Bernoulli) nets with $K$ outputs? `check_exercise_2(lambda K: value)`.
# 3. $T$ points, all at distance 1, are put in a plane, evenly on a circle. Which radius has the least stress?
#    `check_exercise_3(lambda T: radius)`. Hint: at the best scale, $\sum d_{ij}^2 = \sum d_{ij} \delta_{ij}$.


# %%
def check_exercise_1(count):
    for a in (0.5, 0.1, 0.01):
        s = np.zeros(100_000)
        s[: int(a * len(s))] = 2.0
        y = np.sqrt(s)[:, None]
        assert np.isclose(count(a), estimate(y, 0 * y).samples_for(0.10), rtol=0.01), "sd / D2 is sqrt((1 - a) / a)"
    print("right")


def check_exercise_2(largest):
    for outputs in (1, 3):
        assert np.isclose(largest(outputs), mean_square(np.ones((5, outputs)), np.zeros((5, outputs)))), "each gives 1"
    print("right")


def check_exercise_3(radius):
    for T in (4, 9):
        angle = 2 * np.pi * np.arange(T) / T
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        D, best = 1.0 - np.eye(T), stress(1.0 - np.eye(T), radius(T) * circle)
        assert best <= min(stress(D, r * circle) for r in np.linspace(0.2, 1.2, 1001)) + 1e-9, "sums over all pairs"
    print("right")


# %% tags=["hide-input"]
# The checkers are checked too, with a right and a wrong answer each.
chords = lambda T: 2 * np.sin(np.pi * np.arange(1, T) / T)
check_exercise_1(lambda a: (1.96 / 0.10) ** 2 * (1 - a) / a)
check_exercise_2(lambda K: K)
check_exercise_3(lambda T: chords(T).sum() / np.sum(chords(T) ** 2))
for checker, wrong_answer in (
    (check_exercise_1, lambda a: (1.96 / 0.05) ** 2 * (1 - a) / a),
    (check_exercise_2, lambda K: 2),
    (check_exercise_3, lambda T: 0.5),
):
    try:
        checker(wrong_answer)
    except AssertionError:
        continue
    raise RuntimeError("a wrong answer was taken for right")
