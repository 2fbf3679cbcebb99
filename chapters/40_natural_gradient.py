# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Natural gradient: steps of equal change
#
# **The question.** Gradient descent takes the direction in which the loss falls fastest for a step of given length. But
# length in which units? If parameters are only names for functions, a step should be measured by how much it changes
# the *function*.
#
# **The papers.** Amari's natural gradient, in the derivation of Pascanu & Bengio, which needs no information geometry
# (sections 2-4, appendix 8.3); George (3.1.3, 3.2) with damping; Martens (2010) for how the damping is adapted.
#
# | in the papers | here | shape | what it is |
# |---|---|---|---|
# | $\Delta\theta$ | `d` | (n,) | a step |
# | $\mathbf G$ (eq. 1, 8); George: $\mathbf F$ | `F` | (n, n) | exact Fisher information (chapter 30) |
# | $KL(p_\theta \Vert p_{\theta + \Delta\theta})$ | `loss.kl(r, s)` | number | divergence, mean over inputs |
# | constant (eq. 2, 7) | `eps` | number | how far a step goes, in nats |
# | $\eta$; $\gamma$ in algorithm 1 | `lr` | number | learning rate |
# | $\lambda$ of eq. 5 | `multiplier` | number | of the constraint; not the damping |
# | George: $\epsilon$ | `lam` | number | damping $\lambda$, as everywhere in this book |
# | $\rho$ (eq. 30) | `rho` | number | what a step gave, divided by what the model promised |

# %%
# %matplotlib inline
import itertools
import os

import numpy as np

import minigrad
from minigrad.autodiff import ops
from minigrad.curvature import fisher, gradient_covariance, hessian, per_sample_gradients
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import Layout, mlp
from minigrad.optimizers import ConjugateGradient, FixedDamping, NaturalGradient
from minigrad.plot import BLACK, BLUE, GREY, VERMILLION, figure, label_ends, look, mosaic

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
minigrad.use("numpy")  # this chapter works on small host arrays, whatever backend is set
rng = np.random.default_rng(40)
close, norm, solve = np.testing.assert_allclose, np.linalg.norm, np.linalg.solve

# %% [markdown]
# ## 1. How far apart are two networks?
#
# As far as the distributions that they give to the targets, in the mean over inputs. The expansion of the divergence
# (eq. 3) begins with $\mathbb E_t[s]$ for the score $s = \frac{\partial \log p_\theta}{\partial \theta}$, and that is
# 0: probabilities keep their sum (footnote 2). What follows is the Fisher matrix (eq. 4),
#
# $$ \mathbb E_t[s] = 0, \qquad
#    \mathrm{KL}(p_\theta \Vert p_{\theta + d}) = \tfrac12\, d^\top F d + O(\lVert d \rVert^3)
#    = \mathrm{KL}(p_{\theta + d} \Vert p_\theta). $$
#
# A divergence is no distance: its two directions differ. But not in this term. If the equation is right, then half the
# step leaves an eighth of the remainder, both ways.

# %%
net, x = mlp([3, 4, 3], activation="tanh"), rng.normal(size=(20, 3))
theta = net.init(rng, dtype="float64")
soft = minigrad.Objective(net, Categorical())
y = soft.predict(theta, x)
scores = [per_sample_gradients(soft, theta, (x, np.full(20, k))).dense() for k in range(3)]
close(sum(y[:, [k]] * scores[k] for k in range(3)), 0, atol=1e-15)

d = rng.normal(size=theta.size)
print("             KL / (d'Fd / 2), both ways      half the step: remainder divided by")
for loss in (Gaussian(0.5), Bernoulli(), Categorical()):
    F = fisher(minigrad.Objective(net, loss), theta, x)
    rests, r = [], net.apply(theta, x)
    for e in (2e-2, 1e-2):
        s, model = net.apply(theta + e * d, x), e**2 / 2 * d @ (F @ d)
        both = np.array([loss.kl(r, s), loss.kl(s, r)])
        rests.append(both - model)
    print(f"{type(loss).__name__:12} {both / model}   {rests[0] / rests[1]}")
    assert np.all(abs(np.log2(rests[0] / rests[1]) - 3) < 0.25)

# %% [markdown]
# ## 2. The best step of a given size
#
# Of all steps that change the distribution by $\varepsilon$, which lowers the loss most (eq. 2, 7)? To first order,
#
# $$ \min_d\; g^\top d \quad \text{subject to} \quad \tfrac12\, d^\top F d = \varepsilon. $$
#
# At the best step the Lagrangian $g^\top d + \mu (\frac12 d^\top F d - \varepsilon)$ is stationary, that is its
# *gradient* is zero, $g + \mu F d = 0$; and the constraint gives the multiplier:
#
# $$ d = -\frac1\mu F^{-1} g, \qquad \mu = \sqrt{\frac{g^\top F^{-1} g}{2 \varepsilon}}. $$
#
# The direction is the natural gradient (eq. 1), whatever $\varepsilon$. Eq. 5 sets the Lagrangian itself to zero, and
# reports the factor $\frac2\mu$: a step twice too long, of four times the divergence that was asked for.

# %%
small, inputs = mlp([2, 3, 1], activation="tanh"), 1.5 * rng.normal(size=(200, 2))
binary = minigrad.Objective(small, Bernoulli())
teacher = 2 * small.init(np.random.default_rng(2), dtype="float64")
batch = (inputs, Bernoulli().sample(small.apply(teacher, inputs), rng))
start = teacher + 0.2 * rng.normal(size=teacher.size)
g, F, eps = binary.value_and_grad(start, batch)[1], fisher(binary, start, inputs).dense(), 1e-3

natural = solve(F, g)
multiplier = np.sqrt(g @ natural / (2 * eps))
d = -natural / multiplier
close(d @ F @ d / 2, eps)
others = rng.normal(size=(10_000, g.size))  # none of ten thousand other steps of this size does better
others *= np.sqrt(2 * eps / np.einsum("ij,jk,ik->i", others, F, others))[:, None]
assert (others @ g).min() > d @ g
printed = -2 * natural / multiplier
print(f"asked for {eps} nats; got {d @ F @ d / 2:.4f}, with eq. 5's factor {printed @ F @ printed / 2:.4f}")

# %% [markdown]
# That was for an infinitesimal step. To see how it comes about we take a problem of two parameters, the paper's
# auto-encoder with one hidden unit (its figure 1), which returns as our experiment:
#
# $$ y = w\, \sigma(w x + b) - b, \qquad \mathcal L = \tfrac1N \sum_i (x_i - y_i)^2, $$
#
# a Gaussian with $\beta^2 = \frac12$. Its inputs are not printed; ours are eleven numbers in [-1/2, 1/2].


# %%
class OneUnit:
    """y = w sigmoid(w x + b) - b; all that a network needs is a layout and a function."""

    layout = Layout({"w": (1,), "b": (1,)})

    def apply(self, theta, x):
        p = self.layout.views(theta)
        return p["w"] * ops.sigmoid(p["w"] * x + p["b"]) - p["b"]


one = minigrad.Objective(OneUnit(), Gaussian(beta=0.5**0.5))
points = np.linspace(-0.5, 0.5, 11)[:, None]
data = (points, points)


def everywhere(W, B):
    """Outputs (..., N) for arrays of w and b, at once: for contours."""
    return W[..., None] / (1 + np.exp(-W[..., None] * points[:, 0] - B[..., None])) - B[..., None]


error = lambda W, B: np.mean((everywhere(W, B) - points[:, 0]) ** 2, axis=-1)
divergence = lambda at, W, B: np.mean((everywhere(at[0] + W, at[1] + B) - everywhere(*at)) ** 2, axis=-1)
at = np.array([-3.0, -2.0])  # (w, b)
moved = at + np.array([0.3, -0.2])
close(error(*at), one.value(at, data))
close(divergence(at, 0.3, -0.2), one.loss.kl(OneUnit().apply(at, points), OneUnit().apply(moved, points)))

# %% [markdown]
# Around a point we search the curve of exactly equal divergence for its lowest loss, and let the curve shrink. The
# direction found must tend to the natural gradient's, and the angle between them to 0 with the curve's radius, that is
# with $\sqrt\varepsilon$.

# %%
turn = np.linspace(0, 2 * np.pi, 8001)
rays = np.stack([np.cos(turn), np.sin(turn)])


def equal_divergence(at, eps):
    """The curve KL = eps around a point, (2, rays): along each ray by bisection."""
    low, high = np.zeros_like(turn), np.full_like(turn, 8.0)
    for _ in range(40):
        middle = (low + high) / 2
        far = divergence(at, *(middle * rays)) > eps
        low, high = np.where(far, low, middle), np.where(far, middle, high)
    return at[:, None] + low * rays


g, F = one.value_and_grad(at, data)[1], fisher(one, at, points).dense()
direction = -solve(F, g)
angle = lambda a, b: np.degrees(np.arccos(np.clip(a @ b / norm(a) / norm(b), -1, 1)))
fig, axis = figure(height=3.6, width=5.2)
b_grid, w_grid = np.meshgrid(np.linspace(-3.6, -0.2, 120), np.linspace(-4.6, -1.2, 120))
axis.contour(b_grid, w_grid, error(w_grid, b_grid), 18, colors="0.8", linewidths=0.8)
angles, sizes = [], (0.16, 0.04, 0.01, 0.0025)
for eps in sizes:
    curve = equal_divergence(at, eps)
    best = curve[:, np.argmin(error(*curve))] - at
    angles.append(angle(best, direction))
    if eps >= 0.01:
        ball = solve(np.linalg.cholesky(F).T, np.sqrt(2 * eps) * rays)
        axis.plot(curve[1], curve[0], color=BLACK, lw=1.4)
        axis.plot(at[1] + ball[1], at[0] + ball[0], color=GREY, lw=1, ls="--")
        axis.plot(at[1] + best[1], at[0] + best[0], "o", color=BLACK, ms=5)
for step, color, label, shift in ((direction, VERMILLION, "natural gradient", 0.15), (-g, BLUE, "gradient", -0.25)):
    end = at + 1.2 * step / norm(step)
    axis.annotate("", end[::-1], at[::-1], arrowprops={"arrowstyle": "->", "color": color, "lw": 1.8})
    axis.text(end[1], end[0] + shift, label, color=color, ha="center")
axis.set(xlabel="b", ylabel="w", aspect="equal", xlim=(-3.6, -0.2), ylim=(-4.6, -1.2))
title = "On curves of equal divergence (dashed: by the metric) the lowest\nloss (dots) lies along the natural gradient"
axis.set_title(title, fontsize=9)
for eps, off in zip(sizes, angles):
    print(f"eps = {eps:.4f}: the best step is {off:.2f} degrees off the natural gradient")
print(f"the gradient is {angle(direction, -g):.0f} degrees off")
assert abs(angles[-2] / angles[-1] - 2) < 0.3

# %% [markdown]
# ## 3. Twenty lines, and the library
#
# In a real network nobody solves with a matrix. The paper's pipeline (appendix 8.3, algorithm 1): linearize the network
# once; a product $F v$ is an R-op, the metric of the outputs, an L-op; conjugate gradients need only such products.
# In the direction we put $-g$, so the step is added; the damping $\lambda$ is section 5's.
#
# $$ F v = J^\top \big( M (J v) \big), \qquad (F + \lambda I)\, d = -g, \qquad \theta \leftarrow \theta + \eta\, d. $$


# %%
def natural_gradient_step(net, loss, theta, batch, lr, lam, iterations=20):
    """One update: gradient, metric, conjugate gradients."""
    x, t = batch
    r, J = minigrad.autodiff.linearize(lambda theta: net.apply(theta, x), theta)  # the network runs once
    g = J.lop(loss.gradient(r, t))
    M = loss.metric(r)
    product = lambda v: J.T @ (M @ (J @ v)) + lam * v

    d = np.zeros_like(g)
    residual = direction = -g
    for _ in range(iterations):
        Gp = product(direction)
        step = (residual @ residual) / (direction @ Gp)
        d = d + step * direction
        smaller = residual - step * Gp
        direction = smaller + (smaller @ smaller) / (residual @ residual) * direction
        residual = smaller
    return theta + lr * d


optimizer = NaturalGradient(0.5, FixedDamping(1e-2), ConjugateGradient(maxiter=20, stop=None), warm_start=0.0)
mine = natural_gradient_step(small, binary.loss, start, batch, lr=0.5, lam=1e-2)
library, _, log = optimizer.step(start, optimizer.init(binary, start), binary, batch, None, None)
close(mine, library, rtol=1e-6)
I, g = np.eye(start.size), binary.value_and_grad(start, batch)[1]
exact = start - 0.5 * solve(fisher(binary, start, inputs).dense() + 1e-2 * I, g)
close(mine, exact, rtol=1e-6)
print(f"one step: loss {log['loss']:.4f} -> {binary.value(library, batch):.4f}")

# %% [markdown]
# ## 4. A step that does not care for names
#
# Write the same functions with other parameters, $\theta = \varphi(\xi)$ with Jacobian $A$. Gradients and metrics
# change, $g_\xi = A^\top g$ and $F_\xi = A^\top F A$, and the natural step is the same move of $\theta$, to first
# order:
#
# $$ A\, d_\xi = -A (A^\top F A)^{-1} A^\top g = -F^{-1} g. $$
#
# If $\varphi$ is affine this is exact for any step; if not, it holds as steps shrink, and paths of many small steps
# agree. The algebra asks one thing of the matrix: that it turn into $A^\top G A$. So let us try others. The covariance
# of gradients does so too, while Pascanu & Bengio (section 4.1) say that the property "does not transfer directly" to
# it. The Hessian does under affine maps only, and $F + \lambda I$ never does.


# %%
class Renamed:
    """The net `small`, as a function of xi, with theta = phi(xi)."""

    layout = small.layout

    def __init__(self, phi):
        self.phi = phi

    def apply(self, xi, x):
        return small.apply(self.phi(xi), x)


def outputs_after(objective, theta, metric, updates, distance=0.1):
    """y after so many steps of learning rate distance / updates."""
    for _ in range(updates):
        g = objective.value_and_grad(theta, batch)[1]
        theta = theta - distance / updates * solve(metric(objective, theta), g)
    return objective.predict(theta, inputs)


metrics = {
    "SGD": lambda objective, theta: I,
    "Newton": lambda objective, theta: hessian(objective, theta, batch).dense(),
    "natural gradient": lambda objective, theta: fisher(objective, theta, inputs).dense(),
    "damped": lambda objective, theta: fisher(objective, theta, inputs).dense() + 0.1 * I,
    "TONGA": lambda objective, theta: gradient_covariance(objective, theta, batch).dense(),
}
A = I + 0.3 * rng.normal(size=I.shape)
cubic = lambda xi: xi + xi * xi * xi
root = lambda theta: np.array([next(z.real for z in np.roots([1, 0, 1, -v]) if abs(z.imag) < 1e-9) for v in theta])
close(cubic(root(start)), start)
renamed = {"affine": (lambda xi: A @ xi, solve(A, start)), "cubic": (cubic, root(start))}

counts = [4, 16] if QUICK else [4, 8, 16, 32, 64]
plain = {name: [outputs_after(binary, start, metric, count) for count in counts] for name, metric in metrics.items()}
apart, before = {}, binary.predict(start, inputs)
for kind, (phi, xi) in renamed.items():
    other = minigrad.Objective(Renamed(phi), Bernoulli())
    for name, metric in metrics.items():
        gaps = [
            norm(y - outputs_after(other, xi, metric, count)) / norm(y - before)
            for y, count in zip(plain[name], counts)
        ]
        apart[kind, name] = np.array(gaps)
        print(f"{kind:6} {name:17} {gaps[0]:8.1e} ... {gaps[-1]:8.1e}")
for kind, name in apart:
    exact = kind == "affine" and name in ("Newton", "natural gradient", "TONGA")
    shrinks = kind == "cubic" and name in ("natural gradient", "TONGA")
    assert (apart[kind, name].max() < 1e-9) == exact
    assert exact or (apart[kind, name][-1] < 0.35 * apart[kind, name][0]) == shrinks

fig, axes = figure(1, 2, height=3.4, sharey=True)
for axis, kind in zip(axes, renamed):
    for name in metrics:
        style = look("natural gradient" if name == "damped" else name)
        text = {"damped": "natural, damped", "TONGA": "covariance"}.get(name, name)
        line = "--" if name == "damped" else "-"
        axis.plot(counts, np.maximum(apart[kind, name], 1e-16), line + "o", color=style.colour, label=text, ms=3)
    axis.set(xscale="log", yscale="log", xlabel="steps for the same distance", xlim=(3.5, counts[-1] * 6))
    axis.set_title(f"{kind} change of parameters", fontsize=8)
axes[0].set_ylabel("difference of the outputs\n(1: as large as their move)")
fig.suptitle(
    "Natural gradient and the covariance follow the function, not its parameters; damping spoils it", fontsize=9
)
for axis in axes:
    label_ends(axis)

# %% [markdown]
# ## 5. Damping is a trust region
#
# The metric is right near $\theta$, and may be singular. So one adds $\lambda I$ (George, 3.1.3 and 3.2.4; Pascanu &
# Bengio, 8.3). What does the step then solve? It minimizes the model within a ball, in plain parameter units:
#
# $$ d(\lambda) = -(F + \lambda I)^{-1} g \;=\; \arg\min_d\; g^\top d + \tfrac12 d^\top F d
#    \quad \text{subject to} \quad \lVert d \rVert \le \Delta, \quad \Delta = \lVert d(\lambda) \rVert. $$
#
# $\lambda$ is the multiplier of the ball. At 0 the step is the natural one; as $\lambda$ grows it turns and shrinks to
# $-g / \lambda$, a small gradient step. Steps shrink always, and each reaches the lowest point that its ball allows.

# %%
g, F = one.value_and_grad(at, data)[1], fisher(one, at, points).dense()
model = lambda d: g @ d + d.T @ F @ d / 2 if d.ndim == 1 else g @ d + np.sum(d * (F @ d), axis=0) / 2
lams = np.concatenate([[0.0], np.logspace(-4, 4, 161)])
path = np.array([-solve(F + lam * np.eye(2), g) for lam in lams])
lengths = norm(path, axis=1)
assert np.all(np.diff(lengths) < 0)
for d in path[::20]:
    assert model(norm(d) * rays).min() > model(d) - 1e-9  # all around its circle nothing is lower
    assert model(0.7 * norm(d) * rays).min() > model(d)  # nor inside
close(path[-1] * lams[-1], -g, rtol=0.01)
turned = [angle(d, -g) for d in path]
print(f"undamped: {lengths[0]:.1f} long, {turned[0]:.0f} degrees off the gradient;", end=" ")
print(f"lam = 1: {lengths[81]:.1f} long, {turned[81]:.0f} degrees off")
wrong = 1 / 2.0 * solve(F + 0.5 / 2.0 * np.eye(2), g)  # George 3.2.4 as printed, with lambda = 2, epsilon = 1/2
regularized = lambda d: g @ d + 0.5 / 2 * d @ d + 2.0 / 2 * d @ F @ d
assert regularized(wrong) > 0 > regularized(-wrong)

fig, axes = figure(1, 2, height=3.2)
d_b, d_w = np.meshgrid(np.linspace(-0.3, 1.6, 150), np.linspace(-0.5, 1.5, 150))
axes[0].contour(d_b, d_w, divergence(at, d_w, d_b), np.linspace(0.1, 1.5, 8) ** 2, colors="0.8", linewidths=0.8)
axes[0].plot(path[:, 1], path[:, 0], color=VERMILLION)
axes[0].plot(0, 0, "*", color=BLACK, ms=8)
for lam, shift in ((0, (6, -3)), (0.03, (-26, -2)), (0.1, (-22, -2)), (0.3, (-20, 2)), (1, (-4, 7)), (10, (-4, -13))):
    d = -solve(F + lam * np.eye(2), g)
    axes[0].plot(d[1], d[0], "o", color=VERMILLION, ms=4)
    axes[0].annotate(f"{lam:g}", d[::-1], shift, textcoords="offset points", fontsize=8)
axes[0].set(xlabel=r"$\Delta b$", ylabel=r"$\Delta w$", xlim=(-0.3, 1.6), ylim=(-0.5, 1.5))
axes[1].loglog(lams[1:], lengths[1:], color=VERMILLION)
axes[1].set(xlabel=r"damping $\lambda$", xlim=(1e-4, 1e4))
axes[1].set_ylabel("length of the step", color=VERMILLION)
twin = axes[1].twinx()
twin.semilogx(lams[1:], turned[1:], color=BLUE)
twin.set_ylabel("degrees off the gradient", color=BLUE, fontsize=9)
twin.grid(False)
twin.spines["top"].set_visible(False)
_ = fig.suptitle(
    "Damping, from 0 (by the dots), turns the natural step into a small gradient step (grey: KL surface)", fontsize=9
)

# %% [markdown]
# ## 6. How much damping: two ratios that are not the same
#
# Levenberg and Marquardt's rule, as Martens (2010) uses it: compare what the step $s = \eta d$ gave with what the
# model promised; if the ratio is above 3/4, divide $\lambda$ by 3/2, if below 1/4, multiply. Pascanu & Bengio promise
# by the first-order term alone (eq. 29-30), and say that their ratio "can be shown to behave identically":
#
# $$ \rho_{M} = \frac{f(\theta + s) - f(\theta)}{g^\top s + \frac12 s^\top F s}, \qquad
#    \rho_{30} = \frac{f(\theta + s) - f(\theta)}{g^\top s}. $$
#
# For $d = -F^{-1} g$ we have $s^\top F s = -\eta\, g^\top s$, so the two promises differ by a factor:
#
# $$ \rho_{30} = \Big(1 - \frac{\eta}{2}\Big)\, \rho_{M}. $$
#
# On an exact quadratic $\rho_M = 1$, so eq. 30 at $\eta = 1$ gives 1/2: right in the middle of the thresholds, and
# $\lambda$ never falls however good the model is. It can pass 3/4 only for $\eta < \frac12$. With damping, at $\eta =
# 1$ and on a quadratic,
#
# $$ \rho_{30} = \frac12 + \frac{\lambda\, d^\top d}{2\, |g^\top d|}, $$
#
# which is above 3/4 while $\lambda d^\top d > d^\top F d$: the damping falls until it equals the curvature along the
# step, and stays.

# %%
g, F = binary.value_and_grad(start, batch)[1], fisher(binary, start, inputs).dense()
f = lambda s: g @ s + s @ F @ s / 2  # a loss that is its own model
martens = lambda s: f(s) / (g @ s + s @ F @ s / 2)
eq_30 = lambda s: f(s) / (g @ s)
print("lr      rho of Martens   of eq. 30")
for lr in (0.1, 0.5, 1.0, 1.5):
    s = -lr * solve(F, g)
    close(eq_30(s), (1 - lr / 2) * martens(s))
    print(f"{lr:3}  {martens(s):12.3f} {eq_30(s):13.3f}")
for lam in (1e-3, 1e-2, 1e-1):
    d = -solve(F + lam * I, g)
    close(eq_30(d), 0.5 + lam * d @ d / (2 * abs(g @ d)))
    assert (eq_30(d) > 0.75) == (lam * d @ d > d @ F @ d)

# %% [markdown]
# Does it matter? On a quadratic with eigenvalues from 1 to $10^{-4}$ it must; and on a real loss? A sine fitted by 10
# hidden units. Everything is equal but the ratio.

# %%
wave = np.linspace(-1, 1, 100)[:, None]
sine = minigrad.Objective(mlp([1, 10, 1], activation="tanh"), Gaussian())
samples = (wave, np.sin(6 * wave))
decades = np.diag(np.logspace(0, -4, 9))


class Bowl:
    """theta' D theta / 2, in the three words that `train` needs."""

    init = lambda self, rng: rng.normal(size=9)
    at = lambda self, theta: (theta @ decades @ theta / 2, decades @ theta, decades)
    value = lambda self, theta: theta @ decades @ theta / 2


class Sine:
    """The sine's loss likewise."""

    init = lambda self, rng: sine.net.init(rng, dtype="float64")
    at = lambda self, theta: (*sine.value_and_grad(theta, samples), fisher(sine, theta, wave).dense())
    value = lambda self, theta: sine.value(theta, samples)


def train(problem, ratio, seed, updates):
    """The loss before each update of Levenberg and Marquardt's, with one ratio or the other."""
    theta, lam, losses = problem.init(np.random.default_rng(seed)), 1.0, []
    for _ in range(updates):
        loss, g, F = problem.at(theta)
        losses.append((loss, lam))
        s = -solve(F + lam * np.eye(g.size), g)
        rho = (problem.value(theta + s) - loss) / (g @ s + (s @ F @ s / 2 if ratio == "Martens" else 0))
        lam = lam / 1.5 if rho > 0.75 else lam * 1.5 if rho < 0.25 else lam
        theta = theta + s if rho > 0 else theta
    return losses


seeds, colors = range(1 if QUICK else 5), {"Martens": VERMILLION, "eq. 30": BLUE}
fig, axes = figure(1, 2, height=3.1)
problems = {"a quadratic": (Bowl(), 45), "a sine, 10 hidden units": (Sine(), 20 if QUICK else 80)}
for axis, (title, (problem, updates)) in zip(axes, problems.items()):
    for ratio, color in colors.items():
        runs = np.array([train(problem, ratio, seed, updates) for seed in seeds])
        losses = np.where(runs[:, :, 0] > 1e-20, runs[:, :, 0], np.nan)
        axis.semilogy(np.median(losses, axis=0), color=color, label=ratio)
        axis.fill_between(range(updates), losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.18, lw=0)
        final, lam = np.median(runs[:, -1], axis=0)
        print(f"{title:24} {ratio:8} median of the last losses {final:.1e}, of lam {lam:.1e}")
    axis.set(xlabel="updates", ylabel="loss", xlim=(0, 1.25 * updates))
    axis.set_title(title, fontsize=8)
fig.suptitle("Eq. 30 holds the damping up where the model is perfect; on a real loss it matters little", fontsize=9)
for axis in axes:
    label_ends(axis)

# %% [markdown]
# (Median and range of five seeds.) On the quadratic Martens' rule lets the damping go and converges ever faster; by
# eq. 30 every step is a compromise with the ball. On the sine the damping is mostly held up by steps that failed, on
# which both ratios agree, and the two runs differ by less than the seeds do.
#
# ## 7. The experiment: four methods on one surface
#
# Figure 1 of the paper: the one-unit auto-encoder, with the paper's learning rates and dampings (appendix 8.4).
# Gradient descent 0.1; natural gradient 0.5, with $0.01 I$; Newton 1, with $I$; the covariance of gradients (TONGA)
# 1, with $I$. The paper does not print its data nor its two starts. We chose starts that show what it describes, and
# no step is refused.

# %%
I2 = np.eye(2)


methods = {  # learning rate, and the matrix to solve with
    "SGD": (0.1, lambda theta: I2),
    "natural gradient": (0.5, lambda theta: fisher(one, theta, points).dense() + 0.01 * I2),
    "Newton": (1.0, lambda theta: hessian(one, theta, data).dense() + I2),
    "TONGA": (1.0, lambda theta: gradient_covariance(one, theta, data).dense() + I2),
}


def propose(theta, method):
    rate, matrix = methods[method]
    return -rate * solve(matrix(theta), one.value_and_grad(theta, data)[1])


def follow(theta, method, steps=100):
    path = [np.array(theta)]
    for _ in range(steps):
        path.append(path[-1] + propose(path[-1], method))
    return np.array(path)


def halfway(path):
    """The point of a path nearest to half its length."""
    travelled = np.cumsum(norm(np.diff(path, axis=0), axis=1))
    return path[1 + np.argmin(abs(travelled - travelled[-1] / 2))]


starts = {"1": (-2.75, 0.75), "3": (-1.0, 3.0)}
paths = {(name, method): follow(at, method) for name, at in starts.items() for method in methods}
spots = {name: np.array(at) for name, at in starts.items()}
spots |= {"2": halfway(paths["1", "natural gradient"]), "4": halfway(paths["3", "natural gradient"])}

fig, axes = mosaic([["main", "main", "1", "2"], ["main", "main", "3", "4"]], height=4.0)
b_grid, w_grid = np.meshgrid(np.linspace(-3.5, 4, 150), np.linspace(-4.5, 4, 150))
axes["main"].contour(b_grid, w_grid, np.log(error(w_grid, b_grid)), 14, colors="0.8", linewidths=0.7, linestyles="-")
for (_, method), path in paths.items():
    axes["main"].plot(path[:, 1], path[:, 0], look(method).line, color=look(method).colour, marker=".", ms=3, lw=1.2)
for name, at in spots.items():
    axes["main"].annotate(f"[{name}]", at[::-1], (5, 4), textcoords="offset points", fontsize=8)
    steps = {method: propose(at, method) for method in methods}
    reach = 1.3 * max(norm(steps["SGD"]), norm(steps["natural gradient"]))
    db, dw = np.meshgrid(np.linspace(-reach, reach, 80), np.linspace(-reach, reach, 80))
    axes[name].contour(db, dw, np.sqrt(divergence(at, dw, db)), 9, colors="0.8", linewidths=0.7)
    for method, step in steps.items():
        axes[name].plot([0, step[1]], [0, step[0]], color=look(method).colour, lw=2, ls=look(method).line)
    axes[name].set(xlim=(-reach, reach), ylim=(-reach, reach))
    axes[name].set_title(f"KL surface at [{name}]", fontsize=8)
axes["main"].set(xlabel="b", ylabel="w", xlim=(-3.5, 4), ylim=(-4.5, 4))
words = {"SGD": "gradient descent", "natural gradient": "natural gradient"}
words |= {"Newton": "Newton (dashed)", "TONGA": "covariance (dotted)"}
for i, (method, label) in enumerate(words.items()):
    axes["main"].text(-3.3, 3.5 - 0.5 * i, label, color=look(method).colour, fontsize=8)
for name in "34":
    axes[name].set_xlabel(r"$\Delta b$")
for name in "13":
    axes[name].set_ylabel(r"$\Delta w$")
_ = fig.suptitle(
    "Four methods on one error surface, a hundred steps each; right, what they propose at four points", fontsize=9
)

for name, method in paths:
    path = paths[name, method]
    print(f"from [{name}] {method:17} first step {norm(path[1] - path[0]):.2f}, ends at w, b =", end=" ")
    print(f"{path[-1].round(2)}, error {error(*path[-1]):.4f}")
first = {method: norm(paths["1", method][1] - paths["1", method][0]) for method in methods}
assert first["natural gradient"] < first["SGD"] < first["Newton"]  # the paper's first observation
assert paths["3", "natural gradient"][-1][0] < 0 < paths["3", "SGD"][-1][0]  # and its second

# %% [markdown]
# Both observations of the paper are there. At [1] natural gradient's step is shorter than gradient descent's while
# Newton's is longer: high curvature of the divergence says nothing about that of the loss. From [3] natural gradient
# and gradient descent leave in different directions and make for different minima, here to the former's profit; that
# is an anecdote, as the paper says too.
#
# ## 8. What is different in the papers as printed
#
# Pascanu & Bengio:
#
# - Footnote 2 writes $\sum_\theta p_\theta(z)$ for $\sum_z p_\theta(z)$.
# - Eq. 5 sets the Lagrangian to 0; its gradient must be, and the factor is $-\frac1\lambda$, not $\frac2\lambda$:
#   section 2.
# - "We fold this scalar into the learning rate" (after eq. 5), and we move "with constant speed" (after eq. 2): one
#   or the other. With a constant learning rate a step has the divergence $\frac{\eta^2}{2} g^\top F^{-1} g$, which
#   changes: below, by orders of magnitude within ten steps.
# - Section 4.1: independence of the parametrization "does not transfer directly to the covariance matrix". Undamped, it
#   does: section 4. Damping takes it from both.
# - Eq. 30 does not "behave identically" with Martens' ratio: section 6.
#
# George:
#
# - 3.2.1: $\mathrm{KL} = d^\top F d$, in both directions. Half of it, in both: section 1.
# - 3.2.4: $\Delta\theta^* = \frac1\lambda (F + \frac{\epsilon}{\lambda} I)^{-1} \nabla R$ needs a minus. As printed it
#   climbs: section 5.

# %%
path = paths["1", "natural gradient"]
travelled = [divergence(a, *(b - a)) for a, b in itertools.pairwise(path)]
print(
    "divergence of natural gradient's steps from [1]: ", *(f"{travelled[i]:.1e}" for i in (0, 4, 9)), "(steps 1, 5, 10)"
)
assert travelled[9] < travelled[0] / 100
g, F, lr = binary.value_and_grad(start, batch)[1], fisher(binary, start, inputs).dense(), 0.02
there = start - lr * solve(F, g)
moved = binary.loss.kl(small.apply(start, inputs), small.apply(there, inputs))
close(moved, lr**2 / 2 * g @ solve(F, g), rtol=0.05)

# %% [markdown]
# ## 9. Exercises
#
# 1. Make natural gradient move at constant speed: write `step(F, g, eps)`, with a divergence of `eps` to second order.
#    `check_exercise_1(step)`.
# 2. On a loss that is its own quadratic model and without damping, below which learning rate does eq. 30's ratio exceed
#    3/4? `check_exercise_2(lr)`.
# 3. In $\xi$ with $\theta = A \xi$, which damping matrix $D$ makes the step from $(F_\xi + \lambda D)^{-1} g_\xi$ the
#    same as the one from $(F + \lambda I)^{-1} g$ in $\theta$? Write `damping(A)`. `check_exercise_3(damping)`.


# %%
def check_exercise_1(step):
    for eps in (1e-3, 0.5):
        d = step(F, g, eps)
        assert np.isclose(d @ F @ d / 2, eps), f"its divergence is {d @ F @ d / 2:.3g}, asked for {eps}"
        assert g @ d < 0, "it goes uphill"
    print("right")


def check_exercise_2(lr):
    assert np.isclose(lr, 0.5), "1 - lr / 2 > 3/4"
    print("right")


def check_exercise_3(damping):
    d_xi = solve(A.T @ F @ A + 0.1 * damping(A), A.T @ g)
    assert np.allclose(A @ d_xi, solve(F + 0.1 * I, g)), "the ball must be measured in theta: D has to become A'A"
    print("right")


# %% tags=["hide-input"]
# The checkers are checked too, with a right and a wrong answer each.
check_exercise_1(lambda F, g, eps: -solve(F, g) * np.sqrt(2 * eps / (g @ solve(F, g))))
check_exercise_2(0.5)
check_exercise_3(lambda A: A.T @ A)
wrong_answers = {
    check_exercise_1: lambda F, g, eps: -eps * solve(F, g),
    check_exercise_2: 0.75,
    check_exercise_3: lambda A: np.eye(len(A)),
}
for checker, wrong in wrong_answers.items():
    try:
        checker(wrong)
    except AssertionError:
        continue
    raise RuntimeError("a wrong answer was taken for right")
