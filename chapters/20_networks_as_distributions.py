# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Networks as distributions
#
# **The question.** What does a network's output *mean*, where does its loss come from, and how should its weights
# begin?
#
# **The papers.** Natural gradient descent needs an answer to the first: it measures a step by how much the output
# *distribution* changes (Pascanu & Bengio, sections 3, 7 and appendix 8.2). George (1.4, 2.4.2, 2.5) defines the
# networks, the benchmark autoencoder and its initialization, and derives the same matrices in appendices A and B.
#
# | in the papers | here | shape | what it is |
# |---|---|---|---|
# | $\theta$ | `theta` | (n,) | all parameters, one flat vector |
# | $W, b$ (George) | `W[:-1].T`, `W[-1]` | W (in + 1, out) | a layer: one matrix, the bias its last row |
# | $a$, $h$ | `a`, `h` | (N, width) | pre-activations; activations |
# | $\mathbf r$ | `r` | (N, O) | output before the output activation |
# | $\mathbf y = \sigma(\mathbf r)$ | `y` | (N, O) | output after it: the parameters of a distribution |
# | $\mathbf t$ (George: $y$) | `t` | (N, O) or (N,) | targets; labels for Categorical |
# | $\beta$ (George: $\sigma$) | `beta` | number | standard deviation of Gaussian targets |
# | $\mathbf H_{\mathcal L \circ r}$, $D$ | `M` | (O, O) a sample | the metric: Fisher information of $p(t \mid r)$ |
# | $\alpha$ | `alpha` | number | scale of the initial weights' variance |

# %%
# %matplotlib inline
import os

import numpy as np

import minigrad
from minigrad.autodiff import grad, jacobian, linearize
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import Glorot, He, Sparse, autoencoder, mlp
from minigrad.plot import BLACK, BLUE, GREEN, ORANGE, SKY, VERMILLION, figure, label_ends

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
minigrad.use("numpy")  # this chapter works on small host arrays, whatever backend is set
rng = np.random.default_rng(20)
close = np.testing.assert_allclose

# %% [markdown]
# ## 1. A network is a pure function of one vector
#
# A multilayer perceptron alternates affine maps and elementwise functions (George, 1.4.1):
#
# $$ a = W h + b, \qquad h' = f(a). $$
#
# Samples are rows here, so a layer is `h @ W[:-1] + W[-1]`. The network owns no parameters: they come in, as one flat
# vector, and `Layout` hands out named *views* of it. Nothing is copied: changing `theta` changes the layer. An
# **autoencoder** squeezes its input through a narrow code and rebuilds it; its target is its input. The thesis'
# benchmark (2.5) has layers of 784, 1000, 500, 250, 30, 250, 500, 1000, 784 units.

# %%
net = mlp([3, 4, 2], activation="tanh")
theta, x = net.init(rng, dtype="float64"), rng.normal(size=(5, 3))
p = net.layout.views(theta)
h = np.tanh(x @ p["layer0"][:-1] + p["layer0"][-1])
close(net.apply(theta, x), h @ p["layer1"][:-1] + p["layer1"][-1])
assert all(np.shares_memory(view, theta) for view in p.values())

sizes = (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
print(autoencoder().layout)
assert autoencoder().layout.size == (1 + np.array(sizes[:-1])) @ sizes[1:] == 2_837_314

# %% [markdown]
# ## 2. Three distributions, three losses
#
# Read the output as the parameters of a distribution over targets, $p_\theta(t \mid x) = p(t \mid r)$, and the loss is
# how surprised that distribution is by the data:
#
# $$ \mathcal L(\theta) = -\frac1N \sum_i \log p_\theta(t^{(i)} \mid x^{(i)}). $$
#
# | | $y = \sigma(r)$ | $p(t \mid r)$ | $-\log p$ from $r$ |
# |---|---|---|---|
# | Gaussian | $r$ | $\prod_k \mathcal N(t_k;\, y_k, \beta^2)$ | $\lVert r - t \rVert^2 / 2 \beta^2$ + constant |
# | Bernoulli | $1 / (1 + e^{-r})$ | $\prod_k y_k^{t_k} (1 - y_k)^{1 - t_k}$ | $\sum_k \log(1 + e^{r_k}) - t_k r_k$ |
# | Categorical | $e^{r_k} / \sum_j e^{r_j}$ | $y_t$ | $\log \sum_j e^{r_j} - r_t$ |
#
# All three in a few lines each: the densities, straight from the third column. The library must agree.

# %%
N, O, beta = 6, 3, 0.5
r = rng.normal(size=(N, O))
sigmoid = lambda r: 1 / (1 + np.exp(-r))
softmax = lambda r: np.exp(r) / np.exp(r).sum(axis=1, keepdims=True)
predict = {"Gaussian": lambda r: r, "Bernoulli": sigmoid, "Categorical": softmax}
density = {
    "Gaussian": lambda y, t: np.prod(np.exp(-((t - y) ** 2) / (2 * beta**2)) / np.sqrt(2 * np.pi * beta**2), axis=1),
    "Bernoulli": lambda y, t: np.prod(y**t * (1 - y) ** (1 - t), axis=1),
    "Categorical": lambda y, t: y[np.arange(len(y)), t],
}
losses = {"Gaussian": Gaussian(beta), "Bernoulli": Bernoulli(), "Categorical": Categorical()}
constant = {"Gaussian": O / 2 * np.log(2 * np.pi * beta**2)}  # what the library leaves out: it moves no gradient
targets = {name: loss.sample(r, rng) for name, loss in losses.items()}
for name, loss in losses.items():
    close(loss.predict(r), predict[name](r))
    surprise = -np.log(density[name](predict[name](r), targets[name])).mean()
    close(loss.value(r, targets[name]), surprise - constant.get(name, 0.0))
    print(f"{name:12} {loss.value(r, targets[name]):.4f}")

# %% [markdown]
# A distribution can be sampled; that is the best way to see what an output says.

# %%
draws, one = 2000, np.array([[0.8, -1.0, 0.3]])
samples = {name: loss.sample(np.repeat(one, draws, axis=0), rng) for name, loss in losses.items()}
rates = [samples["Bernoulli"].mean(axis=0), np.bincount(samples["Categorical"], minlength=3) / draws]
fig, axes = figure(1, 3, height=2.9)
for k, color in enumerate((BLUE, ORANGE, GREEN)):
    axes[0].hist(samples["Gaussian"][:, k], 40, density=True, color=color, alpha=0.35)
    grid = one[:, k] + beta * np.linspace(-3.5, 3.5, 100)[:, None]
    axes[0].plot(grid, density["Gaussian"](one[:, k], grid), color=color)
axes[0].set(title=r"Gaussian, $\beta$ = 0.5", xlabel="target", ylabel="probability density")
for axis, name, rate, label in zip(axes[1:], ("Bernoulli", "Categorical"), rates, ("output k", "class")):
    y = losses[name].predict(one)[0]
    axis.bar(np.arange(3), rate, 0.6, color=SKY, label="share of the draws")
    axis.plot(np.arange(3), y, "_", color=BLACK, ms=26, mew=2, label="y")
    axis.set(title=name, xticks=np.arange(3), ylim=(0, 0.9), xlabel=label, ylabel="probability")
    assert np.all(abs(rate - y) < 5 * np.sqrt(y * (1 - y) / draws))
axes[2].legend(frameon=False, fontsize=8)
_ = fig.suptitle("One r = (0.8, -1, 0.3) read as three distributions, and 2000 draws from each", fontsize=9)

# %% [markdown]
# ## 3. One gradient for all three
#
# In $r$, each of the three losses has the same gradient, prediction minus target:
#
# $$ \frac{\partial \ell}{\partial r} = \frac{y - t}{\beta^2} \qquad (\beta = 1 \text{ but for the Gaussian}). $$
#
# For Bernoulli, $\frac{d}{dr} [\log(1 + e^r) - t r] = \frac{e^r}{1 + e^r} - t$. For Categorical,
# $\frac{\partial}{\partial r_k} [\log \sum_j e^{r_j} - r_t] = y_k - \delta_{kt}$, with $t$ read as its one-hot row. An
# output activation and the loss that makes this come out are called a *matched pair*.

# %%
for name, loss in losses.items():
    t = targets[name]
    rows = np.eye(O)[t] if name == "Categorical" else t
    by_hand = (predict[name](r) - rows) / (beta**2 if name == "Gaussian" else 1.0) / N
    close(loss.gradient(r, t), by_hand)
    close(grad(lambda r, loss=loss, t=t: loss.value(r, t))(r), by_hand, atol=1e-15)

# %% [markdown]
# ## 4. The metric
#
# How far apart are $p(t \mid r)$ and $p(t \mid r + d)$? The Kullback-Leibler divergence begins with a quadratic,
#
# $$ \mathrm{KL}\big(p(\cdot \mid r) \,\Vert\, p(\cdot \mid r + d)\big)
#    = \tfrac12\, d^\top M d + O(\lVert d \rVert^3), $$
#
# $$ M = \mathbb E_{t \sim p(t \mid r)} [s s^\top], \qquad
#    s = \frac{\partial \log p(t \mid r)}{\partial r} = \frac{t - y}{\beta^2}. $$
#
# So the Fisher information $M$ is nothing but the covariance of the targets that the model itself would draw, divided
# by $\beta^4$. For a Gaussian that is $\beta^2 I / \beta^4$; a Bernoulli variable has variance $y (1 - y)$; a one-hot
# vector has covariance $\operatorname{diag}(y) - y y^\top$:
#
# $$ M = \tfrac{1}{\beta^2} I, \qquad M = \operatorname{diag}\big(y (1 - y)\big), \qquad
#    M = \operatorname{diag}(y) - y y^\top. $$
#
# For these matched pairs $M$ is also the Hessian of the loss in $r$, whatever the target (Pascanu & Bengio, eq. 15-21).
# We check with the expectation taken over every possible target, by quadrature for the Gaussian.


# %%
def all_targets(name, y):
    """Every target with its probability; for a Gaussian the nodes and weights of Gauss-Hermite quadrature."""
    if name == "Categorical":
        return [(np.eye(len(y))[k], y[k]) for k in range(len(y))]
    if name == "Bernoulli":
        bits = [np.array(b) for b in np.ndindex(*(2,) * len(y))]
        return [(b, np.prod(np.where(b, y, 1 - y))) for b in bits]
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    grid = [np.array(i) for i in np.ndindex(*(5,) * len(y))]
    return [(y + beta * nodes[i], np.prod(weights[i] / weights.sum())) for i in grid]


def divergence(name, r, d):
    """KL(p(.|r) || p(.|r + d)) of each sample, in closed form."""
    y, z = predict[name](r), predict[name](r + d)
    if name == "Gaussian":
        return np.sum(d**2, axis=1) / (2 * beta**2)
    if name == "Categorical":
        return np.sum(y * np.log(y / z), axis=1)
    return np.sum(y * np.log(y / z) + (1 - y) * np.log((1 - y) / (1 - z)), axis=1)


r1 = r[:1]
for name, loss in losses.items():
    y, scale = predict[name](r1)[0], beta**2 if name == "Gaussian" else 1.0
    M = sum(probability * np.outer(t - y, t - y) for t, probability in all_targets(name, y)) / scale**2
    covariance = np.diag(y - y**2) if name == "Bernoulli" else np.diag(y) - np.outer(y, y)
    close(M, np.eye(O) / beta**2 if name == "Gaussian" else covariance, atol=1e-12)
    close(loss.metric(r1).dense(), M, atol=1e-12)
    _, H = linearize(grad(lambda r, loss=loss, t=targets[name][:1]: loss.value(r, t)), r1)
    close(H.dense(), M, atol=1e-12)
    d = 1e-3 * rng.normal(size=O)
    quadratic = divergence(name, r1, d[None]).item() / (d @ M @ d)
    print(f"{name:12} KL / d'Md = {quadratic:.4f}")
    assert abs(quadratic - 0.5) < 2e-3

# %% [markdown]
# Pascanu & Bengio write the metric in $y$ (eq. 9-11), $M_y = I / \beta^2$, $\operatorname{diag}\frac{1}{y (1 - y)}$ and
# $\operatorname{diag}\frac1y$. It is the same metric, seen through the output activation:
#
# $$ M = \Big(\frac{\partial y}{\partial r}\Big)^\top M_y\, \frac{\partial y}{\partial r}. $$
#
# Work in $r$: there nothing is divided by an output that may be 0.

# %%
for loss in losses.values():
    dy_dr = jacobian(loss.predict)(r1).reshape(O, O)
    close(dy_dr.T @ loss.metric_y(loss.predict(r1)).dense() @ dy_dr, loss.metric(r1).dense(), atol=1e-12)


# %%
def unit_balls(axis, centres, metric, size, color):
    """Ellipses (1/2) d'Md = size around each centre."""
    circle = np.stack([np.cos(a := np.linspace(0, 2 * np.pi, 80)), np.sin(a)])
    for c in centres:
        values, vectors = np.linalg.eigh(metric(c))
        ball = c[:, None] + vectors @ (np.sqrt(2 * size / values)[:, None] * circle)
        axis.plot(*ball, color=color, lw=1.4)
        axis.plot(*c, ".", color=color, ms=3)


size, steps = 0.02, (-3.0, -1.5, 0.0, 1.5, 3.0)
where = [np.array([first, second]) for first in steps for second in steps]
fig, axes = figure(1, 3, height=2.8)
unit_balls(axes[0], where, lambda c: Gaussian().metric(c[None]).dense(), size, BLUE)
unit_balls(axes[1], where, lambda c: Bernoulli().metric(c[None]).dense(), size, ORANGE)
unit_balls(axes[2], [sigmoid(c) for c in where], lambda y: Bernoulli().metric_y(y[None]).dense(), size, ORANGE)
grid = np.stack(np.meshgrid(np.linspace(-6, 6, 161), np.linspace(-6, 6, 161)), axis=-1)
for c in (where[0], where[12], where[24]):
    exact = divergence("Bernoulli", c[None], grid.reshape(-1, 2) - c).reshape(161, 161)
    for axis, (first, second) in (axes[1], grid.T), (axes[2], sigmoid(grid).T):
        axis.contour(first, second, exact.T, [size], colors=BLACK, linewidths=0.9, linestyles="dashed")
for axis, title, name in zip(axes, ("Gaussian, r = y", "Bernoulli, in r", "Bernoulli, in y"), "rry"):
    limits = (0, 1) if name == "y" else (-4.7, 4.7)
    axis.set(title=title, xlabel=f"${name}_1$", ylabel=f"${name}_2$", aspect="equal", xlim=limits, ylim=limits)
_ = fig.suptitle("Every ellipse is 0.02 nats from its centre, by the metric (dashed: by the exact KL)", fontsize=9)

# %% [markdown]
# ## 5. Why the loss takes r and not y
#
# The textbook computes $y = \sigma(r)$ and then $-\log(1 - y)$. In floating point, $1 - y$ is rounded to a multiple of
# $\epsilon$ and ends at 0 or 1 much too early. From $r$ there is an exact way that cannot overflow:
#
# $$ -\log(1 - \sigma(r)) = \log(1 + e^r) = \max(r, 0) + \log\big(1 + e^{-|r|}\big). $$

# %%
span = np.linspace(-30, 30, 241, dtype="float32")
with np.errstate(divide="ignore"):
    naive = -np.log(1 - 1 / (1 + np.exp(-span)))
stable = np.array([Bernoulli().value(one_r.reshape(1, 1), np.zeros((1, 1), "float32")) for one_r in span])
exact = np.logaddexp(0.0, span.astype("float64"))
assert abs(stable / exact - 1).max() < 3e-7 and np.isinf(naive).any() and (naive == 0).any()

fig, axis = figure(height=3.2)
for values, color in (naive, VERMILLION), (stable, GREEN):
    axis.semilogy(span, np.clip(abs(values / exact - 1), 1e-9, 3), color=color, lw=1.6)
axis.text(-14, 1e-1, "through y", color=VERMILLION)
axis.text(20, 2e-9, "from r", color=GREEN)
axis.text(29.5, 5, "infinite", color=VERMILLION, ha="right")
axis.text(-29.5, 5, "100 % wrong: the loss is 0", color=VERMILLION)
axis.set(xlabel="r", ylabel="relative error of the loss", ylim=(5e-10, 100))
_ = axis.set_title("The loss of t = 0 in single precision: through y it is lost beyond |r| = 17", fontsize=9)

# %% [markdown]
# ## 6. A pair that does not match
#
# The thesis' autoencoder minimizes the squared error of pixels in [0, 1]. A sigmoid keeps its output there; but then
# the sigmoid belongs to the network, not to the loss: `autoencoder(output="sigmoid")` with `Gaussian()`, and the
# library's r is the sigmoid's output. With the last pre-activation $a$, $y = \sigma(a)$ and $\ell = \frac12 (y - t)^2$,
#
# $$ \frac{d \ell}{d a} = (y - t)\, y (1 - y), \qquad
#    \underbrace{\big(y (1 - y)\big)^2}_{\text{metric}} \;\neq\;
#    \frac{d^2 \ell}{d a^2} = \big(y (1 - y)\big)^2 + (y - t)\, y (1 - y) (1 - 2 y). $$
#
# A unit that is confidently wrong feels neither a gradient nor a curvature, and the Hessian has another sign than the
# metric.

# %%
squared = lambda a: 0.5 * np.sum((1 / (1 + np.exp(-a)) - 1.0) ** 2)  # the target is 1
a = np.linspace(-7, 7, 141)
y = sigmoid(a)
_, H = linearize(grad(squared), a)
close(grad(squared)(a), (y - 1) * y * (1 - y), atol=1e-14)
hessian, metric = H @ np.ones_like(a), (y * (1 - y)) ** 2
close(hessian, metric + (y - 1) * y * (1 - y) * (1 - 2 * y), atol=1e-14)
print(f"at a = -3 (y = {sigmoid(-3.0):.3f}, t = 1): Hessian {hessian[40]:.4f}, metric {metric[40]:.4f}")
assert hessian[40] < 0 < metric[40]

fig, axes = figure(1, 2, height=3.2)
axes[0].plot(a, np.logaddexp(0, -a), color=ORANGE)
axes[0].plot(a, 0.5 * (y - 1) ** 2, color=BLUE)
axes[0].text(-3.4, 3.9, "Bernoulli", color=ORANGE)
axes[0].text(-6.8, 0.7, "squared error", color=BLUE)
axes[0].set(xlabel="pre-activation a", ylabel="loss for t = 1", ylim=(0, 6))
axes[1].plot(a, y * (1 - y), color=ORANGE)
axes[1].plot(a, hessian, color=BLUE)
axes[1].plot(a, metric, color=BLUE, ls="--")
axes[1].axhline(0, color="0.6", lw=0.8)
axes[1].text(1.6, 0.18, "Bernoulli:\nHessian\n= metric", color=ORANGE)
axes[1].text(-7.3, 0.1, "squared\nerror: metric\n(dashed)", color=BLUE)
axes[1].text(-7, -0.085, "squared error: Hessian", color=BLUE)
axes[1].set(xlabel="pre-activation a", ylabel="curvature in a", ylim=(-0.1, 0.27))
_ = fig.suptitle("Squared error after a sigmoid: flat where it matters most, with a Hessian of either sign", fontsize=9)

# %% [markdown]
# ## 7. Initialization, and why alpha matters
#
# With independent weights of mean 0 and variance $\mathrm{Var}(w)$, a signal's mean square passes a layer like this,
# forwards and, for the cotangents $\delta$ of the pre-activations, backwards:
#
# $$ \mathbb E[a^2] = n_{in} \mathrm{Var}(w)\, \mathbb E[h^2], \qquad
#    \mathbb E[\delta_{l}^2] = n_{out} \mathrm{Var}(w)\, \mathbb E[\delta_{l+1}^2]\, \mathbb E[f'(a_l)^2]. $$
#
# With $f' \approx 1$, one wants $n_{in} \mathrm{Var}(w) = 1$ and $n_{out} \mathrm{Var}(w) = 1$; Glorot's compromise
# divides by the mean of the two:
#
# $$ \mathrm{Var}(w) = \frac{\alpha}{n_{in} + n_{out}}, \quad \alpha = 2, \qquad
#    w \sim \mathcal U(-L, L), \quad L^2 = 3\, \mathrm{Var}(w). $$
#
# He's is $\alpha / n_{in}$, with $\alpha = 2$ for relu; Martens' *sparse* scheme gives each unit 15 inputs of variance
# $\alpha$.

# %%
W = Glorot()(rng, 800, 400, "float64")
h, delta = rng.normal(size=(300, 800)), rng.normal(size=(300, 400))
close((h @ W[:-1]).var(), 800 * (2 / 1200) * np.mean(h**2), rtol=0.02)
slope = 1 - np.tanh(h) ** 2  # f' of tanh, at pre-activations h of the layer before
close(((delta @ W[:-1].T) * slope).var(), 400 * (2 / 1200) * np.mean(delta**2) * np.mean(slope**2), rtol=0.02)
assert abs(W).max() <= np.sqrt(6 / 1200) and abs(W[:-1].var() * 1200 - 2) < 0.02
assert (Sparse()(rng, 784, 1000, "float64") != 0).sum(axis=0).max() == 15


# %%
def signals(init, activation, seed, samples=100):
    """Forward: how much each layer's inputs vary from sample to sample. Backward: the size of its cotangents."""
    rng = np.random.default_rng(seed)
    net = autoencoder((784, 200, 100, 50, 30) if QUICK else (784, 1000, 500, 250, 30), activation, init=init)
    x = np.float32((rng.random((samples, 784)) < 0.2) * rng.random((samples, 784)))  # one pixel in five is inked
    r, J = linearize(lambda theta: net.apply(theta, x), net.init(rng))
    swept = [(node, u) for node, u in J.sweep(np.float32(rng.normal(size=r.shape))) if node.op.name == "affine"]
    inputs = [next(linear.factor[0] for _, linear in node.inputs if linear.factor is not None) for node, _ in swept]
    return [h.std(axis=0).mean() for h in inputs[::-1]], [np.sqrt(np.mean(u**2)) for _, u in swept[::-1]]


schemes = {
    "Glorot": (Glorot, (2.0, 8.0, 32.0, 128.0)),
    "He": (He, (1.0, 4.0, 16.0, 64.0)),
    "Sparse": (lambda alpha: Sparse(alpha=alpha), (0.1, 0.5, 2.0, 8.0)),
}
fig, axes = figure(2, 3, height=5.0, sharex=True, sharey="row")
for column, (name, (scheme, alphas)) in zip(axes.T, schemes.items()):
    for alpha, color in zip(alphas, (VERMILLION, ORANGE, GREEN, BLUE)):
        for axis, signal, at in zip(column, signals(scheme(alpha), "sigmoid", seed=0), (7, 0)):
            axis.semilogy(range(1, 9), signal, "o-", color=color, ms=3, lw=1.4)
            side = {"ha": "left" if at else "right", "va": "center", "color": color}
            axis.text(8.2 if at else 0.8, signal[at], f"{alpha:g}", **side)
    column[0].set(title=f"{name}, labelled by alpha", xlim=(-0.6, 9.6))
    column[1].set(xlabel="layer, input to output", xticks=range(1, 9))
axes[0, 0].set_ylabel("forward: variation of\nthe inputs h over samples")
axes[1, 0].set_ylabel("backward: size of δ\n(1 at the output)")
_ = fig.suptitle(
    "Sigmoid autoencoder before training: at Glorot's own alpha = 2 the signals die on the way", fontsize=9
)

# %% [markdown]
# At $\alpha = 2$ a fifty-thousandth of the backward signal reaches the first layer: gradient descent would train the
# top and leave the bottom as it was. The derivation took $f' \approx 1$, and a sigmoid has $f' \le 1/4$. So $\alpha$
# depends on the activation, and the thesis rightly treats it as a hyper-parameter. Where is it right?

# %%
alphas = 2.0 ** np.arange(-1, 10, 2 if QUICK else 1)
fig, axis = figure(height=3.4)
for activation, color in (("relu", ORANGE), ("tanh", BLUE), ("sigmoid", GREEN)):
    reach = []
    for alpha in alphas:
        runs = [signals(Glorot(alpha), activation, seed)[1] for seed in range(1 if QUICK else 3)]
        reach.append(np.mean([backward[0] / backward[-1] for backward in runs]))
    right = np.exp(np.interp(0, np.log(reach), np.log(alphas)))
    axis.loglog(alphas, reach, "o-", color=color, ms=3, label=f"{activation}: 1 at {right:.3g}")
    assert {"relu": 2 < right < 8, "tanh": 2 < right < 8, "sigmoid": right > 32}[activation]
axis.axhline(1, color="0.5", lw=0.8)
axis.set(xlabel=r"$\alpha$ of Glorot's scheme", ylabel="size of δ at the first\nlayer / at the output")
axis.set_title(
    "Each activation has its own α at which the backward signal arrives as it set out (mean of 3 seeds)", fontsize=9
)
label_ends(axis)

# %% [markdown]
# ## 8. What is different in the papers as printed
#
# Pascanu & Bengio:
#
# - Eq. 6 defines a loss without the minus sign: descending it would unlearn the data.
# - Eq. 9 and 24 have $\beta^2\, \mathbb E[J^\top J]$ where $\frac{1}{\beta^2}\, \mathbb E[J^\top J]$ must stand. By
#   their eq. 23, $\beta$ is a standard deviation; eq. 24 then puts $(t - y)^2$ for $\log p$ and drops
#   $\frac{1}{2 \beta^2}$. Their code has $\beta = 1$, where nobody can tell.
# - Eq. 14 lacks a minus before $\log p$: as printed, the matrix is negative.
# - Eq. 15 and 16 are right for $\lVert r - t \rVert^2$, whose Hessian is $2 I$; ours has 1/2 in front.
# - Eq. 21, second line, prints $\frac{\partial y_k}{\partial y_i} \frac{\partial y_k}{\partial r_j}$ for
#   $\big(\frac{\partial y_k}{\partial r_i}\big)^2$. The result is right.
#
# George:
#
# - A.1 and table 3.I give $\lVert f - y \rVert^2$ the Hessian $I$, one line below its gradient $2 (f - y)$. It is
#   $2 I$.
# - 3.2.1 has $\mathrm{KL} = d^\top F d$. It is half of that: section 4 measured 0.5.
# - B.1 has a minus too many in the score (the square hides it), and finds $\frac{1}{\sigma^2} I$ where table 3.II says
#   $I$.
# - B.3 begins with $\frac{\partial \log p}{\partial \theta} = y^\top \log f$; that is $\log p$ itself.
# - 3.2.5 says that the Gauss-Newton matrix depends on the target. So it does if the network is cut at $y$, as in A.2
#   and A.3. Cut at $r$, for matched pairs, it does not, and is the Fisher matrix.
# - 2.4.2 speaks of a default $\alpha$ for sigmoid units. Glorot & Bengio's derivation takes $f'(0) = 1$; see section 7.
#
# The numbers behind the lines that carry numbers, for one output:

# %%
g_printed, g_right = beta**2, sum(q * (t / beta**2) ** 2 for t, q in all_targets("Gaussian", np.zeros(1)))
print(f"eq. 9 at beta = 0.5: printed {g_printed}, the expectation over targets says {g_right.item():g} = 1 / beta^2")
close(g_right, 1 / beta**2)
log_p = lambda r: -Bernoulli().value(r, np.ones((1, 1)))
assert linearize(grad(log_p), np.ones((1, 1)))[1].dense().item() < 0  # eq. 14 as printed
quadratic_error = lambda f: np.sum((f - np.ones(2)) ** 2)
print("A.1:", linearize(grad(quadratic_error), np.zeros(2))[1].dense().tolist(), "instead of I")
close(linearize(grad(quadratic_error), np.zeros(2))[1].dense(), 2 * np.eye(2))
cut_at_y = [
    (t / 0.3**2 + (1 - t) / 0.7**2) * (0.3 * 0.7) ** 2 for t in (0, 1)
]  # George's D at y = 0.3, pulled back to r
print(f"3.2.5 at y = 0.3, t = 0 and 1: cut at y {cut_at_y[0]:.2f} and {cut_at_y[1]:.2f}; cut at r both {0.3 * 0.7:.2f}")
close(0.7 * cut_at_y[0] + 0.3 * cut_at_y[1], 0.3 * 0.7)  # in the mean over the model's targets they agree

# %% [markdown]
# ## 9. Exercises
#
# 1. Counts: $t \sim \mathrm{Poisson}(y)$ with $y = e^r$, loss $e^r - t r$. What is the metric in $r$? Write `metric(r)`
#    and call `check_exercise_1(metric)`.
# 2. For layers of equal width and a sigmoid at $a = 0$, which $\alpha$ of Glorot's scheme keeps the backward signal?
#    `check_exercise_2(alpha)`. Compare with the last figure: why is the measured one larger?


# %%
def check_exercise_1(metric):
    r, rng = np.array([-0.5, 0.0, 1.2]), np.random.default_rng(0)
    scores = rng.poisson(np.exp(r), size=(100_000, 3)) - np.exp(r)
    assert np.allclose(metric(r), (scores**2).mean(axis=0), rtol=0.03), "the mean square of d log p / dr = t - e^r"
    print("right")


def check_exercise_2(alpha):
    assert np.isclose(alpha, 32), "n Var(w) f'(0)^2 = 1 with Var(w) = alpha / 2n and f'(0) = 1/4"
    print("right")


# %% tags=["hide-input"]
# The checkers are checked too, with a right and a wrong answer each.
check_exercise_1(np.exp)
check_exercise_2(2 * 4**2)
for checker, wrong in ((check_exercise_1, lambda r: np.exp(-r)), (check_exercise_2, 2.0)):
    try:
        checker(wrong)
    except AssertionError:
        continue
    raise RuntimeError("a wrong answer was taken for right")
