# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Convolution and recurrence
#
# **The question.** The papers train convolutional nets and an LSTM. Do the two passes, the Gauss-Newton product and the
# layers' curvature need anything new for them?
#
# **The answer.** One word: *rows*. A convolution is an affine layer whose rows are patches of the image, an LSTM is an
# affine layer in a loop. In both, several rows of one sample meet the same matrix, and all that changes is one more
# sum.
#
# **The papers.** The nets are those of Pascanu & Bengio (sections 8.6, 8.7), Desjardins et al. (section 4.3), Benjamin
# et al. 2018 and 2019. Curvature of shared weights: Grosse & Martens 2016 (convolution), Martens et al. 2018
# (recurrence), Eschenhagen et al. 2023 (both, and the names *expand* and *reduce*).
#
# | | here | shape | what it is |
# |---|---|---|---|
# | image | `x` | (N, H, W, C) | channels last |
# | patch | row of `p` | (kh kw C,) | what the window sees at one place, in the order row, column, channel |
# | kernel | `W` | (kh kw C + 1, out) | an affine layer's matrix, its last row the bias |
# | $h_t$, $\delta_t$ | rows of `h`, `delta` | (in,), (out,) | the $t$-th row of a sample: its input, its cotangent |
# | $T$ | `T` | number | rows a sample has: places, or steps |
# | $A$, $S$ | `A`, `S` | (in + 1, in + 1), (out, out) | Kronecker factors |

# %%
# %matplotlib inline
import os

import matplotlib.pyplot as plt
import numpy as np

import minigrad
from minigrad import experiments
from minigrad.autodiff import check, linearize, ops
from minigrad.autodiff.conv import Window, convolution, global_average, max_pool, patches
from minigrad.curvature import affine_layers, fisher, kronecker_factors, pixel_moments
from minigrad.data import images, mnist
from minigrad.losses import Categorical, Gaussian
from minigrad.nets import Convolution, Dense, Glorot, Layout, MaxPool, WhitenedNet, convnet, lstm, whitening
from minigrad.optimizers import KFAC, PRONG, SGD, LevenbergMarquardt
from minigrad.plot import BLUE, GREY, ORANGE, VERMILLION, figure, label_ends

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
minigrad.use("numpy")
rng = np.random.default_rng(58)
close = np.testing.assert_allclose

# %% [markdown]
# ## 1. A convolution is an affine layer on patches
#
# A window of $k_h \times k_w$ pixels slides over the image. At each place $t$ it sees a patch, a row of $k_h k_w C$
# numbers, and the layer is what it always was, with a row for each place:
#
# $$ a_t = (p_t\ 1)\, W . $$
#
# (The field says convolution and means correlation: the kernel is not turned around.) Here is a digit, the rows that a
# $9 \times 9$ window with stride 5 makes of it, and what one kernel, a dark bar on bright ground, answers everywhere.

# %%
x_train, t_train = mnist()[0]
digit = images(x_train[:1].astype(float), 1)
window = Window(9, stride=5)
p = patches(digit, window)
bar = np.zeros((9, 9))
bar[:, 3:6], bar[:, :2], bar[:, 7:] = 1, -1, -1
W = np.append(bar.ravel(), 0.0)[:, None]
answer = convolution(digit, W, Window(9), name="bars")

fig, axes = plt.subplots(1, 3, figsize=(6.6, 2.2), width_ratios=[1, 2.4, 1], layout="constrained")
axes[0].imshow(digit[0, :, :, 0], cmap="gray_r")
axes[0].set_title("an image", fontsize=9)
axes[1].imshow(p[0].reshape(-1, 81), cmap="gray_r", aspect="auto")
axes[1].set_title(f"its {p[0, ..., 0].size} patches, one a row", fontsize=9)
axes[2].imshow(answer[0, :, :, 0], cmap="PuOr", vmin=-abs(answer).max(), vmax=abs(answer).max())
axes[2].set_title("a kernel's answer", fontsize=9)
for ax in axes:
    ax.set(xticks=[], yticks=[])

# %% [markdown]
# By loops over places and pixels, the same:

# %%
by_hand = np.zeros((5, 4, 3))
x, kernel, bias = rng.normal(size=(7, 6, 2)), rng.normal(size=(3, 3, 2, 3)), rng.normal(size=3)
for i in range(5):
    for j in range(4):
        for o in range(3):
            by_hand[i, j, o] = (x[i : i + 3, j : j + 3] * kernel[..., o]).sum() + bias[o]
W = np.vstack([kernel.reshape(-1, 3), bias])
close(convolution(x[None], W, 3)[0], by_hand, rtol=1e-12)
close(ops.affine(patches(x[None], Window(3)), W)[0], by_hand, rtol=1e-12)

# %% [markdown]
# ## 2. The two passes
#
# Patches are a linear map of the image, one that copies numbers. Its transpose adds each number up on the pixel it was
# copied from: *fold*. That is all that R-op and L-op need.
#
# $$ \langle u, \operatorname{patches}(x) \rangle = \langle \operatorname{fold}(u), x \rangle $$

# %%
z, J = linearize(lambda x: patches(x, Window(3, stride=2, padding=1)), x[None])
u, v = rng.normal(size=z.shape), rng.normal(size=(1, *x.shape))
close((u * J.rop(v)).sum(), (J.lop(u) * v).sum())
close(J.rop(v), patches(v, Window(3, stride=2, padding=1)))

# %% [markdown]
# Patches repeat each pixel up to $k_h k_w$ times: in the second layer of the MNIST net below, 11 times. So the library
# does not keep them. It looks at the whole layer as one form in three arguments,
#
# $$ f(x, W, u) = \langle u, \operatorname{patches}(x)\, W \rangle , $$
#
# linear in each. Leave out one argument, and what remains is the answer to a question: without $u$, the
# pre-activations; without $W$, the gradient of the weights, $\operatorname{patches}(x)^\top u$; without $x$, the
# cotangent of the image, $\operatorname{fold}(u W^\top)$. And the derivative of each of the three, in either argument,
# is another of the three. So three functions, each of which makes patches for a few samples at a time, are closed under
# differentiation, as often as one likes. The R-op, with a tangent for image and weights at once, is the product rule:

# %%
same = Window(3, padding=1)
x, W = rng.normal(size=(2, 5, 5, 2)), rng.normal(size=(19, 4))
dx, dW = rng.normal(size=x.shape), rng.normal(size=W.shape)
split = lambda z: (z[: x.size].reshape(x.shape), z[x.size :].reshape(W.shape))
layer = lambda z: convolution(*split(z), same)
a, J = linearize(layer, np.append(x, W))
no_bias = np.vstack([W[:-1], np.zeros(4)])
close(J.rop(np.append(dx, dW)), convolution(dx, no_bias, same) + convolution(x, dW, same), rtol=1e-12)
u = rng.normal(size=a.shape)
rows_of_u = u.reshape(-1, 4)
to_image, to_weights = split(J.lop(u))
close(to_weights[:-1], patches(x, same).reshape(-1, 18).T @ rows_of_u, rtol=1e-12)
close(to_weights[-1], rows_of_u.sum(axis=0))
close((to_image * dx).sum(), (u * convolution(dx, no_bias, same)).sum())
check.derivatives(layer, np.append(x, W), smooth=True)  # R-op, L-op and both again, against finite differences

# %% [markdown]
# Max pooling picks, at each place and in each channel, one of the numbers that its window sees. Which one is decided
# once, while the tape records; then it is a linear map like the others: the R-op picks from the tangent what was picked
# from the value, the L-op puts the cotangent back there.

# %%
maps = rng.normal(size=(1, 4, 4, 1))
y, J = linearize(lambda x: max_pool(x, 2), maps)
close(J.rop(maps), y)  # what is picked from the value itself is the value
assert ((J.lop(np.ones_like(y)) != 0) == np.isin(maps, y)).all()

# %% [markdown]
# ## 3. An LSTM is an affine layer in a loop
#
# At each step the input and the last hidden state meet one matrix, and a cell makes four gates of what comes out:
#
# $$ (i, f, o, g) = (x_t\ h_{t-1}\ 1)\, W, \qquad
#    c_t = \sigma(f)\, c_{t-1} + \sigma(i) \tanh(g), \qquad h_t = \sigma(o) \tanh(c_t) . $$


# %%
def by_steps(W, out, x, hidden):
    """The net, in NumPy, step by step; samples are rows."""
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    h = c = np.zeros((len(x), hidden))
    for t in range(x.shape[1]):
        i, f, o, g = np.split(np.hstack([x[:, t], h]) @ W[:-1] + W[-1], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h @ out[:-1] + out[-1]


toy = lstm(2, 5, 3)
theta, x = toy.init(rng, "float64"), rng.normal(size=(4, 6, 2))
p = toy.layout.views(theta)
close(toy.apply(theta, x), by_steps(p["lstm"], p["output"], x, 5), rtol=1e-12)
check.derivatives(lambda theta: toy.apply(theta, x), theta, smooth=True)

# %% [markdown]
# The tape holds every step, three operations each: memory grows with the length of the sequence and no faster,
# and a backward sweep passes every step once, last step first. What it carries shows how far back the net can learn
# from. The forget gate decides that: where $\sigma(f)$ is a half, the cell forgets half of itself at each step.

# %%
steps = 40
long = rng.normal(size=(20, steps, 2))
fig, ax = figure(height=2.6)
for bias, colour in ((0.0, GREY), (1.0, BLUE), (3.0, VERMILLION)):
    net = lstm(2, 16, 3)
    theta = net.init(np.random.default_rng(1), "float64")
    net.layout.views(theta)["lstm"][-1, 16:32] = bias
    r, J = minigrad.Objective(net, Categorical()).linearize(theta, long)
    delta = affine_layers(J, rng.normal(size=r.shape))[0].delta  # (N, T, 4 H)
    ax.semilogy(np.arange(steps), np.linalg.norm(delta, axis=(0, 2)), color=colour, label=f"forget bias {bias:g}")
ax.set(xlabel="step", ylabel="$|\\delta_t|$")
ax.set_title("How much of the last step's cotangent arrives at earlier steps", fontsize=9)
label_ends(ax)

# %% [markdown]
# ## 4. Curvature: the same Kronecker story, with one more sum
#
# Row $t$ of a sample adds $(h_t\ 1)^\top \delta_t$ to its gradient, so
#
# $$ \text{gradient of a sample} = \sum_{t=1}^{T} (h_t\ 1)^\top \delta_t , \qquad
#    B = \mathbb E\Big[ \sum_{s,t} H_{st} \otimes D_{st} \Big], \quad
#    H_{st} = (h_s\ 1)^\top (h_t\ 1),\ D_{st} = \delta_s^\top \delta_t , $$
#
# $T^2$ Kronecker products a sample, where there was one. To get back to one, *expand* keeps the pairs with $s = t$ and
# takes input and cotangent for independent, as K-FAC does; *reduce* takes a sample's rows for so alike that their mean
# stands for each:
#
# $$ \text{expand:}\quad A = \tfrac1T\, \mathbb E \Big[ \sum_t H_{tt} \Big], \qquad
#    S = \mathbb E \Big[ \sum_t D_{tt} \Big] $$
#
# $$ \text{reduce:}\quad A = \mathbb E \big[ (\bar h\ 1)^\top (\bar h\ 1) \big], \qquad
#    S = \mathbb E \big[ \bar\delta^\top \bar\delta \big], \qquad
#    \bar h = \tfrac1T \sum_t h_t, \quad \bar\delta = \sum_t \delta_t . $$
#
# Where does each $1/T$ come from? In *expand*, from $\sum_t \mathbb E[H_{tt}] \otimes \mathbb E[D_{tt}]$: a sum of
# products is taken for $T$ times the product of the two means over $t$, $T \cdot \frac{\sum H}{T} \otimes \frac{\sum
# D}{T}$, and one of the three remains. Here $A$ has it; Grosse & Martens leave it with $S$. In *reduce* it is that of
# the mean $\bar h$.


# %%
def block_and_factors(function, shapes, x, loss, name="w"):
    """The layer's block of the exact Fisher information, dense, and its factors, expanded and reduced."""

    class Net:
        layout = Layout(shapes)

        def apply(self, theta, x):
            return function(self.layout.views(theta), x)

    objective, theta = minigrad.Objective(Net(), loss), 0.5 * rng.normal(size=Net.layout.size)
    where = Net.layout.slices[name]
    B = fisher(objective, theta, x).dense()[where, where]
    factors = {way: kronecker_factors(objective, theta, x, shared=way)[0] for way in ("expand", "reduce")}
    r, J = objective.linearize(theta, x)
    h = affine_layers(J, np.ones_like(r))[0].h
    return B, {way: f.block.dense() for way, f in factors.items()}, factors, h


def small(p, x):
    """A convolution of 4 x 4 images, then an affine layer."""
    h = ops.tanh(convolution(x, p["w"], Window(3, padding=1), name="w"))
    return ops.affine(ops.reshape(h, (len(x), -1)), p["out"], name="out")


x = rng.normal(size=(30, 4, 4, 1))
B, blocks, factors, h = block_and_factors(small, {"w": (10, 2), "out": (33, 3)}, x, Categorical())
h1 = np.concatenate([h, np.ones_like(h[..., :1])], axis=-1)
close(factors["expand"].A, np.einsum("nti,ntj->ij", h1, h1) / len(x) / 16)
close(factors["reduce"].A, h1.mean(axis=1).T @ h1.mean(axis=1) / len(x))

fig, axes = plt.subplots(1, 3, figsize=(6.6, 2.4), layout="constrained")
for ax, (title, matrix) in zip(axes, {"the block": B, **blocks}.items(), strict=True):
    ax.imshow(abs(matrix) ** 0.5, cmap="gray_r", vmin=0, vmax=abs(B).max() ** 0.5)
    off = np.linalg.norm(matrix - B) / np.linalg.norm(B)
    ax.set_title(title if matrix is B else f"{title}: off by {100 * off:.0f} %", fontsize=9)
    ax.set(xticks=[], yticks=[])

# %% [markdown]
# Each is exactly right somewhere, and there the other is wrong:
#
# - *expand*, for linear nets under squared error whose rows have outputs (so losses) of their own;
# - *reduce*, for linear nets under squared error whose rows are averaged at the end.

# %%
apart = lambda p, x: ops.reshape(convolution(x, p["w"], Window(2, stride=2), name="w"), (len(x), -1))
averaged = lambda p, x: global_average(convolution(x, p["w"], Window(2), name="w"))
for title, function, right in (("a loss for each row", apart, "expand"), ("rows averaged", averaged, "reduce")):
    B, blocks, *_ = block_and_factors(function, {"w": (5, 3)}, x, Gaussian())
    off = {way: np.linalg.norm(block - B) / np.linalg.norm(B) for way, block in blocks.items()}
    print(f"{title:20}", "  ".join(f"{way}: {error:.0e}" for way, error in off.items()))
    assert [way for way, error in off.items() if error < 1e-12] == [right]

# %% [markdown]
# The samples' gradients themselves, which TONGA, EKFAC's diagonal and the empirical Fisher need, are the sums over
# rows, a few samples at a time.
#
# ## 5. Whitening pixels
#
# PRONG whitens a layer's input by $U$, from the covariance of what comes in (chapter 70). For a convolution the paper
# treats the pixels of the maps as samples: one $C \times C$ matrix whitens all pixels alike, a $1 \times 1$ convolution
# in front of the layer's. In the layer's own coordinates $U^\top$ stands in $B$ once for each pixel of a patch,
#
# $$ \theta = \begin{pmatrix} I_{k_h k_w} \otimes U^\top & 0 \\ -(\mathbf 1 \otimes c)^\top (I \otimes U^\top) & 1
#    \end{pmatrix} \Omega . $$
#
# One thing is easy to get wrong. A pixel $x$ becomes $(x - c)\, U^\top$; so the zeros around an image become $-c\,
# U^\top$, and that is what must stand there: pad first, then whiten. Whitened first and padded with zeros afterwards,
# the net is another function at its edges:


# %%
class Small:
    """A padded convolution, averaged."""

    layout = Layout({"w": (19, 4)})

    def apply(self, theta, x):
        return self(self.layout.views(theta), x)

    def __call__(self, p, x):
        return global_average(ops.tanh(convolution(x, p["w"], same, name="w")))


net, x = Small(), rng.normal(size=(50, 4, 4, 2)) @ rng.normal(size=(2, 2)) + 1.0
theta = 0.3 * rng.normal(size=net.layout.size)
(m,) = pixel_moments(minigrad.Objective(net, Gaussian()).linearize(theta, x)[1])
phi = whitening(m.name, m.span, m.covariance, m.mean, 1e-3, pixels=m.pixels)
omega = phi.back @ theta
close(WhitenedNet(net, (phi,)).apply(omega, x), net.apply(theta, x), atol=1e-12)  # the function has not changed

V, white = omega.reshape(19, 4), (x - phi.c) @ phi.U.T
wrong = global_average(np.tanh(convolution(white, V, same)))
print(f"padded after whitening, r is off by {abs(wrong - net.apply(theta, x)).max():.2f}")
assert abs(wrong - net.apply(theta, x)).max() > 0.01

# %% [markdown]
# ## 6. The methods on a convolutional net
#
# Nothing in the optimizers knows of convolutions. They ask the tape for rows and deltas, and it has them. A small net
# on MNIST, each method for equally many updates on the same batches; learning rates and dampings set by hand, so this
# shows that the methods work, not which is best (that takes tuning: chapters 75 and 90).

# %%
stages = [Convolution(8, 5), MaxPool(2), Convolution(16, 5), MaxPool(2), Dense(10)]
net = convnet((28, 28, 1), stages, "tanh", init=Glorot())
print(net.layout)
print(f"{net.work:,} multiply-adds a sample: {net.work / net.layout.size:.0f} for each parameter")
objective = minigrad.Objective(net, Categorical())
updates, size = (4, 100) if QUICK else (50, 250)
train = (images(x_train, 1), t_train)
methods = {
    "SGD": SGD(0.05, momentum=0.9),
    "PRONG": PRONG(0.02, momentum=0.9, interval=20, samples=size, epsilon=0.1),
    "K-FAC, expand": KFAC(damping=LevenbergMarquardt(1.0)),
    "K-FAC, reduce": KFAC(damping=LevenbergMarquardt(1.0), shared="reduce"),
}
fig, ax = figure(height=3.0)
for (name, method), colour in zip(methods.items(), (GREY, ORANGE, BLUE, VERMILLION), strict=True):
    history = minigrad.fit(objective, method, train, updates=updates, batch_size=size, seed=1, progress=False)
    losses = np.array(history.losses)
    assert losses[-1] < losses[0]
    ax.semilogy(np.arange(updates), losses, color=colour, label=name)
ax.set(xlabel="updates", ylabel="loss of the batch")
ax.set_title("Four methods on one convolutional net", fontsize=9)
label_ends(ax)

# %% [markdown]
# The same for a sequence: the rows of a digit, one a step, through an LSTM. Its matrix is used 28 times in a sample.

# %%
reader = lstm(28, 20, 10)
objective = minigrad.Objective(reader, Categorical())
rows_of_digits = (x_train.reshape(-1, 28, 28), t_train)
history = minigrad.fit(
    objective, KFAC(damping=LevenbergMarquardt(1.0)), rows_of_digits, updates=updates, batch_size=size, progress=False
)
first, last = history.losses[0], history.losses[-1]
print(f"K-FAC on an LSTM of {reader.layout.size:,} parameters: loss {first:.2f} -> {last:.2f}")
assert last < first

# %% [markdown]
# ## 7. What the papers' nets show
#
# The papers train larger nets for longer than a CPU does in minutes. What comes with minigrad are reduced runs; what is
# reduced stands in each caption, and the text of each experiment has the command that runs it whole, for a GPU. Three
# of them: whose samples measure the metric of a convolutional net (Pascanu & Bengio, figure 5), whitened feature maps
# (Desjardins et al., figure 4), an LSTM that reads digits pixel by pixel (Benjamin et al. 2019, figure 6). `python -m
# minigrad list` names the others: `unlabeled-convnet`, `hcgd-mnist-cnn`, `hcgd-cifar`, and those that end in `-cnn`.

# %%
if not QUICK:
    _ = experiments.show("mnist-convnet")

# %%
if not QUICK:
    _ = experiments.show("prong-cifar")

# %%
if not QUICK:
    _ = experiments.show("sequential-mnist")

# %% [markdown]
# ## Exercises
#
# 1. A convolution with a $1 \times 1$ window is an affine layer on pixels. How many columns has its `J` with respect to
#    the weights, for 3 channels in and 5 out, and does that number depend on the image? Answer with
#    `check_exercise_1(columns, depends)`.
# 2. For a layer whose rows all have the *same* input, $h_t = h$, are *expand* and *reduce* right, for squared error and
#    a linear net? Build the example with `block_and_factors` and answer `"expand"`, `"reduce"`, `"both"` or
#    `"neither"`.


# %%
def check_exercise_1(columns, depends):
    x = rng.normal(size=(2, 4, 4, 3))
    J = linearize(lambda W: convolution(x, W.reshape(4, 5), 1), rng.normal(size=20))[1]
    assert columns == J.shape[1], "count the bias"
    assert not depends, "the weights are shared by all pixels"


def check_exercise_2(answer):
    x = np.repeat(rng.normal(size=(6, 1, 2)), 3, axis=1)
    together = lambda p, x: ops.mean(ops.affine(x, p["w"], name="w"), axis=1)
    B, blocks, *_ = block_and_factors(together, {"w": (3, 3)}, x, Gaussian())
    right = [way for way, block in blocks.items() if np.allclose(block, B)]
    assert answer == {0: "neither", 1: right[0] if right else "", 2: "both"}[len(right)], "compare with B"


check_exercise_1(20, False)
check_exercise_2("reduce")
