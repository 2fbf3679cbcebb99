# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Start here
#
# This is a book about training neural networks by *natural gradient* and other methods that know the curvature, and
# about everything they stand on. It is also the guide to `minigrad`, the library in which these methods are written
# out, one short file each, in NumPy; the map at the end says which exist today. Five papers are the syllabus:
#
# | short name | paper |
# |---|---|
# | Pascanu & Bengio | *Revisiting Natural Gradient for Deep Networks* |
# | Desjardins et al. | *Natural Neural Networks* |
# | George | *Factorized second order methods in neural networks* |
# | Benjamin et al. 2018 | *Improving generalization by regularizing in L2 function space* |
# | Benjamin et al. 2019 | *Measuring and regularizing networks in function space* |
#
# **How to use it.** You need NumPy, and no more calculus than the chain rule. Read a chapter as it stands, with its
# outputs; then open it (`make chapters`), change things, and run it again. Each chapter has the same order: the
# question, the symbols, the derivation, the method in twenty lines, the library's version beside it, an experiment,
# what is wrong or different in the paper as printed, exercises. Every displayed equation is followed by a cell that
# checks it: if an `assert` passes, the formula above it is right, at least there. Printed papers contain errors, and so
# may we. Do not believe; run.
#
# ## One formula
#
# Nearly every method in the five papers is one matrix, and a way to solve with it:
#
# $$ G = J^\top M J. $$
#
# $J$ is a Jacobian: it tells how the network's outputs move when the parameters $\theta$ move a little. $M$ is a
# metric: it tells how much we mind when the outputs move. Together they measure a step $d$ in parameters by what it
# does to the outputs, $d^\top G\, d = (J d)^\top M (J d)$. The gradient $g$ says where downhill is; $G$ says how far
# away things really are; and the step is $d = -(G + \lambda I)^{-1} g$, with a little damping $\lambda$ for caution.
#
# | method | J is the Jacobian of | M |
# |---|---|---|
# | Gauss-Newton, Hessian-free, Krylov descent | outputs r, before the output activation | loss's Hessian in r |
# | natural gradient | r, or y = σ(r) | Fisher information of the output distribution in r, or in y |
# | sampled ("mc") Fisher | log-likelihoods of targets drawn from the model | I / N |
# | empirical Fisher, uncentred TONGA | the losses of the samples | I / N |
# | centred TONGA | the losses of the samples | (I - 11' / N) / N |
# | L2 distance between functions (HCGD) | y | I / N |
# | K-FAC, EKFAC, ACP, PRONG | r, restricted to one layer | as above, factored |
# | Newton | the gradient: its Jacobian, the Hessian, takes the place of G | - |
#
# Nobody forms $J$ or $G$: with a million parameters $G$ would have $10^{12}$ entries. All we ever need are products,
# $J v$ and $J^\top u$, and one function gives both: `linearize`. Who has understood `linearize` has understood half of
# the book.
#
# ## First contact
#
# The smallest network there is, one layer without a nonlinearity, has two merits: we can write every answer down, and
# one step of natural gradient solves it. Inputs `x` have a row for each sample; with a column of ones appended, the
# Jacobian of the output *is* that matrix, `X`.

# %%
# %matplotlib inline
import os

import numpy as np

import minigrad
from minigrad.backend import normal, to_host
from minigrad.curvature import fisher
from minigrad.linalg import cg, identity
from minigrad.losses import Gaussian
from minigrad.nets import mlp

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
rng = minigrad.backend.rng(0)
x = normal(rng, (50, 2), "float64")
t = x[:, :1] - 2.0 * x[:, 1:] + 0.5 + 0.1 * normal(rng, (50, 1), "float64")

net = mlp([2, 1])
theta = net.init(rng, dtype="float64")  # one flat vector: two weights and a bias
objective = minigrad.Objective(net, Gaussian())

r, J = objective.linearize(theta, x)  # runs the network once
v, u = normal(rng, (3,), "float64"), normal(rng, (50,), "float64")
G = fisher(objective, theta, x, kind="exact")  # J' M J, an operator: nothing is multiplied yet
loss, g = objective.value_and_grad(theta, (x, t))
d, info = cg(G, -g, rtol=1e-12)  # solves G d = -g by products G @ v
print(repr(G))

# %% [markdown]
# And the same by hand: dense matrices, and NumPy's least squares.

# %%
X = np.column_stack([to_host(x), np.ones(50)])
known = {
    "J @ v": (J @ v, X @ to_host(v)),
    "J.T @ u": (J.T @ u, X.T @ to_host(u)),
    "G @ v": (G @ v, X.T @ (X @ to_host(v)) / 50),
    "theta + d": (theta + d, np.linalg.lstsq(X, to_host(t)[:, 0], rcond=None)[0]),
}
for name, (found, answer) in known.items():
    print(f"{name:10} {to_host(found)[:3]}   by hand {answer[:3]}")
    np.testing.assert_allclose(to_host(found), answer, rtol=1e-9)
print(f"{info.iterations} iterations for {theta.size} parameters; loss {loss:.3f} -> ", end="")
print(f"{objective.value(theta + d, (x, t)):.3f}")

# %% [markdown]
# One step, from anywhere to the best fit. A gradient step would have depended on the scale of every input.
#
# ## And on a network
#
# With hidden units one step is no longer the end, so we take several, and damp them. `NaturalGradient` does exactly the
# above in each update, and adapts $\lambda$ by itself. To be fair we count its cost: one update is worth several
# gradients, and `log["gradients"]` says how many. Gradient descent gets the best learning rate and momentum of a grid,
# judged by the final loss; natural gradient keeps its defaults. Other seeds (we tried five) give the same picture.

# %%
from minigrad.optimizers import SGD, NaturalGradient
from minigrad.plot import curves, figure, label_ends

wave = minigrad.backend.asarray(np.linspace(-1, 1, 100)[:, None])
data = (wave, minigrad.backend.xp.sin(6.0 * wave))
small = minigrad.Objective(mlp([1, 20, 1], activation="tanh"), Gaussian())
start = small.net.init(minigrad.backend.rng(1), dtype="float64")


def run(optimizer, budget):
    """(cost in gradients, loss) before each update, until the budget is spent."""
    theta, state, cost, points = start, optimizer.init(small, start), 0.0, []
    while cost < budget and (not points or points[-1][1] < 1e3):  # or until it blows up
        theta, state, log = optimizer.step(theta, state, small, data, None, None)
        cost += log["gradients"]
        points.append((cost, log["loss"]))
    return np.array(points).T


budget = 300 if QUICK else 3000
grid = [SGD(lr, momentum=mu) for lr in (0.03, 0.1, 0.3, 1.0) for mu in (0.0, 0.9)]
tried = [run(sgd, budget) for sgd in grid]
best = min(range(len(grid)), key=lambda i: tried[i][1][-1])
natural = run(NaturalGradient(), budget)
fig, axis = figure(height=3.2)
curves(axis, {"momentum" if grid[best].momentum else "SGD": tried[best], "natural gradient": natural})
axis.set(xscale="log", yscale="log", xlabel="cost (in gradients of the whole batch)", ylabel="loss")
axis.set_title(
    "A sine fitted by 20 hidden units: at equal cost natural gradient reaches a hundredth of the loss", fontsize=9
)
label_ends(axis)
print(f"best of the grid: {grid[best]}")
assert QUICK or natural[1][-1] < tried[best][1][-1] / 10

# %% [markdown]
# On networks of millions of parameters, trained on small noisy batches, the race is closer; the experiments in the map
# tell how it goes there, by updates and by seconds.
#
# ## On a GPU
#
# One switch moves everything to the GPU, before arrays are made: `minigrad.use("cupy")`, or the environment variable
# `MINIGRAD_BACKEND=cupy`. Every module computes with `backend.xp`, which is NumPy or CuPy, and no formula knows which.
# The other chapters call `minigrad.use("numpy")`, because their examples are tiny; this one runs on whatever is active:

# %%
from minigrad import backend

before = backend.name()
try:
    minigrad.use("cupy")
    print("a GPU is here: the next cell runs on it")
except (ImportError, RuntimeError) as reason:
    print(f"no GPU to use: {reason}")
print(f"active: {backend.name()}")

# %%
here = backend.rng(0)
x_here = normal(here, (50, 2), "float64")
theta_here = net.init(here, dtype="float64")
r_here, J_here = objective.linearize(theta_here, x_here)
v_here = backend.asarray(to_host(v))
np.testing.assert_allclose(backend.to_host(J_here @ v_here), backend.to_host(x_here @ v_here[:2] + v_here[2]))
print(f"J @ v is a {type(J_here @ v_here).__module__} array")
minigrad.use(before)

# %% [markdown]
# ## Conventions
#
# One letter means one thing, in the text and in the code:
#
# | symbol | code | meaning |
# |---|---|---|
# | $\theta$ | `theta` | all parameters, one flat vector |
# | $x, t$ | `x, t` | input, target; a batch is the pair, samples are rows |
# | $a, h$ | `a, h` | pre-activation, layer input |
# | $r, y$ | `r, y` | output before and after the output activation |
# | $v, u$ | `v, u` | tangent (goes into $J$), cotangent (goes into $J^\top$) |
# | $g, d$ | `g, d` | gradient, step |
# | $\lambda$ | `lam` | damping, an operator: `G + lam * identity(n)` |
# | $\eta$ | `lr` | learning rate |
# | $A, S$ | `A, S` | Kronecker factors $E[h h^\top]$ and $E[\delta \delta^\top]$ |
#
# - Losses are means over samples and sums over outputs. Squared error is $\lVert y - t \rVert^2 / 2 \beta^2$, with
#   $\beta = 1$.
# - A layer is one matrix of shape (in + 1, out), its last row the bias: $a = h W + b$. The papers' $W$ is its
#   transpose.
# - Never a bare "Fisher": it is `exact`, `mc` (sampled) or `empirical`. They differ, and papers have confused them.
# - Randomness is explicit: functions take an `rng`.
# - Solvers return `(x, info)`, and `info` says why they stopped.

# %%
d_damped, info = cg(G + 0.1 * identity(theta.size), -g)
print(f"{G + 0.1 * identity(theta.size)}: {info.reason} after {info.iterations} iterations")
kinds = {"exact": fisher(objective, theta, x), "mc": fisher(objective, theta, x, kind="mc", rng=rng)}
kinds["empirical"] = fisher(objective, theta, (x, t), kind="empirical")
print("v'Fv:", {kind: f"{float(to_host(v @ (F @ v))):.2f}" for kind, F in kinds.items()})

# %% [markdown]
# ## The map
#
# What exists, where it comes from, and where it is. Chapters are named by their number, modules are files in
# `minigrad/`; an experiment runs by `python -m minigrad run NAME`.
#
# | method | paper | equation | module | chapter | experiment |
# |---|---|---|---|---|---|
# | the map, the one formula | all | | | 00 | |
# | R-op and L-op: `linearize`, `grad` | Pearlmutter 1994; Schraudolph 2002; P&B sec. 1 | | `autodiff.tape` | 10 | |
# | operations and their linear maps | George 2.1.2 | | `autodiff.ops` | 10 | |
# | derivative checks | Squire & Trapp 1998 | | `autodiff.check` | 10 | |
# | Hessian by nested tapes | Pearlmutter 1994; George 3.1.4 | | `autodiff.tape` | 10 | |
# | perceptron | George 1.4.1 | | `nets.mlp` | 20 | |
# | deep autoencoder | George 1.4.3, 2.5 | | `nets.autoencoder` | 20 | `deep-autoencoder` |
# | convolution: `convolution`, `Window`; `max_pool`, `average_pool` | George 1.4.2 | | `autodiff.conv` | 58 | |
# | LSTM: `lstm_cell` | Hochreiter & Schmidhuber 1997 | | `autodiff.recurrent`, `nets.lstm` | 58 | `sequential-mnist` |
# | nets of stages: `convnet` | | | `nets.convnet` | 58 | |
# | `mnist_convnet`, `large_filter_convnet` | P&B 8.6, 8.7 | | `nets.zoo` | 58 | `mnist-convnet`, `unlabeled-convnet` |
# | `three_layer_convnet` | B18 3 | | `nets.zoo` | 58 | `hcgd-mnist-cnn` |
# | `six_layer_convnet` | B19 2 | | `nets.zoo` | 58 | `trajectories-cnn`, `distance-ratio-cnn` |
# | without normalization, or on MNIST | B19 A, B | | | 58 | `distance-ratio-cnn-plain`, `distance-ratio-cnn-mnist` |
# | their distances, how well known | B19 2.3 | | | 58 | `distance-estimator-cnn`, `distance-estimator-cnn-mnist` |
# | `vgg` | Desjardins et al. 4.3 | | `nets.zoo` | 58 | `prong-cifar` |
# | `squeezenet` | B18 3; B19 3.3 | | `nets.squeezenet` | 58 | `hcgd-cifar` |
# | `RandomCrops` | Desjardins et al. 4.3 | | `data.augment` | 58 | `prong-cifar` |
# | factors of shared weights: "expand", "reduce" | Eschenhagen et al. 2023 | | `curvature.factors` | 58 | |
# | `Dropout` | Srivastava et al. 2014; B18 alg. 1 | | `nets.dropout` | 82 | |
# | `BatchNorm`, `MeanOnly` | George 3.6.2; Ioffe & Szegedy 2015 | | `nets.normalization` | 70 | `conditioning` |
# | whitened layers: `Whitening` | Desjardins et al. 3.1 | 6, 7 | `nets.whitening` | 70 | `conditioning` |
# | initial weights: `Glorot`, `He`, `FanIn`, `Sparse` | George 2.4.2 | | `nets.init` | 20 | |
# | losses: `Gaussian`, `Bernoulli`, `Categorical` | P&B; George A | 6, 23-28 | `losses` | 20 | |
# | metrics in r and in y | P&B; George B | 9-11, 14-21 | `losses` | 20 | |
# | mean loss over a batch | P&B | 6 | `objective` | 00 | |
# | Hessian of the objective: `hessian` | P&B 4.2; George 3.1.1 | | `curvature.hessian` | 30 | |
# | Gauss-Newton: `gauss_newton` | Schraudolph 2002; P&B | 14-21 | `curvature.gauss_newton` | 30 | |
# | Fisher: exact, mc | P&B | 8 | `curvature.fisher` | 30 | |
# | Fisher: empirical | P&B | 13 | `curvature.fisher` | 30 | |
# | `gradient_covariance`, centred or not | P&B | 12, 13 | `curvature.samples` | 30 | |
# | gradients sample by sample | P&B 4.1 | | `curvature.samples` | 30 | |
# | blocks by layer: `block_diagonal` | George 3.1.6 | | `curvature.blocks` | 30 | |
# | Lanczos, `largest_eigenvalue` | LeCun, Simard & Pearlmutter 1993; George 3.1.2 | | `linalg.lanczos` | 30 | |
# | divergence of outputs, its expansion | P&B; George 3.2.1 | 3, 4 | `losses` | 40 | |
# | operator algebra, damping G + λI | George 3.1.3 | | `linalg.operator` | 00 | |
# | conjugate gradients, `MartensStop` | P&B alg. 1; Martens 2010, 4.4 | | `linalg.cg` | 50 | |
# | MINRES | Paige & Saunders 1975 | | `linalg.minres` | 50 | |
# | MINRES-QLP | P&B 8.3; Choi, Paige & Saunders 2011 | | `linalg.minres_qlp` | 50 | |
# | solving in the space of samples | Woodbury | | `curvature.sample_space` | 50 | |
# | diagonal preconditioner | Martens 2010, 4.7 | | `curvature.preconditioner` | 50 | |
# | `Kronecker`, `Eigenbasis`, `homogeneous_inverse` | George 3.3.1-3.3.3 | | `linalg.kronecker` | 60 | |
# | exact and factored damping: `factored_damping` | Martens & Grosse 2015, 6.3 | | `linalg.kronecker` | 60 | |
# | a layer's factors: `kronecker_factors` | George 3.3, 3.5.1 | 3.3.1, 3.3.2 | `curvature.factors` | 60 | |
# | `KFAC` | Martens & Grosse 2015; George 3.5.1 | 3.3.2 | `optimizers.kfac` | 60 | `deep-autoencoder` |
# | `EKFAC`; diagonal alone: `DiagonalFisher` | George et al. 2018 | | `optimizers.kfac` | 60 | `deep-autoencoder` |
# | `Newton`, damped | P&B 4.2, 8.4 | | `optimizers.newton` | 40 | `one-unit-autoencoder` |
# | `NaturalGradient` | P&B alg. 1 | 1, 5, 8 | `optimizers.natural_gradient` | 40 | `deep-autoencoder` |
# | `ConjugateGradient`, `Minres`, `MinresQLP`, `SampleSpace` | P&B 8.3 | | `optimizers.solvers` | 50 | |
# | `LevenbergMarquardt`, `FixedDamping` | Martens 2010; P&B | 29, 30 | `optimizers.damping` | 40 | `deep-autoencoder` |
# | `HessianFree` | Martens 2010; P&B 7 | | `optimizers.hessian_free` | 50 | `hessian-free-is-natural-gradient` |
# | `KrylovSubspaceDescent` | Vinyals & Povey 2012; P&B 7 | | `optimizers.krylov_subspace_descent` | 50 | |
# | whose batch: `Unlabeled` | P&B 5, 8.5 | 8 | `optimizers.metric_batch` | 55 | `metric-batch`, `tune-metric-batch` |
# | `TONGA` | Le Roux et al. 2008; P&B 4.1 | 12, 13 | `optimizers.tonga` | 55 | `metric-batch` |
# | `CentredGD`: centred gradient descent | George alg. 2 | 3.3.3 | `optimizers.centred` | 65 | `centering` |
# | `ACP`, alpha by `SquaredGradient` | George alg. 3, 3.4.2 | 3.3.3, 3.3.4 | `optimizers.acp` | 65 | |
# | RMSProp as a diagonal Gauss-Newton | George 3.6.1 | | `curvature.samples` | 65 | |
# | `PRONG`, PRONG+ | Desjardins et al. alg. 1 | 8-10 | `optimizers.prong` | 70 | `prong-sensitivity` |
# | distance between functions, L2 metric | B18 2; B19 2 | | `function_space.distance` | 80 | |
# | how well a distance is known: `estimate` | B19 2.3 | | `function_space.estimate` | 80 | `distance-estimator` |
# | paths: `Recorder` | B18 4; B19 2.2 | | `function_space.trajectory` | 80 | `distance-ratio`, `distance-travelled` |
# | multidimensional scaling: `embed` | B19 2.1 | | `function_space.embedding` | 80 | `trajectories` |
# | `HCGD`, with any first-order base | B18 alg. 1; B19 alg. 1, 2 | 6, 7 | `optimizers.hcgd` | 82 | `hcgd-mnist` |
# | natural gradient by descent: `NaturalDescent` | B18 alg. 2; B19 alg. 3 | 3-5 | `optimizers.natural_descent` | 82 | |
# | distance on a working memory: `L2Memory`; `Retrain` | B19 3.1 | | `continual.working_memory` | 85 | `forgetting` |
# | `EWC`, `SI` | Kirkpatrick et al. 2017; Zenke et al. 2017 | | `continual.quadratic` | 85 | `forgetting` |
# | what survives a change of parameters | P&B 4.1 | | | 40 | `reparametrization` |
# | deformed digits, without end | Simard et al. 2003; P&B 6 | | `data.deformed` | 55 | `order-robustness` |
# | sixteen methods on one net, tuned alike | George 2.5, 3.4.3; Desjardins et al. 4.2 | | | 75 | `deep-autoencoder` |
# | `SGD`, with momentum, Nesterov | George 2.1.1, 2.2, 2.4.3 | | `optimizers.sgd` | 00 | `deep-autoencoder` |
# | `Adagrad`, `RMSProp`, `Adam` | George 2.4.3, 3.6.1 | | `optimizers.adaptive` | | `deep-autoencoder` |
# | gradient clipping | George 2.4.1 | | `optimizers.first_order` | | |
# | `Constant`, `InverseTime`, `Steps`, `Waterfall` | P&B 8.6; Desjardins et al. 4 | | `optimizers.schedules` | | |
# | training loop, checkpoints | | | `training.fit` | | `deep-autoencoder` |
# | spaces of hyper-parameters | George 2.3 | | `search.space` | 90 | |
# | `GridSearch`, `RandomSearch` | George 2.3; Bergstra & Bengio 2012 | | `search.methods` | 90 | `search-comparison` |
# | `BiasedRandomSearch` | George alg. 1 | | `search.methods` | 90 | `search-comparison` |
# | its models: `NearestNeighbour`, `KNearest`, `Kernel` | George 2.3 | | `search.landscape` | 90 | |
# | hyper-parameters by random trials, by biased ones | George 2.3 | | | 90 | `tune-deep-autoencoder` |
# | searches on any executor, that survive a kill | | | `search.engine`, `search.history` | 95 | |
# | ranks that share each batch | Desjardins et al. 4.3 | | `parallel` | 95 | |
#
# (P&B: Pascanu & Bengio; B18, B19: Benjamin et al. 2018, 2019.) Read on: chapter 10 builds the engine, chapter 20 the
# networks and their losses, chapter 30 the curvature matrices, chapter 40 natural gradient itself.
#
# ## Exercise
#
# In "First contact", multiply the first input column by 100 (and keep `t`). Where does one natural-gradient step land
# now, measured by its loss: `"higher"`, `"lower"` or `"same"`? Try it, then call `check_exercise_1(answer)`.


# %%
def check_exercise_1(answer):
    scaled = x * backend.asarray(np.array([100.0, 1.0]))
    _, g_scaled = objective.value_and_grad(theta, (scaled, t))
    d_scaled, _ = cg(fisher(objective, theta, scaled), -g_scaled, rtol=1e-12)
    ratio = objective.value(theta + d_scaled, (scaled, t)) / objective.value(theta + d, (x, t))
    truth = "same" if abs(ratio - 1) < 1e-6 else "higher" if ratio > 1 else "lower"
    assert answer == truth, "run it: natural gradient does not care in which units an input is measured"
    print("right")


# %% tags=["hide-input"]
check_exercise_1("same")  # the checker is checked too
try:
    check_exercise_1("higher")
except AssertionError:
    pass
else:
    raise RuntimeError("a wrong answer was taken for right")
