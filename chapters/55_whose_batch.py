# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Whose batch?
#
# **The question.** A metric is an expectation over inputs, a gradient one over inputs and targets. On whose samples
# should each be measured: the same, others, unlabeled ones? And what changes if targets enter the metric, as in TONGA?
#
# **The papers.** Pascanu & Bengio, section 3 (the metric's own distribution $\tilde q$), 4.1 (Amari's and Le Roux's
# natural gradient), 5 (overfitting), 6 (the order of the data), 8.5 (experiments). TONGA is by Le Roux, Manzagol &
# Bengio (2008).
#
# | in the papers | here | shape | what it is |
# |---|---|---|---|
# | $\tilde q(x)$ | `metric_batch` | (N, in) | the samples on which the metric is measured |
# | $\mathbf G$ | `G` | (n, n) | exact Fisher information |
# | $\mathbf g$ | rows of `P` | (n,) each | one sample's gradient |
# | $\langle \mathbf g \rangle$ | `g` | (n,) | the batch's gradient, their mean |
# | $\mathbf C$ | `C` | (n, n) | covariance of the samples' gradients, centred (eq. 12) |
# | $\mathbf U$ | `U` | (n, n) | the same, uncentred (eq. 13): the empirical Fisher |
# | $\lambda$ | `lam` | number | damping |

# %%
# %matplotlib inline
import os
import tempfile
from pathlib import Path

import numpy as np

import minigrad
from minigrad import experiments
from minigrad.curvature import fisher, gradient_covariance, per_sample_gradients
from minigrad.losses import Categorical
from minigrad.nets import mlp
from minigrad.optimizers import TONGA, FixedDamping, NaturalGradient, Unlabeled
from minigrad.plot import BLACK, BLUE, GREY, ORANGE, VERMILLION, figure, label_ends
from minigrad.training import records

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
minigrad.use("numpy")  # this chapter works on small host arrays, whatever backend is set
rng = np.random.default_rng(55)
close = np.testing.assert_allclose

# %% [markdown]
# ## 1. A metric needs no targets
#
# Natural gradient (eq. 8) is $\mathbf G^{-1} \nabla \mathcal L$ with
#
# $$ \mathbf G = \mathbb E_{x \sim \tilde q}\, \mathbb E_{t \sim p_\theta(t \mid x)}
#    \Big[ \tfrac{\partial \log p_\theta}{\partial \theta}
#          \tfrac{\partial \log p_\theta}{\partial \theta}^\top \Big]. $$
#
# The targets are the model's own. So $\tilde q$ may be any set of inputs: unlabeled ones are as good as labelled ones,
# and there are more of them. The toy of this chapter: a teacher network labels points in the plane, with noise; few
# labelled points, many others.

# %%
teacher, net = mlp([2, 6, 3]), mlp([2, 10, 3])
objective = minigrad.Objective(net, Categorical())
truth = 4 * teacher.init(np.random.default_rng(4), dtype="float64")


def draw(n, rng):
    """n inputs in the plane, labels drawn from the teacher's distribution."""
    x = rng.normal(size=(n, 2))
    return x, Categorical().sample(teacher.apply(truth, x), rng)


few, held_out, everything = (draw(n, rng) for n in (60, 3000, 12_000))
theta = net.init(rng, dtype="float64")
loss = lambda theta, data: objective.value(theta, data)
optimizer = NaturalGradient(damping=FixedDamping(0.05))
state = optimizer.init(objective, theta)
for _ in range(3):  # a few steps, so that the model is not as at its start
    theta, state, log = optimizer.step(theta, state, objective, few, None, rng)
print(f"loss on the 60: {loss(theta, few):.3f}; held out: {loss(theta, held_out):.3f}")

G_all = fisher(objective, theta, everything[0]).dense()
swapped = (everything[0], rng.permutation(everything[1]))
close(fisher(objective, theta, swapped[0]).dense(), G_all)  # trivially: no target was given
U_all, U_swapped = (gradient_covariance(objective, theta, data).dense() for data in (everything, swapped))
print(f"wrong labels change the empirical Fisher by {np.linalg.norm(U_all - U_swapped) / np.linalg.norm(U_all):.0%}")

# %% [markdown]
# How good is a metric from $N$ samples? Its error falls as $1 / \sqrt N$ like any mean's, but what matters is what
# $\mathbf G^{-1}$ makes of it: a direction that these samples do not show looks free, and the step runs along it.

# %%
g = objective.value_and_grad(theta, few)[1]
sizes, repeats = (30, 100, 300, 1000), 4 if QUICK else 30
errors, lengths = [], []
right = np.linalg.solve(G_all + 1e-3 * np.eye(theta.size), g)
for n in sizes:
    measured = [fisher(objective, theta, draw(n, rng)[0]).dense() for _ in range(repeats)]
    errors.append(np.mean([np.linalg.norm(G - G_all) / np.linalg.norm(G_all) for G in measured]))
    steps = [np.linalg.solve(G + 1e-3 * np.eye(theta.size), g) for G in measured]
    lengths.append(np.mean([np.sqrt(d @ G_all @ d) for d in steps]) / np.sqrt(right @ G_all @ right))
fig, axes = figure(1, 2, height=2.8)
axes[0].loglog(sizes, errors, "o-", color=BLUE)
axes[0].loglog(sizes, errors[0] * np.sqrt(sizes[0] / np.array(sizes)), ":", color=BLACK, label="1 / sqrt N")
axes[0].set(xlabel="samples of the metric", ylabel="relative error of the metric")
axes[1].semilogx(sizes, lengths, "o-", color=VERMILLION)
axes[1].axhline(1, color=BLACK, lw=0.8, ls=":")
axes[1].set(xlabel="samples of the metric", ylabel="true length of the step / ideal")
_ = fig.suptitle("The fewer samples measure the metric, the farther the step really goes", fontsize=9)
slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
print(f"the metric's error falls as N^{slope:.2f}; the step is {lengths[0]:.1f} times too long at N = 30")
assert -0.65 < slope < -0.35 and lengths[0] > 1.2

# %% [markdown]
# ## 2. The same batch, another, unlabeled
#
# With the metric on the gradient's own batch, the quadratic model $g^\top d + \tfrac12 d^\top \mathbf G d$ is fitted to
# the batch, and its promise is kept there, not elsewhere. With another small batch, the gradient may point where the
# metric saw nothing: only the damping holds the step back. With many unlabeled samples the promise is about the
# population. One step from the same place, gradients of 60 samples, many redraws:

# %%
dampings = np.geomspace(1e-3, 1, 7)
changes = {name: np.zeros((repeats, len(dampings))) for name in ("same batch", "different batch", "unlabeled")}
on_batch = np.zeros((repeats, len(dampings)))
for i in range(repeats):
    batch = draw(60, rng)
    g = objective.value_and_grad(theta, batch)[1]
    inputs = {"same batch": batch[0], "different batch": draw(60, rng)[0], "unlabeled": draw(2000, rng)[0]}
    for name, x in inputs.items():
        G = fisher(objective, theta, x).dense()
        for j, lam in enumerate(dampings):
            d = np.linalg.solve(G + lam * np.eye(theta.size), -g)
            changes[name][i, j] = loss(theta + d, held_out) - loss(theta, held_out)
            if name == "same batch":
                on_batch[i, j] = loss(theta + d, batch) - loss(theta, batch)
fig, ax = figure(height=2.9)
for (name, change), color in zip(changes.items(), (BLUE, ORANGE, VERMILLION), strict=True):
    ax.semilogx(dampings, np.median(change, axis=0), "o-", color=color, label=f"held out, {name}")
ax.semilogx(dampings, np.median(on_batch, axis=0), "s:", color=GREY, label="on the batch, same batch")
ax.axhline(0, color=BLACK, lw=0.8)
ax.set(xlabel="damping", ylabel="change of the loss in one step")
ax.set_title(f"Median of {repeats} batches of 60: what a step does on its batch, and elsewhere", fontsize=9)
_ = ax.legend(frameon=False, fontsize=8)

# %% [markdown]
# With much damping it does not matter who measures. With little, another batch of 60 is the worst choice here: the
# gradient has directions which that metric calls free, while it lies in the range of its own (chapter 50, section 5).
# The metric of 2,000 samples does not beat the gradient's own in this toy: it knows the curvature better, but a step
# from the noisy gradient of 60 samples gains nothing from that.
#
# The library has the three as one argument.

# %%
lam = 0.05
batch, unlabeled = draw(60, rng), draw(2000, rng)[0]
fetch = lambda n: draw(n, np.random.default_rng(7))
for source, x in ((None, batch[0]), (60, fetch(60)[0]), (Unlabeled(unlabeled, 2000), unlabeled)):
    optimizer = NaturalGradient(damping=FixedDamping(lam), metric_batch=source, warm_start=0.0)
    moved, _, log = optimizer.step(theta, optimizer.init(objective, theta), objective, batch, fetch, rng)
    g = objective.value_and_grad(theta, batch)[1]
    d = np.linalg.solve(fisher(objective, theta, x).dense() + lam * np.eye(theta.size), -g)
    close(moved, theta + d, rtol=0.05, atol=0.05)  # the optimizer's solve stops where progress ends

# %% [markdown]
# The paper's own experiment (figure 4, table 1) has 1,500 hidden units and batches of 2,500. `python -m minigrad run
# metric-batch --full` repeats it on MNIST and on Fashion-MNIST; its record comes with the code.

# %%
with tempfile.TemporaryDirectory() as folder:
    record = records.load(experiments.committed("metric-batch"))
    experiments.find("metric-batch").plot(record, Path(folder))
for data, found in record["results"]["claims"].items():
    print(data)
    for claim, (held, seeds) in found.items():
        print(f"  {claim}: in {held} of {seeds} seeds")
print(f"recorded {record['date']}, {record['machine']['cpu']}")

# %% [markdown]
# On MNIST the paper's order of the three metrics comes out with every seed, unlabeled before different before same
# batch, but by 0.16 % at most, less than the standard error of one test error (0.26 %). SGD is ahead of all of them
# with two of three seeds, and TONGA fits the training images worst, not best. On Fashion-MNIST the unlabeled metric is
# ahead by 0.6 % and more with every seed, and it is also the one that has fitted least (cross-entropy 0.33): its
# damping stays large, and it stops early, so to speak. A different batch is there no better than the same. SGD's
# learning rate, tuned on MNIST, is too large for Fashion-MNIST, where its cross-entropy ends above 2.
#
# The learning rates and dampings were tuned little: two trials of ten updates a method, the paper's own first among
# them.

# %% [markdown]
# ## 3. TONGA: where the samples agree
#
# Le Roux asks something else: the mean gradient $\mu$ over the population is unknown; the batch's gradient $g$ is a
# measurement with covariance $C / N$. With a prior $\mu \sim \mathcal N(0, \sigma^2 I)$ the posterior mean is
#
# $$ \mathbb E[\mu \mid g] = \big(I + \tfrac{1}{N \sigma^2} C\big)^{-1} g = \lambda\, (C + \lambda I)^{-1} g,
#    \qquad \lambda = N \sigma^2, $$
#
# so a damped inverse covariance is what one *should* believe of the gradient: trust it where the samples agree. A check
# by brute force: draw $\mu$ from the prior, weigh each draw by how well it explains $g$.

# %%
C2, g2, N2, sigma = np.array([[2.0, 0.8], [0.8, 0.6]]), np.array([0.5, -0.3]), 10, 0.4
posterior = np.linalg.solve(np.eye(2) + C2 / (N2 * sigma**2), g2)
mu = sigma * rng.normal(size=(40_000 if QUICK else 400_000, 2))
weight = np.exp(-0.5 * N2 * np.einsum("ij,jk,ik->i", g2 - mu, np.linalg.inv(C2), g2 - mu))
sampled = (weight[:, None] * mu).sum(axis=0) / weight.sum()
print("posterior mean", posterior, " by weighted draws", sampled)
close(sampled, posterior, atol=0.02)
close(posterior, N2 * sigma**2 * np.linalg.solve(C2 + N2 * sigma**2 * np.eye(2), g2))

# %% [markdown]
# The paper says that the uncentred $U = C + g g^\top$ is "equivalent up to a constant" (4.1). On the gradient's own
# batch that is exact, at any damping (Sherman & Morrison):
#
# $$ (U + \lambda I)^{-1} g = \frac{(C + \lambda I)^{-1} g}{1 + g^\top (C + \lambda I)^{-1} g} . $$

# %%
P = per_sample_gradients(objective, theta, batch).dense()
g, I = P.mean(axis=0), np.eye(theta.size)
U = P.T @ P / len(P)
C = np.cov(P.T, bias=True)
by_C, by_U = np.linalg.solve(C + lam * I, g), np.linalg.solve(U + lam * I, g)
close(by_U, by_C / (1 + g @ by_C), rtol=1e-9)
close(gradient_covariance(objective, theta, batch, centred=True).dense(), C, atol=1e-14)
for metric, d in (("covariance", by_C), ("empirical", by_U)):
    optimizer = TONGA(metric=metric, damping=FixedDamping(lam))
    close(optimizer.step(theta, optimizer.init(objective, theta), objective, batch, None, rng)[0], theta - d, atol=1e-9)
print(f"the two steps' lengths differ by a factor of {np.linalg.norm(by_C) / np.linalg.norm(by_U):.3f}")

# %% [markdown]
# But $U$ is not $\mathbf G$. It uses the data's targets, and has rank $N$ at most where $\mathbf G$ has $N (O - 1)$.
# Near a good fit the residuals vanish, and $U$ with them: then TONGA's steps grow as natural gradient's do not. How far
# apart are the two directions?

# %%
lam, optimizer = 1e-3, NaturalGradient(damping=FixedDamping(0.05))
path, angles, norms = theta.copy(), [], []
state = optimizer.init(objective, path)
cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
for _ in range(12):
    g = objective.value_and_grad(path, few)[1]
    G, U = fisher(objective, path, few[0]).dense(), gradient_covariance(objective, path, few).dense()
    angles.append(cosine(np.linalg.solve(G + lam * I, g), np.linalg.solve(U + lam * I, g)))
    norms.append((np.trace(G), np.trace(U)))
    path, state, _ = optimizer.step(path, state, objective, few, None, rng)
fig, axes = figure(1, 2, height=2.8)
axes[0].plot(angles, "o-", color=BLUE)
axes[0].set(xlabel="updates", ylabel="cosine of the two directions", ylim=(0, 1.02))
for k, (name, color) in enumerate((("exact Fisher", VERMILLION), ("uncentred covariance", ORANGE))):
    axes[1].plot([pair[k] for pair in norms], "o-", color=color, label=name)
axes[1].set(xlabel="updates", ylabel="trace of the metric", ylim=(0, None))
label_ends(axes[1])
_ = fig.suptitle("Natural gradient and TONGA on the same 60 samples", fontsize=9)

# %% [markdown]
# ## 4. The order of the data
#
# An online learner sees every sample once. Section 6 asks how much the trained net depends on *when* a sample came:
# draw a tenth of the stream's first half anew, train again, and measure how much the outputs vary (figure 3). The paper
# finds that early samples matter most, and that natural gradient's net varies less than SGD's.
#
# A linear model shows what to expect. Under online gradient descent with rate $\eta$ and curvature $h$, what a sample
# leaves behind shrinks by $1 - \eta h$ with every later step. So in directions where $\eta h$ is not small, it is the
# *late* samples that count; early ones count in directions that later data hardly touch.

# %%
eta, h, T = 0.1, 1.0, 200


def online(noise):
    """w after T steps of online least squares, w <- w - eta h (w - noise_k)."""
    w = 0.0
    for e in noise:
        w -= eta * h * (w - e)
    return w


effect = [online(np.eye(T)[k]) for k in range(T)]  # of a unit change in sample k
close(effect, eta * h * (1 - eta * h) ** (T - 1 - np.arange(T)), rtol=1e-9)

# %% [markdown]
# The paper's experiment at a sixty-fourth of its length is `python -m minigrad run order-robustness --full`; its record
# comes with the code. All methods are brought to the same validation error, because who moves less also varies less.

# %%
with tempfile.TemporaryDirectory() as folder:
    record = records.load(experiments.committed("order-robustness"))
    experiments.find("order-robustness").plot(record, Path(folder))
for name, found in record["results"]["claims"].items():
    print(f"{name:30} first/last segment {found['first / last']:.2f}: early more? {found['early matters more']}")
    if "ratio" in found:
        print(f"{'':30} {found['ratio']:.2f} times SGD's variance: less? {found['varies less']}")
print(f"recorded {record['date']}, {record['machine']['cpu']}, seed {record['seeds'][0]}")

# %% [markdown]
# Neither finding of the paper comes out, at this length and with one seed. The last segment moves the outputs more than
# the first, by a half to three quarters, as the linear model says; the first is a little above the second, and that is
# all that is left of "early matters". Natural gradient's net varies as much as SGD's at damping 3, and more at 0.1.

# %% [markdown]
# ## 5. What is different in the paper as printed
#
# - Figure 3's findings, as far as 512,000 samples of another stream can tell (the paper had 32.7 million of NISTP): see
#   above.
# - Section 4.1 calls the uncentred covariance equivalent "up to a constant". The directions are parallel, but the
#   factor $1 + g^\top (C + \lambda I)^{-1} g$ is another in every step, so no constant learning rate makes up for it:

# %%
path, factors = net.init(rng, dtype="float64"), []
optimizer = TONGA(lr=2.0, metric="empirical", damping=FixedDamping(0.05))
for _ in range(8):
    P = per_sample_gradients(objective, path, few).dense()
    g, C = P.mean(axis=0), np.cov(P.T, bias=True)
    factors.append(1 + g @ np.linalg.solve(C + 0.05 * I, g))
    path = optimizer.step(path, optimizer.init(objective, path), objective, few, None, rng)[0]
print("the factor along eight steps of TONGA:", np.array(factors).round(2))
assert max(factors) > 1.2 * min(factors)

# %% [markdown]
# - Table 1 compares test errors without intervals. On 10,000 test images, an error of 5 % is known to its standard
#   error of 0.2 %, and the table's natural gradients lie between 4.63 and 4.91 %. How many labelled images there were,
#   the paper does not say; `metric-batch` takes 5,000 and counts seed by seed.

# %%
print(f"standard error: {100 * np.sqrt(0.05 * 0.95 / 10_000):.2f} %; the table's natural gradients differ by 0.28 %")

# %% [markdown]
# ## 6. Exercises
#
# 1. A metric is measured on $N$ of $M$ unlabeled samples. By which factor must $N$ grow to halve its error?
#    `check_exercise_1(factor)`.
# 2. Le Roux's posterior mean with prior $\mathcal N(0, \sigma^2 I)$: what does it tend to as the batch grows, at fixed
#    $C$? Give the limit as a function of $g$ and $C$: `check_exercise_2(limit)`.


# %%
def check_exercise_1(factor):
    assert np.isclose(factor, 4), "an error of a mean falls as 1 / sqrt N"
    print("right")


def check_exercise_2(limit):
    many = 1e9
    assert np.allclose(limit(g2, C2), np.linalg.solve(np.eye(2) + C2 / (many * sigma**2), g2)), "no doubt is left"
    print("right")


# %% tags=["hide-input"]
# The checkers are checked too, with a right and a wrong answer each.
check_exercise_1(4)
check_exercise_2(lambda g, C: g)
for checker, wrong in ((check_exercise_1, 2), (check_exercise_2, lambda g, C: np.linalg.solve(C, g))):
    try:
        checker(wrong)
    except AssertionError:
        continue
    raise RuntimeError("a wrong answer was taken for right")
