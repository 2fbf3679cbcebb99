# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Curvature: six matrices that are nearly the same
#
# **The question.** A step $d$ needs a matrix that says how far it goes: the Hessian of the loss, the Gauss-Newton
# matrix, the Fisher information, a covariance of gradients. Papers pass from one to the other in half a sentence. Which
# of them are equal, when, and what changes when they are not?
#
# **The papers.** Pascanu & Bengio derive the Fisher metric for three kinds of outputs (eq. 9-11, appendix 8.1-8.2),
# show that the Gauss-Newton matrix of Hessian-free optimization is the same (section 7), and set it against the
# covariance of gradients of Le Roux et al. (section 4.1). George (3.1, 3.2) tells it again. The cut of the Hessian is
# Schraudolph's (2002), the learning-rate rule at the end LeCun, Simard & Pearlmutter's (1993).
#
# | in the papers | here | shape | what it is |
# |---|---|---|---|
# | $\mathbf H$ | `H` | (n, n) | Hessian of the loss in $\theta$ |
# | $\mathbf G_N$ (eq. 14) | `gauss_newton(...)` | (n, n) | $J^\top (\partial^2 \mathcal L / \partial r^2)\, J$ |
# | $\mathbf G$ (eq. 8) | `F`, exact | (n, n) | Fisher information: targets from the model, in expectation |
# | - | `mc` | (n, n) | the same, targets from the model, sampled |
# | $\mathbf U$ (eq. 13) | `U`, empirical | (n, n) | covariance of the gradients, uncentred: targets from the data |
# | $\mathbf C$ (eq. 12) | `C` | (n, n) | centred covariance of the gradients |
# | $\mathbf J_r$, $\mathbf J_y$ | `J`, `J_y` | (N O, n) | Jacobians of the outputs r and y |
# | $\mathbf H_{\mathcal L \circ r}$ | `loss.metric` | (O, O) a sample | Hessian of the loss in $r$ |

# %%
# %matplotlib inline
import os

import numpy as np

import minigrad
from minigrad.autodiff import grad, linearize
from minigrad.curvature import (
    block_diagonal,
    fisher,
    gauss_newton,
    gradient_covariance,
    hessian,
    per_sample_gradients,
)
from minigrad.linalg import largest_eigenvalue
from minigrad.losses import Bernoulli, Categorical, Gaussian
from minigrad.nets import mlp
from minigrad.optimizers import NaturalGradient
from minigrad.plot import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, figure, label_ends

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
minigrad.use("numpy")  # this chapter works on small host arrays, whatever backend is set
rng = np.random.default_rng(30)
close, norm = np.testing.assert_allclose, np.linalg.norm


def apart(A, B):
    """How far A is from B, relatively."""
    return norm(A - B) / norm(B)


def three(objective, theta, batch):
    """Hessian, Gauss-Newton cut at r, Gauss-Newton cut at y, as dense matrices."""
    operators = (hessian(objective, theta, batch), *(gauss_newton(objective, theta, batch, at=cut) for cut in "ry"))
    return [operator.dense() for operator in operators]


# %% [markdown]
# ## 1. The Hessian
#
# The Hessian is the Jacobian of the gradient, so one `linearize` of it is all we need (chapter 10). It is the matrix of
# Taylor's second term,
#
# $$ \mathcal L(\theta + d) = \mathcal L(\theta) + g^\top d + \tfrac12\, d^\top H d + O(\lVert d \rVert^3). $$

# %%
N, O, beta = 7, 3, 0.5
net = mlp([3, 4, O], activation="tanh")
theta, x = net.init(rng, dtype="float64"), rng.normal(size=(N, 3))
r = net.apply(theta, x)
losses = {"Gaussian": Gaussian(beta), "Bernoulli": Bernoulli(), "Categorical": Categorical()}
targets = {name: loss.sample(rng.normal(size=(N, O)), rng) for name, loss in losses.items()}  # not from our model
v = rng.normal(size=theta.size)
for name, loss in losses.items():
    objective, batch = minigrad.Objective(net, loss), (x, targets[name])
    H = hessian(objective, theta, batch)  # an operator; H @ v costs two sweeps
    value, g = objective.value_and_grad(theta, batch)
    taylor = lambda e, L=value, g=g, H=H: L + e * g @ v + e**2 / 2 * v @ (H @ v)
    rests = [abs(objective.value(theta + e * v, batch) - taylor(e)) for e in (2e-3, 1e-3)]
    lowest, *_, highest = np.linalg.eigvalsh(H.dense())
    print(f"{name:12} at half the step {rests[0] / rests[1]:.1f} times less remains", end="; ")
    print(f"eigenvalues {lowest:.2f} .. {highest:.2f}")
    assert 7 < rests[0] / rests[1] < 9 and lowest < 0

# %% [markdown]
# A Hessian has negative eigenvalues, and along them a Newton step climbs. So one keeps a part of it.
#
# ## 2. Gauss-Newton and a remainder
#
# Cut the computation in two, $\theta \to z \to \mathcal L$, and differentiate twice by the chain rule:
#
# $$ H = \underbrace{J_z^\top \frac{\partial^2 \mathcal L}{\partial z^2} J_z}_{\text{Gauss-Newton}} + \;
#    \underbrace{\sum_k \frac{\partial \mathcal L}{\partial z_k}
#    \frac{\partial^2 z_k}{\partial \theta^2}}_{\text{remainder}}. $$
#
# The first part is positive semi-definite if the loss is convex in $z$. But what is $z$? We may cut before the output
# activation, at $r$, or behind it, at $y$. Both are exact, and they are different cuts: the output activation's own
# curvature goes to the Gauss-Newton part in the first case, and to the remainder in the second.

# %%
one_hot = np.eye(O)[targets["Categorical"]]
rows = {**targets, "Categorical": one_hot}
loss_of_y = {
    "Gaussian": lambda y, t: np.sum((y - t) ** 2) / (2 * beta**2 * N),
    "Bernoulli": lambda y, t: -np.sum(t * np.log(y) + (1.0 - t) * np.log(1.0 - y)) / N,
    "Categorical": lambda y, t: -np.sum(t * np.log(y)) / N,
}


def remainder(f, cotangent, theta):
    """sum_k cotangent_k d2 f_k / dtheta2."""
    return linearize(grad(lambda theta: np.sum(cotangent * f(theta))), theta)[1].dense()


print("             |G| at r   at y   |remainder| at r   at y")
for name, loss in losses.items():
    objective, batch = minigrad.Objective(net, loss), (x, targets[name])
    y = loss.predict(r)
    at_r = remainder(lambda p: net.apply(p, x), loss.gradient(r, targets[name]), theta)
    dL_dy = grad(lambda y, f=loss_of_y[name], t=rows[name]: f(y, t))(y)
    at_y = remainder(lambda p, loss=loss: loss.predict(net.apply(p, x)), dL_dy, theta)
    H, G_r, G_y = three(objective, theta, batch)
    close(G_r + at_r, H, atol=1e-12)
    close(G_y + at_y, H, atol=1e-12)
    assert min(np.linalg.eigvalsh(G_r)[0], np.linalg.eigvalsh(G_y)[0]) > -1e-12
    print(f"{name:12} {norm(G_r):8.3f} {norm(G_y):6.3f} {norm(at_r):13.3f} {norm(at_y):10.3f}")

# %% [markdown]
# When does a remainder vanish? Where its second factor does, or its first.
#
# - *Second factor.* If $r$ is linear in $\theta$ (a net without hidden units), nothing remains at $r$; at $y$ the
#   sigmoid's and the softmax's curvature remains.
# - *First factor.* At $r$ it is $\frac1N (y - t)$, and vanishes where the fit is perfect. At $y$, by
#   $\frac{\partial \mathcal L}{\partial y_k} = -\frac{t_k}{y_k}$ (softmax), it does *not* vanish for a perfect fit of a
#   label: it tends to -1, and the remainder goes only because $y$ saturates.

# %%
flat = mlp([3, O])
theta_flat = flat.init(rng, dtype="float64")
for name, loss in losses.items():
    H, G_r, G_y = three(minigrad.Objective(flat, loss), theta_flat, (x, targets[name]))
    close(G_r, H, atol=1e-12)
    assert (apart(G_y, H) > 0.1) == (name != "Gaussian")
    print(f"{name:12} no hidden units: at y, Gauss-Newton is off the Hessian by {apart(G_y, H):.0%}")
bernoulli, gaussian = minigrad.Objective(net, Bernoulli()), minigrad.Objective(net, Gaussian(beta))
for objective in (bernoulli, gaussian):  # a perfect fit of targets that the model can hit
    H, G_r, G_y = three(objective, theta, (x, objective.predict(theta, x)))
    close(G_r, H, atol=1e-12)
    close(G_y, H, atol=1e-12)
sure = np.exp(40.0 * one_hot) / np.exp(40.0 * one_hot).sum(axis=1, keepdims=True)
close(grad(lambda y: loss_of_y["Categorical"](y, one_hot))(sure) * N, -one_hot, atol=1e-12)

# %% [markdown]
# ## 3. The metric, in r and in y
#
# Pascanu & Bengio (eq. 9-11) measure a change of the output distribution in $y$, Hessian-free optimizers in $r$.
# Chapter 20 has the metrics $M$ and $M_y$ of one output; pulled back to the parameters they are one matrix,
#
# $$ F = J_r^\top M J_r = J_y^\top M_y J_y, $$
#
# because $J_y = \frac{\partial y}{\partial r} J_r$. The right side is what the three lines of Theano in the paper's
# appendix compute. Here they are, with our R-op and L-op, beside the library and beside the definition: the
# expectation over all targets that the model might draw (eq. 8).

# %%
theano = {  # TT.Lop(out, params, TT.Rop(out, params, vs) / ...), appendix 8.3
    "Gaussian": lambda y, Jv: Jv / N,
    "Bernoulli": lambda y, Jv: Jv / (y * (1 - y) * N),
    "Categorical": lambda y, Jv: Jv / (y * N),
}
for name, loss in losses.items():
    objective = minigrad.Objective(net, loss)
    y, J_y = linearize(lambda p, loss=loss: loss.predict(net.apply(p, x)), theta)
    F = fisher(objective, theta, x)  # J' M J in r
    v = rng.normal(size=theta.size)
    Fv = J_y.lop(theano[name](y, J_y.rop(v))) / (beta**2 if name == "Gaussian" else 1)
    close(F @ v, Fv, rtol=1e-10)
    F_y = J_y.T @ loss.metric_y(y) @ J_y
    close(F_y.dense(), F.dense(), atol=1e-12)

# eq. 8, literally, for softmax outputs: every sample, every class, weighed by the model's own probability
soft = minigrad.Objective(net, Categorical())


def by_definition(objective, theta, x):
    y, F = objective.predict(theta, x), 0.0
    for k, probability in enumerate(y.T):
        scores = per_sample_gradients(objective, theta, (x, np.full(len(x), k))).dense()  # (N, n)
        F = F + (scores.T * probability) @ scores / len(x)
    return F


close(fisher(soft, theta, x).dense(), by_definition(soft, theta, x), atol=1e-14)

# %% [markdown]
# ## 4. Gauss-Newton is Fisher, and when it is not
#
# First, the Fisher information is an expected Hessian (appendix 8.1, eq. 22). Since $\sum_t p(t) = 1$ for every
# $\theta$, its second derivative is 0, and with $\frac{\partial^2 p}{\partial \theta^2} = p\, \big(
# \frac{\partial^2 \log p}{\partial \theta^2} + s s^\top \big)$, $s = \frac{\partial \log p}{\partial \theta}$,
#
# $$ \mathbb E_{t \sim p_\theta}\Big[ -\frac{\partial^2 \log p_\theta(t \mid x)}{\partial \theta^2} \Big] =
#    \mathbb E_{t \sim p_\theta}[s s^\top] = F. $$
#
# Now split the Hessian on the left at $r$. Its remainder has the factor $\frac{\partial \mathcal L}{\partial r} = y -
# t$, which is 0 in expectation, *for the model's own targets*. So the Gauss-Newton part alone has the expectation
# $F$. And for a matched pair its middle does not depend on $t$, so there is nothing to expect:
#
# $$ F = \mathbb E_t[H] = \mathbb E_t[G_N] = G_N. $$
#
# Three lines, and they replace the case-by-case of eq. 15-21.

# %%
expected_H, expected_G, y = 0.0, 0.0, soft.predict(theta, x)
for i in range(N):
    for k in range(O):
        one = (x[i : i + 1], np.array([k]))
        expected_H = expected_H + y[i, k] / N * hessian(soft, theta, one).dense()
        expected_G = expected_G + y[i, k] / N * gauss_newton(soft, theta, one, at="y").dense()
F = fisher(soft, theta, x).dense()
close(expected_H, F, atol=1e-14)
close(expected_G, F, atol=1e-14)  # cut at y: in expectation only
for name, loss in losses.items():
    objective = minigrad.Objective(net, loss)
    for t in (targets[name], loss.sample(r, rng)):  # whatever the targets
        close(gauss_newton(objective, theta, (x, t)).dense(), fisher(objective, theta, x).dense(), atol=1e-14)
batch = (x, targets["Categorical"])
G_y, U = gauss_newton(soft, theta, batch, at="y").dense(), gradient_covariance(soft, theta, batch).dense()
close(G_y, U, atol=1e-14)
print(f"cut at r: equal. Cut at y, with the data's labels: off the Fisher matrix by {apart(G_y, F):.0%}")

# %% [markdown]
# The last `close` is worth a pause. Cut at $y$, with one label a sample, the middle is $\frac{1}{y_t^2}$ at the
# label's place, the square of $\frac{\partial \mathcal L}{\partial y_t} = -\frac{1}{y_t}$. So that Gauss-Newton
# matrix *is* the empirical covariance $U$ (George, 3.1.5, finds the equality "unexpected"), and inherits what section
# 6 has to say of it.

# %% [markdown]
# **When it fails.** Squared error after a sigmoid is no matched pair. Cut at the pre-activation $a$, with
# $y = \sigma(a)$ and $y' = y (1 - y)$, the two middles differ (chapter 20, section 6):
#
# $$ \frac{\partial^2 \ell}{\partial a^2} = y'^2 + (y - t)\, y' (1 - 2 y), \qquad M = y'^2. $$
#
# Both $G_N$ cut at $a$ and $F$ exist, and only one of them is positive semi-definite. They still agree in expectation.

# %%
squashed = minigrad.Objective(mlp([3, 4, O], activation="tanh", output="sigmoid"), Gaussian())
a, J = linearize(lambda p: net.apply(p, x), theta)
y, t = Bernoulli().predict(a), Bernoulli().sample(-2 * a, rng)
J, slope = J.dense(), (y * (1 - y)).ravel()
middle = slope**2 + (y - t).ravel() * slope * (1 - 2 * y).ravel()
close(linearize(grad(lambda a: 0.5 * np.sum((Bernoulli().predict(a) - t) ** 2)), a)[1].diagonal(), middle, atol=1e-12)
cut_at_a, F = (J.T * middle) @ J / N, (J.T * slope**2) @ J / N
close(fisher(squashed, theta, x).dense(), F, atol=1e-14)
lowest = np.linalg.eigvalsh(cut_at_a)[0]
print(f"squared error after a sigmoid, cut at a: off F by {apart(cut_at_a, F):.0%}, lowest eigenvalue {lowest:.4f}")
assert lowest < -1e-3
above, below = (slope**2 + residual * slope * (1 - 2 * y).ravel() for residual in (1.0, -1.0))
close((above + below) / 2, slope**2)  # targets scattered around y: in expectation the middles agree

# %% [markdown]
# ## 5. All of them in twenty lines
#
# Every matrix so far is a product of `J`, something in the middle, and `J.T`; only the Hessian needs a second tape.
# None is formed. Then the library, which must agree.


# %%
def products(objective, theta, batch, rng):
    """{name: v -> matrix @ v} for a Categorical objective."""
    (x, t), loss = batch, objective.loss
    r, J = objective.linearize(theta, x)  # the network runs once
    n, y = len(x), loss.predict(r)
    sampled = loss.sample(r, rng)

    def outer(t):  # (1/N) sum_i g_i g_i', with g_i = J_i' s_i
        s = y - np.eye(y.shape[1])[t]
        return lambda v: J.lop(s * np.sum(s * J.rop(v), axis=1, keepdims=True)) / n

    def middle(v):  # J' (diag(y) - y y') J / N
        u = J.rop(v)
        return J.lop(y * (u - np.sum(y * u, axis=1, keepdims=True))) / n

    g = J.lop(y - np.eye(y.shape[1])[t]) / n
    H = linearize(grad(lambda p: objective.value(p, batch)), theta)[1]
    centred = lambda v: outer(t)(v) - g * (g @ v)
    return {"H": H.matvec, "F": middle, "mc": outer(sampled), "U": outer(t), "C": centred}


v = rng.normal(size=theta.size)
mine = products(soft, theta, batch, np.random.default_rng(1))
library = {
    "H": hessian(soft, theta, batch),
    "F": gauss_newton(soft, theta, batch),
    "mc": fisher(soft, theta, x, kind="mc", rng=np.random.default_rng(1)),
    "U": fisher(soft, theta, batch, kind="empirical"),
    "C": gradient_covariance(soft, theta, batch, centred=True),
}
for name, matrix in library.items():
    close(mine[name](v), matrix @ v, rtol=1e-10, atol=1e-14)
    print(f"v' {name:2} v = {v @ (matrix @ v):7.4f}   {matrix!r}")

# %% [markdown]
# ## 6. Exact, mc, empirical: what "empirical" changes
#
# The same outer products, three sources of targets. *mc* is unbiased: average over more draws, and its error falls with
# the root of their number. *empirical* takes the data's targets, and no number of them makes it the Fisher matrix,
# unless the data were drawn from the model.

# %%
F, drawn = fisher(soft, theta, x).dense(), (1, 8, 64)
errors = []
for samples in drawn:
    repeats = [fisher(soft, theta, x, "mc", rng=rng, samples=samples).dense() for _ in range(8)]
    errors.append(np.mean([apart(matrix, F) for matrix in repeats]))
    print(f"mc, {samples:2} draws an input: off by {errors[-1]:.3f}")
assert abs(np.polyfit(np.log(drawn), np.log(errors), 1)[0] + 0.5) < 0.15
print(f"empirical:             off by {apart(library['U'].dense(), F):.3f}")

# %% [markdown]
# To see it, take the smallest classifier: one input, a weight, a bias, a sigmoid. There the exact Fisher matrix *is*
# the Hessian, whatever the labels, so the black ellipses below are the true shape of the loss too. Each ellipse holds
# the steps of equal length, $\frac12 d^\top G d = 0.02$.

# %%
one = minigrad.Objective(mlp([1, 1]), Bernoulli())
inputs = rng.normal(size=(100, 1)) * 1.5
teacher = np.array([1.5, -0.5])  # weight, bias
labels = Bernoulli().sample(one.net.apply(teacher, inputs), rng)
certain = (inputs > 0).astype(float)  # labels without noise


def fitted(t, steps):
    """The fit after some steps of Newton's method."""
    theta = np.zeros(2)
    for _ in range(steps):
        g = one.value_and_grad(theta, (inputs, t))[1]
        theta = theta - np.linalg.solve(hessian(one, theta, (inputs, t)).dense(), g)
    return theta


def ellipse(axis, centre, G, color, **style):
    """The steps d with d'Gd / 2 = 0.02."""
    values, vectors = np.linalg.eigh(G)
    turn = np.linspace(0, 2 * np.pi, 200)
    ball = vectors @ (np.sqrt(0.04 / values)[:, None] * np.stack([np.cos(turn), np.sin(turn)]))
    axis.plot(centre[0] + ball[0], centre[1] + ball[1], color=color, **style)


scenes = {
    "far from the labels": (np.array([-1.0, 1.0]), labels),
    "fitted, labels with noise": (fitted(labels, 20), labels),
    "fitted, labels without noise": (fitted(certain, 4), certain),
}
fig, axes = figure(1, 3, height=3.0)
ratios = []
for axis, (title, (at, t)) in zip(axes, scenes.items()):
    F, U = fisher(one, at, inputs).dense(), fisher(one, at, (inputs, t), kind="empirical").dense()
    close(hessian(one, at, (inputs, t)).dense(), F, atol=1e-12)
    for _ in range(8):
        ellipse(axis, at, fisher(one, at, inputs, "mc", rng=rng).dense(), SKY, lw=0.7, alpha=0.8)
    reach = 1.4 * np.sqrt(0.04 * np.max([np.linalg.inv(U).diagonal(), np.linalg.inv(F).diagonal()], axis=0))
    ellipse(axis, at, U, PURPLE, lw=1.8)
    ellipse(axis, at, F, BLACK, lw=1.4)
    axis.set_title(title, fontsize=8)
    axis.set(xlabel="weight", xlim=(at[0] - reach[0], at[0] + reach[0]), ylim=(at[1] - reach[1], at[1] + reach[1]))
    ratios.append(np.linalg.eigvals(np.linalg.solve(F, U)))
    print(f"{title:34} empirical / exact, along the axes where they differ most: {np.sort(ratios[-1]).round(2)}")
axes[0].set_ylabel("bias")
_ = fig.suptitle(
    "Equal steps by the empirical (purple), the exact (black) and eight sampled matrices (blue)", fontsize=9
)
assert ratios[0].min() > 1.5 and ratios[2].max() < 0.8

# %% [markdown]
# In the middle the empirical matrix is one more draw from the model. On the left it is several times too large, because
# the model is surprised by its data, and a step by it is too short where it should be long. On the right it is too
# small, and its step too long: a model that is sure, and right, has gradients $(y - t)^2 = (1 - y)^2$ where its own
# draws have variance $y (1 - y)$. Let $y \to 1$, and the ratio of the two, $\frac{1 - y}{y}$, tends to 0.
#
# ## 7. Centred or not, and the ranks
#
# Le Roux et al. subtract the mean gradient, $C = U - g g^\top$ (eq. 12), and argue that $U$ serves as well, up to a
# constant. By the formula of Sherman and Morrison the two steps are exactly parallel, even with damping:
#
# $$ (U + \lambda I)^{-1} g = \frac{(C + \lambda I)^{-1} g}{1 + g^\top (C + \lambda I)^{-1} g}. $$
#
# The "constant" is a number that changes from step to step, and it caps what an uncentred step promises: its
# first-order gain $g^\top d$ stays below 1.

# %%
g, lam = soft.value_and_grad(theta, batch)[1], 1e-3
U, C = library["U"].dense(), library["C"].dense()
close(U - np.outer(g, g), C, atol=1e-14)
uncentred, centred = (np.linalg.solve(matrix + lam * np.eye(g.size), g) for matrix in (U, C))
close(uncentred, centred / (1 + g @ centred), rtol=1e-8)
print(f"the centred step is {norm(centred) / norm(uncentred):.0f} times as long, in the same direction")
assert g @ uncentred < 1 < g @ centred

# %% [markdown]
# A sum of outer products has at most as many dimensions as terms: $N$ for the covariance, $N O$ for the Fisher matrix
# (section 4.1 of the paper). Both bounds can be sharpened. The centred covariance loses one, because its vectors add
# up to 0. A softmax output loses one a sample: raise all $r_k$ together, and the distribution stays.
#
# $$ \operatorname{rank} U \le N, \quad \operatorname{rank} C \le N - 1, \quad \operatorname{rank} F \le N O,
#    \quad \text{for softmax } N (O - 1). $$

# %%
few = 4
wide = mlp([3, 6, O])
p = wide.init(rng, dtype="float64")
print(f"{few} samples, {O} outputs, {p.size} parameters")
for name, loss in losses.items():
    objective, some = minigrad.Objective(wide, loss), (x[:few], targets[name][:few])
    ranks = [
        np.linalg.matrix_rank(matrix.dense(), tol=1e-10, hermitian=True)
        for matrix in (
            gradient_covariance(objective, p, some),
            gradient_covariance(objective, p, some, centred=True),
            fisher(objective, p, some[0]),
            fisher(objective, p, some[0], kind="mc", rng=rng, samples=1),
        )
    ]
    print(f"{name:12} rank: U {ranks[0]}, C {ranks[1]}, F {ranks[2]:2}, mc with one draw {ranks[3]}")
    assert ranks == [few, few - 1, few * (O - (name == "Categorical")), few]

# %% [markdown]
# ## 8. Do they meet at convergence?
#
# "At convergence, $\mathbf U$, $\mathbf G$ and the Hessian are very similar" (section 4.1), since a label is then "a
# highly probable sample" of the model. The Hessian and the Fisher matrix differ by the remainder of section 2, whose
# factor $y - t$ averages out if the labels scatter around the fit. The covariance is $F$ if the labels scatter *as the
# model says they do*. That is another condition than being highly probable: where every label is nearly certain,
# section 6 sees $U / F$ go to 0. Let us train on both, labels drawn from a teacher's probabilities, and the same
# teacher's likeliest labels, without noise.


# %%
def distances(seed, noise, samples=500 if QUICK else 2000, updates=20 if QUICK else 40):
    """(updates, 2): how far U and H are from F while a net of the teacher's shape learns."""
    rng = np.random.default_rng(seed)
    objective, path = minigrad.Objective(mlp([2, 3, 1]), Bernoulli()), []
    teacher, x = 2.0 * objective.net.init(rng, dtype="float64"), 1.5 * rng.normal(size=(samples, 2))
    r = objective.net.apply(teacher, x)
    batch = (x, Bernoulli().sample(r, rng) if noise else (r > 0).astype(float))
    theta, optimizer = objective.net.init(rng, dtype="float64"), NaturalGradient()
    state = optimizer.init(objective, theta)
    for _ in range(updates):
        F = fisher(objective, theta, x).dense()
        others = fisher(objective, theta, batch, "empirical"), hessian(objective, theta, batch)
        path.append([apart(matrix.dense(), F) for matrix in others])
        theta, state, _ = optimizer.step(theta, state, objective, batch, None, None)
    return np.array(path)


seeds = range(1 if QUICK else 3)
fig, axes = figure(1, 2, height=3.2, sharey=True)
ends = {}
for axis, noise in zip(axes, (True, False)):
    paths = np.array([distances(seed, noise) for seed in seeds])
    for k, (label, color) in enumerate((("empirical U", PURPLE), ("Hessian H", BLACK))):
        axis.semilogy(np.median(paths[:, :, k], axis=0), color=color, label=label)
        axis.fill_between(range(paths.shape[1]), *np.quantile(paths[:, :, k], (0, 1), axis=0), color=color, alpha=0.12)
        ends[noise, label[-1]] = paths[:, -1, k]
    axis.set(xlabel="updates", xlim=(0, 1.42 * paths.shape[1]))
    axis.set_title("labels with the model's noise" if noise else "labels without noise", fontsize=8)
axes[0].set_ylabel("relative distance from the\nexact Fisher matrix")
fig.suptitle("With noise all three meet, as near as 2000 samples allow; without, the covariance stays away", fontsize=9)
for axis in axes:
    label_ends(axis)
for (noise, label), values in ends.items():
    print(f"{'with' if noise else 'without'} noise, {label} ends off F by {values.min():.2f} .. {values.max():.2f}")
if not QUICK:
    assert max(ends[True, "U"].max(), ends[True, "H"].max()) < 0.1 < 0.2 < ends[False, "U"].min()

# %% [markdown]
# (Median and range of three seeds.) With squared error the condition is as plain: if residuals have variance $s^2$
# and the loss says $\beta^2$, then $U \approx \frac{s^2}{\beta^2} F$. Whoever leaves $\beta = 1$ and fits to $s =
# 0.1$ has a "Fisher matrix" a hundred times too small.

# %%
line, inputs_1 = minigrad.Objective(mlp([1, 1]), Gaussian()), rng.normal(size=(4000, 1))
at = np.array([2.0, -1.0])
t = line.net.apply(at, inputs_1) + 0.1 * rng.normal(size=(4000, 1))
U, F = fisher(line, at, (inputs_1, t), kind="empirical").dense(), fisher(line, at, inputs_1).dense()
print(f"beta = 1, residuals of 0.1: U is {np.trace(U) / np.trace(F):.4f} times F")
close(U / 0.1**2, F, atol=0.1)

# %% [markdown]
# ## 9. Whose inputs: an unbalanced metric
#
# The metric is an expectation over inputs, and nothing forces them to be the training set's. Suppose that a share $q$
# of the metric's inputs are of class A, when the data have half of each:
#
# $$ F_q = q\, F_A + (1 - q)\, F_B. $$
#
# In directions that only A's outputs feel, a step of natural gradient scales with $1 / q$, and the distance that it
# moves A's distributions with $1 / q^2$; B's, with $1 / (1 - q)^2$. Pascanu & Bengio (section 3) conclude that for a
# large $q$ "we will move slower along any direction that affects A at the expense of B landing with higher
# probability on solutions θ* that favour predicting A". The first half follows from the formula. The second we try: a
# small softmax net, two overlapping clouds, five steps with gradients from balanced data.

# %%
J_A, J_B, g = np.zeros((6, 4)), np.zeros((6, 4)), rng.normal(size=4)
J_A[:, :2], J_B[:, 2:] = rng.normal(size=(6, 2)), rng.normal(size=(6, 2))  # each class has parameters of its own
even, tilted = (np.linalg.solve(q * J_A.T @ J_A + (1 - q) * J_B.T @ J_B, -g) for q in (1 / 2, 2 / 3))
close(tilted / even, [3 / 4, 3 / 4, 3 / 2, 3 / 2])


def unbalanced(seed, q, steps=5, n=200):
    """Mean KL that the first step moves A and B by; the loss on A and on B after five."""
    rng, t = np.random.default_rng(seed), np.arange(2 * n) % 2
    x = rng.normal(size=(2 * n, 2)) + np.where(t == 0, -1.0, 1.0)[:, None] * np.array([1.0, 0.0])
    objective = minigrad.Objective(mlp([2, 8, 2]), Categorical())
    start = theta = objective.net.init(rng, dtype="float64")
    for step in range(steps):
        g = objective.value_and_grad(theta, (x, t))[1]
        F = q * by_definition(objective, theta, x[t == 0]) + (1 - q) * by_definition(objective, theta, x[t == 1])
        theta = theta - 0.2 * np.linalg.solve(F + 1e-2 * np.eye(theta.size), g)
        if step == 0:
            r, s = objective.net.apply(start, x), objective.net.apply(theta, x)
            moved = [objective.loss.kl(r[t == c], s[t == c]) for c in (0, 1)]
    return moved + [objective.value(theta, (x[t == c], t[t == c])) for c in (0, 1)]


shares = np.array([0.2, 0.5, 0.8]) if QUICK else np.linspace(0.1, 0.9, 7)
table = np.array([[unbalanced(seed, q) for q in shares] for seed in range(3 if QUICK else 20)])
table[:, :, :2] /= table[:, [len(shares) // 2], :2]  # relative to the balanced metric
fig, axes = figure(1, 2, height=3.1)
fine = np.linspace(0.1, 0.9, 50)
for k, (axis, color, label) in enumerate(zip([*axes[[0, 0]], *axes[[1, 1]]], (BLUE, ORANGE) * 2, "ABAB")):
    mean, error = table[:, :, k].mean(axis=0), 2 * table[:, :, k].std(axis=0) / np.sqrt(len(table))
    axis.plot(shares, mean, "o-", color=color, ms=3, label=f"class {label}")
    axis.fill_between(shares, mean - error, mean + error, color=color, alpha=0.2)
axes[0].plot(fine, (0.5 / fine) ** 2, "--", color=BLUE, lw=0.9)
axes[0].plot(fine, (0.5 / (1 - fine)) ** 2, "--", color=ORANGE, lw=0.9)
axes[0].set(yscale="log", ylabel="KL moved by the first step\n(1: with a balanced metric)")
axes[1].set_ylabel("loss after five steps (nats)")
for axis in axes:
    axis.set(xlabel="share q of class A in the metric", xlim=(0.08, 1.12))
fig.suptitle("The class that the metric sees more of moves less, and is learned later", fontsize=9)
for axis in axes:
    label_ends(axis)
favour = table[:, -1, 2] - table[:, -1, 3]
print(f"share {shares[-1]:.1f}: after five steps A's loss is the larger in {np.mean(favour > 0):.0%} of the seeds")
assert (favour > 0).mean() > 0.9

# %% [markdown]
# (Bands: two standard errors over 20 seeds. Dashed: the formula, for classes that share no parameter; these share
# many, and at q = 0.9 the long steps that B is allowed move A as well.) A does move slower than B. But just so the
# model comes to favour *B*, since A is learned later, in every one of the 20 seeds. What a larger share of A protects
# is what the model already does on A.
#
# ## 10. Blocks
#
# $\theta$ is a stack of layers, so each matrix is a table of blocks. K-FAC and its kin keep only those on the diagonal.
# For relu networks there is a fact worth knowing: in the weights of *one* layer, $r$ is piecewise linear, so within the
# diagonal blocks the remainder of section 2 is exactly zero:
#
# $$ H_{ll} = (G_N)_{ll} \quad \text{for every layer } l \text{ of a relu net.} $$

# %%
rectified = minigrad.Objective(mlp([5, 6, 5, 3], activation="relu"), Categorical())
p, xs = rectified.net.init(rng, dtype="float64"), rng.normal(size=(40, 5))
labels_3 = rng.integers(0, 3, 40)
H, F = hessian(rectified, p, (xs, labels_3)).dense(), fisher(rectified, p, xs).dense()
spans = list(rectified.layout.slices.values())
inside = np.zeros_like(F, dtype=bool)
for span in spans:
    inside[span, span] = True
close(H[inside], F[inside], atol=1e-14)
close(block_diagonal(fisher(rectified, p, xs), rectified.layout).dense(), np.where(inside, F, 0.0), atol=1e-14)

fig, axes = figure(1, 3, height=2.8)
for axis, matrix, title in zip(axes, (H, F, H - F), ("|Hessian|", "|Gauss-Newton| = |Fisher|", "|remainder|")):
    image = axis.imshow(np.log10(np.clip(abs(matrix), 1e-5, None)), cmap="magma", vmin=-5, vmax=-0.5)
    for span in spans[1:]:
        axis.axhline(span.start - 0.5, color="w", lw=0.8)
        axis.axvline(span.start - 0.5, color="w", lw=0.8)
    middles = [(span.start + span.stop) / 2 for span in spans]
    axis.set_title(title, fontsize=8)
    axis.set(xticks=middles, yticks=middles, xticklabels="123", yticklabels="123", xlabel="layer")
    axis.grid(False)
axes[0].set_ylabel("layer")
fig.colorbar(image, ax=axes, label=r"$\log_{10}$ of the entry", shrink=0.8)
_ = fig.suptitle("In a relu net the remainder lives between the layers, never within one", fontsize=9)
print(f"share of the squared entries inside the blocks: Hessian {(H[inside] ** 2).sum() / (H**2).sum():.0%}, ", end="")
print(f"Fisher {(F[inside] ** 2).sum() / (F**2).sum():.0%}")

# %% [markdown]
# ## 11. The spectrum, and the largest learning rate
#
# On a quadratic $\frac12 (\theta - \theta^*)^\top G (\theta - \theta^*)$, gradient descent multiplies the error along
# each eigenvector, with eigenvalue $\lambda_i$, by
#
# $$ 1 - \eta\, \lambda_i, \qquad \text{and this explodes for } \eta > \frac{2}{\lambda_{\max}}. $$
#
# At LeCun's $\eta = 1 / \lambda_{\max}$ the steepest direction is solved in one step; the flattest needs about
# $\lambda_{\max} / \lambda_{\min}$ of them. That is why curvature is worth its price. $\lambda_{\max}$ itself is
# cheap: multiply any vector again and again (LeCun, Simard & Pearlmutter 1993).

# %%
G = fisher(rectified, p, xs)
v = rng.normal(size=p.size)
for _ in range(200):
    v = G @ (v / norm(v))  # its length tends to the largest eigenvalue
spectrum = np.linalg.eigvalsh(G.dense())
close(norm(v), spectrum[-1], rtol=1e-6)
close(largest_eigenvalue(G, rng), spectrum[-1], rtol=1e-3)  # the library's, by Lanczos: fewer products
rates = np.linspace(0.2, 2.4, 45)
e = np.linalg.eigh(G.dense())[1].sum(axis=1)  # an error with a share along every eigenvector
matrix = G.dense()
value = lambda e: 0.5 * e @ (matrix @ e)
after = []
for rate in rates:
    error = e
    for _ in range(50):
        error = error - rate / spectrum[-1] * (matrix @ error)
    after.append(value(error) / value(e))

fig, axes = figure(1, 2, height=3.0)
order = np.arange(1, p.size + 1)
axes[0].semilogy(order, np.sort(np.clip(spectrum, 1e-9, None))[::-1], ".", color=VERMILLION, ms=3)
eigenvalues = np.linalg.eigvalsh(H)
axes[0].semilogy(order, np.clip(eigenvalues[::-1], 1e-9, None), ".", color=BLACK, ms=3)
axes[0].semilogy(order, np.clip(-eigenvalues[::-1], 1e-9, None), ".", color=GREY, ms=3)
axes[0].text(18, 0.4, "Hessian, positive", color=BLACK)
axes[0].text(68, 2e-4, "Hessian,\nnegative", color=GREY)
axes[0].text(3, 3e-5, "Gauss-Newton", color=VERMILLION)
axes[0].set(xlabel="rank", ylabel="eigenvalue", ylim=(1e-6, 2))
axes[1].semilogy(rates, after, color=GREEN)
axes[1].axvline(2, color=GREY, lw=0.9, ls="--")
axes[1].set(xlabel=r"learning rate $\times\ \lambda_{max}$", ylabel="quadratic after 50 steps\n(1: at the start)")
axes[1].set(ylim=(1e-3, 1e3))
_ = fig.suptitle(
    "Eigenvalues over many decades; gradient descent can go only as fast as the largest allows", fontsize=9
)
assert max(np.array(after)[rates < 1.99]) < 1 < min(np.array(after)[rates > 2.1])

# %% [markdown]
# ## 12. What is different in the papers as printed
#
# Pascanu & Bengio:
#
# - Section 4.2 writes the metric as the expectation of $\frac{\partial^2 p}{\partial \theta^2}$, or of
#   $\big(\frac{\partial p}{\partial \theta}\big)^\top \frac{\partial p}{\partial \theta}$. Both need $\log p$, the
#   first a minus too, as eq. 3 and 4 have them.
# - Eq. 24, from its second line to its third, loses the factor 4 of
#   $\big(\frac{\partial (t - y)^2}{\partial y}\big)^2 = 4 (t - y)^2$.
# - Eq. 19 differentiates $\sum_k (t_k \phi(r_i) - t_i)$. The sum ends before the minus; as printed, $t_i$ counts $O$
#   times. The derivative that follows is right.
# - Section 4.1 expects $\mathbf U \approx \mathbf G$ when labels are "highly probable" under the model. They agree when
#   labels are as *improbable* as the model says: sections 6 and 8.
# - Section 4.1, the rank of $\mathbf G$: $n \times o$ is a bound, for softmax $n \times (o - 1)$: section 7.
# - Section 3, on an unbalanced metric: the conclusion is the other way round here, in 20 of 20 seeds: section 9.
#
# George:
#
# - 3.1.4: the remainder "will go toward 0 as it is a first derivative". Cut at $y$, under cross-entropy, that
#   derivative tends to -1 as the fit gets perfect: section 2.
# - 3.1.5: $\sqrt D = -\partial l / \partial f$ for both cross-entropies; where a binary target is 0 the sign is plus.
#   The square hides it.
# - 3.2.3 calls $\frac1n \sum_i J^\top D(y(x_i)) J$ an "empirical FIM". Its inputs are data, but no target enters: it
#   is the exact one of this book.

# %%
y, t = 0.3, np.array([1.0, 0.0])
p, dp = np.array([y, 1 - y]), np.array([1.0, -1.0]) * y * (1 - y)  # probabilities of t = 1 and 0; their slopes in r
d2p = dp * (1 - 2 * y)
print(f"section 4.2, sigmoid, y = 0.3: E[p'^2] = {p @ dp**2:.4f}, E[p''] = {p @ d2p:.4f}, ", end="")
print(f"E[(log p)'^2] = {p @ (dp / p) ** 2:.2f}, E[-(log p)''] = {-p @ (d2p / p - (dp / p) ** 2):.2f}")
close(p @ (dp / p) ** 2, y * (1 - y))
close(-p @ (d2p / p - (dp / p) ** 2), y * (1 - y))
nodes, weights = np.polynomial.hermite_e.hermegauss(5)
mean_square = (weights / weights.sum()) @ (2 * beta * nodes) ** 2
print(f"eq. 24 at beta = {beta}: second line {mean_square:.2f}, third {beta**2:.2f}, the metric {1 / beta**2:.2f}")
phi, label = np.array([0.2, 0.5, 0.3]), np.array([0.0, 1.0, 0.0])
print("eq. 19, gradient in r:  as printed", label.sum() * phi - O * label, "  right", label.sum() * phi - label)
close(Categorical().gradient(np.log(phi)[None], np.array([1]))[0], phi - label)
for binary in (1.0, 0.0):
    slope, root = -binary / y + (1 - binary) / (1 - y), np.sqrt(binary / y**2 + (1 - binary) / (1 - y) ** 2)
    print(f"3.1.5, target {binary:.0f}: sqrt(D) / (-dl/df) = {root / -slope:.0f}")

# %% [markdown]
# ## 13. Exercises
#
# 1. A softmax net with 10 outputs and a million parameters; 20 samples. What are the largest possible ranks of the
#    exact Fisher matrix, the centred covariance, and the mc Fisher matrix with 3 draws an input?
#    `check_exercise_1(exact, centred, mc)`.
# 2. Poisson targets: $y = e^r$, $\ell = e^r - t r$. Write the middle of the Gauss-Newton matrix cut at $y$,
#    `middle(y, t)`, pulled back to $r$, and see that its mean over the model's targets is the one cut at $r$.
#    `check_exercise_2(middle)`.
# 3. Two networks, relu and tanh, the same batch. For which are Newton's method and Gauss-Newton the same if all layers
#    but one are frozen? `check_exercise_3("relu")` or `"tanh"`.


# %%
def check_exercise_1(exact, centred, mc):
    assert exact == 20 * 9, "N (O - 1): a softmax does not feel the mean of r"
    assert centred == 19, "N vectors that add up to 0"
    assert mc == 60, "one vector a draw and input, while that is less than N (O - 1)"
    print("right")


def check_exercise_2(middle):
    y, draws = 1.7, np.random.default_rng(0).poisson(1.7, size=200_000)
    assert np.isclose(middle(y, 3), 3), "d2/dy2 of y - t log y is t / y^2; pulled back it meets (dy/dr)^2 = y^2"
    assert np.isclose(np.mean(middle(y, draws)), y, rtol=0.01), "its mean is y, the Hessian in r"
    print("right")


def check_exercise_3(activation):
    gaps = {}
    for name in ("relu", "tanh"):
        objective = minigrad.Objective(mlp([3, 5, 4, 2], activation=name), Categorical())
        theta = objective.net.init(np.random.default_rng(2), dtype="float64")
        batch = (np.random.default_rng(3).normal(size=(20, 3)), np.arange(20) % 2)
        span = objective.layout.slices["layer1"]
        H, G = hessian(objective, theta, batch).dense(), gauss_newton(objective, theta, batch).dense()
        gaps[name] = apart(H[span, span], G[span, span])
    assert gaps[activation] < 1e-10, f"the layer's blocks differ by {gaps[activation]:.0%}: see section 10"
    print("right")


# %% tags=["hide-input"]
# The checkers are checked too, with a right and a wrong answer each.
check_exercise_1(180, 19, 60)
check_exercise_2(lambda y, t: t / y**2 * y**2)
check_exercise_3("relu")
wrong_answers = {
    check_exercise_1: (200, 20, 60),
    check_exercise_2: (lambda y, t: t / y**2,),
    check_exercise_3: ("tanh",),
}
for checker, wrong in wrong_answers.items():
    try:
        checker(*wrong)
    except AssertionError:
        continue
    raise RuntimeError("a wrong answer was taken for right")
