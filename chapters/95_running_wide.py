# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Running wide
#
# **The question.** One machine is too slow. Hyper-parameters are searched by hundreds of trainings that know nothing of
# each other: how do these run on many cores, or on a cluster, and survive its failures? And where one batch is too much
# for a machine: which parts of a second-order method can several processes share, what must they tell each other, and
# do they still train the same net?
#
# **The papers.** George, *Factorized second order methods in neural networks*, section 2.3, for the search. Desjardins,
# Simonyan, Pascanu & Kavukcuoglu, *Natural neural networks* (2015), section 4.3: PRONG on ImageNet, batches of 256 on
# eight GPUs. It calls the estimation of the statistics "embarassingly parallel".
#
# | symbol | here | shape | what it is |
# |---|---|---|---|
# | $\mathcal H$ | `search.history` | | finished trials, and their file |
# | $R$ | `ranks.size` | number | ranks: processes that share each batch |
# | $N$ | `len(x)` | number | samples of the whole batch |
# | $\theta$ | `theta` | (n,) | parameters, known to every rank |
# | $r$ | `r` | (N, O) | outputs before the activation, known to every rank too |
# | $J$ | `J` | (NO, n) | their Jacobian, of which a rank has the rows of its share |
# | $A$ | `A` | (in + 1, in + 1) | $\mathbb E[(h\,1)^\top (h\,1)]$, a layer's input moments |
# | $\alpha$, $\beta$ | `latency`, `bandwidth` | s, bytes/s | what a message costs |

# %%
# %matplotlib inline
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import minigrad
from minigrad.curvature import fisher, input_moments
from minigrad.experiments.data_parallel_cost import Machine, inception, prong_needs
from minigrad.losses import Categorical
from minigrad.nets import mlp
from minigrad.optimizers import KFAC, PRONG, SGD, NaturalGradient
from minigrad.parallel import Ranks
from minigrad.plot import BLACK, GREY, VERMILLION, curves, figure, label_ends
from minigrad.search import BiasedRandomSearch, Choice, LogUniform, Space

minigrad.use("numpy")  # this chapter works on small host arrays, whatever backend is set
rng = np.random.default_rng(95)
close = np.testing.assert_allclose

# %% [markdown]
# ## 1. Trials: any executor
#
# A search asks an executor of Python's `concurrent.futures` to run its trials, and an executor is whatever has
# `submit`: a pool of processes, a Dask cluster, ranks of MPI. Which one it is must not matter to the result. So a
# trial's seed comes from its number, and in the mode `"batch"` trials go in rounds whose proposals know the outcomes of
# earlier rounds alone. Here the trials finish out of order, on purpose:


# %%
def train(trial):
    """A trial that takes some milliseconds: an odd one is late."""
    time.sleep(0.003 * (trial.number % 2))
    noise = np.random.default_rng(trial.seed).normal()
    return float((np.log10(trial["lr"]) + 2) ** 2 + 0.01 * noise)


space = Space(lr=LogUniform(1e-4, 1.0), momentum=Choice(0.0, 0.9))
outcomes = lambda history: [(trial.parameters, trial.loss) for trial in history.trials]
alone_here = BiasedRandomSearch(space, seed=3).run(train, 24)
with ThreadPoolExecutor(3) as threads:
    on_threads = BiasedRandomSearch(space, seed=3).run(train, 24, executor=threads)
assert outcomes(on_threads) == outcomes(alone_here)
print(f"best of 24: {alone_here.best.parameters}, loss {alone_here.best.loss:.3f}, whoever ran them")

# %% [markdown]
# Processes that were started for the purpose do the same. `ProcessPoolExecutor` needs `train` in a module that the
# others can import; loky and Dask send the function itself, so it may stand in a notebook. Each trial has one BLAS
# thread, for several share a machine.

# %%
try:
    from loky import get_reusable_executor
except ImportError:
    print("no loky here: pip install loky")
else:
    on_processes = BiasedRandomSearch(space, seed=3).run(train, 24, executor=get_reusable_executor(2), workers=2)
    get_reusable_executor().shutdown()
    assert outcomes(on_processes) == outcomes(alone_here)
    print("two processes: the same history")

# %% [markdown]
# From here to a cluster it is a line; `tests/search/test_clusters.py` runs both, on real workers and ranks, and kills
# some of them:
#
# ```python
# with Client("scheduler:8786").get_executor(pure=False) as cluster: ...   # Dask; pure=False: equal calls are not one
# with MPIPoolExecutor() as ranks: ...                                     # mpiexec -n 64 python -m mpi4py.futures ...
# history = search.run(train, 1000, executor=cluster, workers=64)
# ```
#
# ## 2. Killed at any moment
#
# Every finished trial is a line in the history's file before the search goes on. A machine may lose power in the middle
# of a line; that trial is run again. What resumes is the same search, to the last bit:

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "search.jsonl"
    BiasedRandomSearch(space, seed=3, history=path).run(train, 13)
    written = path.read_bytes()
    print(written.decode().splitlines()[1])
    path.write_bytes(written[: len(written) - 20])  # cut in the last line
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        resumed = BiasedRandomSearch(space, seed=3, history=path)
    print(str(said[0].message).partition(": ")[2])
    assert len(resumed.history) == 12 and outcomes(resumed.run(train, 24)) == outcomes(alone_here)

# %% [markdown]
# What becomes of a trial whose worker dies is the engine's affair, and they differ. Dask runs it again on another
# worker, and gives it up when it has killed some of them (four, by default): then it has failed, and the search goes
# on. A pool of processes is broken for good when one of them dies, and a dead rank ends an MPI job: there, the same
# call on the same file goes on.
#
# A trial that raises, hangs or returns no number has failed; it is kept with the reason, counts as the worst, and stops
# nothing. (Against hanging, `give_up` is a number of seconds after which the search no longer waits.)


# %%
def fragile(trial):
    """Some trials go wrong, each in another way."""
    if trial.number % 3 == 1:
        raise ArithmeticError("diverged")
    return math.nan if trial.number % 3 == 2 else train(trial)


for trial in BiasedRandomSearch(space, seed=3).run(fragile, 3).trials:
    print(trial.number, trial.loss, trial.failed)

# %% [markdown]
# ## 3. A batch is a sum
#
# Losses are means over samples. Cut the batch into shares $s$ and keep the whole batch's $1/N$; then
#
# $$ \mathcal L = \sum_s \frac1N \sum_{i \in s} \ell_i, \qquad g = \sum_s J_s^\top u_s, \qquad
#    G v = \sum_s J_s^\top M_s J_s\, v, \qquad A = \sum_s \frac1N \sum_{i \in s} (h_i\, 1)^\top (h_i\, 1). $$
#
# Everything that this book does with a batch is one of these, or is made of them.

# %%
net, N = mlp([20, 16, 5]), 300
t = rng.integers(0, 5, N)
x = rng.normal(size=(5, 20))[t] + 1.5 * rng.normal(size=(N, 20))
objective = minigrad.Objective(net, Categorical())
theta = net.init(rng, "float64")
v = rng.normal(size=theta.shape)
shares = [slice(0, 70), slice(70, 200), slice(200, 300)]
weight = [(share.stop - share.start) / N for share in shares]


def whole_and_sum(f):
    """f of the batch, and the shares' f, each with its weight N_s / N, added up."""
    return f(x, t), sum(w * f(x[share], t[share]) for w, share in zip(weight, shares))


close(*whole_and_sum(lambda x, t: objective.value(theta, (x, t))), rtol=1e-13)
close(*whole_and_sum(lambda x, t: objective.value_and_grad(theta, (x, t))[1]), atol=1e-15)
close(*whole_and_sum(lambda x, t: fisher(objective, theta, x) @ v), atol=1e-15)
moments = lambda x: input_moments(objective.linearize(theta, x)[1])[1]  # of the second layer's input
close(*whole_and_sum(lambda x, t: moments(x).second), atol=1e-15)

# %% [markdown]
# What is *not* a sum: a covariance, a maximum, a root, an inverse, and whatever is divided by one of them. They are
# formed afterwards, from sums. And a penalty on $\theta$ belongs to no sample, so it counts once.

# %%
for name, f in (("covariance", lambda x: moments(x).covariance),
                ("inverse of A", lambda x: np.linalg.inv(moments(x).second + 0.1 * np.eye(16)))):  # fmt: skip
    whole, added = whole_and_sum(lambda x, t, f=f: f(x))
    print(f"{name}: added up over shares it is wrong by {np.abs(added - whole).max() / np.abs(whole).max():.0%}")

# %% [markdown]
# ## 4. A communicator is four functions
#
# Processes that work together are *ranks* of a communicator. `minigrad.parallel.Ranks` asks for four of MPI's many
# functions, those that fill a given array: `Allreduce` (everybody gets the sum), `Allgatherv` (everybody gets
# everybody's rows), `Allgather` (the same, of equal sizes) and `Bcast` (everybody gets rank 0's). So a barrier and a
# list are enough to have ranks in one process, as threads. They do not run faster than one, but all else is as it is on
# a cluster, and we can count what is sent.


# %%
class Threads:
    def __init__(self, rank, barrier, slots):
        self.rank, self.barrier, self.slots, self.sent = rank, barrier, slots, []

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return len(self.slots)

    def everybodys(self, name, array):
        self.sent.append((name, array.nbytes))
        self.slots[self.rank] = array.copy()
        self.barrier.wait()  # all have written
        arrays = list(self.slots)
        self.barrier.wait()  # all have read
        return arrays

    def Allreduce(self, mine, total):
        total[...] = sum(self.everybodys("Allreduce", mine))

    def Allgather(self, mine, all_):
        all_[...] = self.everybodys("Allgather", mine)

    def Allgatherv(self, mine, all_):
        all_[0][...] = np.concatenate(self.everybodys("Allgatherv", mine))

    def Bcast(self, array):
        array[...] = self.everybodys("Bcast", array)[0]


def spread(size, work):
    """[work(ranks) of each of `size` ranks], on as many threads."""
    barrier, slots, results = threading.Barrier(size, timeout=20), [None] * size, [None] * size

    def run(rank):
        results[rank] = work(Ranks(Threads(rank, barrier, slots)))

    workers = [threading.Thread(target=run, args=[rank]) for rank in range(size)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results


print(spread(3, lambda ranks: (ranks.rank, str(ranks.share(N)), ranks.total([np.ones(2) * ranks.rank])[0].tolist())))

# %% [markdown]
# ## 5. The methods do not know
#
# A rank is told the whole batch, and sends its share of rows through the net. The Jacobian `J` that comes back has all
# $N$ rows for whoever multiplies with it; of these it holds its own, and sums or gathers the others. So an optimizer is
# handed an objective with `ranks=...` and otherwise remains as it is.

# %%
METHODS = {
    "SGD": SGD(0.3, momentum=0.9),
    "natural gradient": NaturalGradient(),
    "K-FAC": KFAC(interval=2),
    "PRONG": PRONG(0.3, interval=2, samples=100),
}


def trained(optimizer, ranks=None, steps=4, size=None, objective=objective, theta=theta):
    """theta after some updates on the first `size` samples; and what was sent at the second one."""
    if ranks is not None:
        objective = minigrad.Objective(objective.net, objective.loss, ranks=ranks)
    state, draws, sent = optimizer.init(objective, theta), np.random.default_rng(0), []
    for step in range(steps):
        before = 0 if ranks is None else len(ranks.comm.sent)
        batch, draw = (x[:size], t[:size]), lambda size: (x[-size:], t[-size:])
        theta, state, log = optimizer.step(theta, state, objective, batch, draw, draws)
        if step == 1 and ranks is not None:
            sent = ranks.comm.sent[before:]
    return getattr(optimizer, "canonical", lambda point, state: point)(theta, state), sent


for name, optimizer in METHODS.items():
    alone, _ = trained(optimizer)
    apart = []
    for size in (1, 2, 4):
        found = [theta for theta, _ in spread(size, lambda ranks, optimizer=optimizer: trained(optimizer, ranks))]
        assert len({theta.tobytes() for theta in found}) == 1  # bit for bit the same on all ranks
        apart.append(np.abs(found[0] - alone).max() / np.abs(alone).max())
    assert apart[0] == 0 and max(apart) < 1e-12
    print(f"{name:17} 1, 2 and 4 ranks against one process: " + ", ".join("0" if a == 0 else "< 1e-12" for a in apart))

# %% [markdown]
# Two kinds of equality. *Among the ranks* the parameters are the same bits: each rank does the algebra of $\theta$
# (CG's recurrences, inverses, damping, whether a step is taken) for itself, from numbers that MPI guarantees to be
# identical on all. A decision taken from different roundings would be the end: one rank would stop iterating, and the
# others wait for it for ever. *Against one process* there is rounding, because the sums have another order.
#
# Randomness is shared too. All ranks have the same generator and all outputs $r$, so targets that a method draws from
# the model belong to the sample and not to the rank, and so do dropout masks.
#
# ## 6. What is sent
#
# A product $G v$ is a sum of $n$ numbers, a gradient with its loss of $n + 1$; moments are sums as large as the layer
# asks. None of it grows with the batch. What grows with it are the outputs, $N O$ numbers.

# %%
sizes = [8, 30, 100, 300]
traffic, calls = {}, {}
for name, optimizer in METHODS.items():
    messages = [spread(2, lambda ranks, o=optimizer, n=n: trained(o, ranks, 2, n)[1])[0] for n in sizes]
    traffic[name] = (sizes, [sum(size for _, size in sent) / 1000 for sent in messages])
    kinds = [kind for kind, _ in messages[-1]]
    calls[name] = {kind: kinds.count(kind) for kind in ("Allgather", "Allgatherv", "Allreduce")}
    print(f"{name:17} at N = 300: " + ", ".join(f"{count} {kind}" for kind, count in calls[name].items()))
n = theta.size
close(traffic["SGD"][1], [(8 * (n + 1) + 16) / 1000] * len(sizes))  # loss and gradient; 16 bytes to meet

fig, ax = figure(height=3.0)
curves(ax, traffic)
ax.set(xscale="log", ylim=(0, None), xlabel="samples N of the batch", ylabel="sent by a rank in an update (kB)")
ax.set_title(f"n = {n} parameters, 5 outputs, two ranks: the batch is not sent", fontsize=9)
label_ends(ax)

# %% [markdown]
# Natural gradient by CG sends as many vectors as it takes products, where K-FAC sends $\theta$ once, and $A$ and $S$.
# PRONG at the updates between two reparametrizations is SGD. (Here one in two has none, and the second update is such a
# one.)
#
# ## 7. On real ranks
#
# The same with processes and MPI. A program says which communicator it has, and is started $R$ times:

# %%
program = """
import sys
from pathlib import Path
import numpy as np
from mpi4py import MPI
from minigrad import Objective
from minigrad.losses import Categorical
from minigrad.nets import mlp
from minigrad.optimizers import KFAC
from minigrad.parallel import Ranks

folder = Path(sys.argv[1])
ranks = Ranks(MPI.COMM_WORLD)
data = np.load(folder / "data.npz")
objective = Objective(mlp([20, 16, 5]), Categorical(), ranks=ranks)
theta, optimizer, rng = data["theta"], KFAC(interval=2), np.random.default_rng(0)
state = optimizer.init(objective, theta)
for step in range(4):
    theta, state, log = optimizer.step(theta, state, objective, (data["x"], data["t"]), None, rng)
np.save(folder / f"{ranks.rank}.npy", theta)
"""
environment = os.environ | {"PYTHONPATH": str(Path(minigrad.__file__).parents[1]), "MINIGRAD_THREADS": "1"}
mpiexec = Path(sys.executable).with_name("mpiexec")
with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    (folder / "train.py").write_text(program)
    np.savez(folder / "data.npz", x=x, t=t, theta=theta)
    command = [mpiexec if mpiexec.exists() else "mpiexec", "-n", "2", sys.executable, "-m", "mpi4py"]
    try:
        subprocess.run([*command, folder / "train.py", folder], env=environment, check=True, timeout=120)
    except FileNotFoundError:
        print("no mpiexec here: pip install mpi4py mpich")
    else:
        found = [np.load(folder / f"{rank}.npy") for rank in range(2)]
        assert found[0].tobytes() == found[1].tobytes()
        close(found[0], trained(METHODS["K-FAC"])[0], rtol=1e-10, atol=1e-12)
        print("two processes, four updates of K-FAC: the same bits on both, and this process's theta to rounding")

# %% [markdown]
# `fit` does it in one line more than on one process: every rank calls it with the same arguments, rank 0 shows the bar,
# writes the checkpoints and decides when time is over (`minigrad.parallel` has the ten lines).
#
# What goes wrong is said aloud. With each pass every rank sends sixteen bytes: a checksum of what it did (which method,
# at which $\theta$, on what shapes) and whether it failed. Ranks whose seeds differ notice at the first pass:

# %%


def unlike(ranks):
    other = minigrad.Objective(net, Categorical(), ranks=ranks)
    try:
        return other.value(theta + 1e-9 * (ranks.rank == 1), (x, t))
    except ValueError as error:
        return str(error).split(";")[0]


print(*spread(3, unlike), sep="\n")

# %% [markdown]
# ## 8. PRONG on eight GPUs
#
# What would section 4.3's run need? Theirs are: batches of 256, eight ranks, 1000 classes, the Inception net of Ioffe &
# Szegedy (2015), and that whitening runs across feature maps, pixels being samples. The paper does not print the net's
# widths (here: that paper's table, 70 affine layers), $T$, $N_s$, nor any time. For those we must assume something, and
# for the machine too.

# %%
layers = inception()
T, N_s = 1000, 1024  # assumed: the paper gives neither for ImageNet
machine = Machine(rate=1e12, latency=20e-6, bandwidth=5e9)  # assumed: multiply-adds/s, s, bytes/s of a rank
needs = {
    R: prong_needs(layers, R, batch=256, samples=N_s, interval=T, machine=machine) for R in (1, 2, 4, 8, 16, 32, 64)
}
eight = needs[8]
print(f"{eight.parameters:,} parameters; widths of inputs up to {max(layer.inputs for layer in layers)}")
print(f"memory of a rank: vectors {eight.bytes_vectors / 1e6:.0f} MB, "
      f"statistics {eight.bytes_statistics / 1e6:.0f} MB, "
      f"activations {eight.bytes_activations / 1e9:.1f} GB (its {N_s // 8} of the {N_s} samples at once)")  # fmt: skip
print(f"summed over ranks: {eight.bytes_summed_update / 1e6:.1f} MB an update, "
      f"{eight.bytes_summed_reparametrization / 1e6:.1f} MB a reparametrization")  # fmt: skip
print(f"time, by the model: update {eight.seconds_update:.3f} s, of it messages {eight.seconds_update_messages:.3f} s; "
      f"reparametrization {eight.seconds_reparametrization:.2f} s, "
      f"{eight.seconds_reparametrization / T / eight.seconds:.2%} of all")  # fmt: skip
assert eight.bytes_summed_update == 4 * (eight.parameters + 1)

fig, ax = figure(height=3.2)
R = np.array(list(needs))
of = lambda field: np.array([getattr(needs[r], field) for r in needs])
messages = of("seconds_update_messages")
ax.loglog(R, of("seconds_update")[0] / R, ":", color=GREY, label="one rank's time / R")
ax.loglog(R, of("seconds_update"), "o-", color=BLACK, label="an update")
ax.loglog(R[1:], messages[1:], "s--", color=VERMILLION, label="its messages")
ax.loglog(R, of("seconds_reparametrization") / T, "^-", color="#0072B2", label="reparametrization / T")
ax.axvline(8, color=GREY, lw=0.8)
ax.set(xlabel="ranks R", ylabel="seconds an update (model)", xlim=(0.9, 200))
ax.set_title("PRONG on ImageNet by the model: where more ranks stop to help", fontsize=9)
ax.set_xticks(R, [str(r) for r in R])
ax.tick_params(axis="x", which="minor", length=0)
label_ends(ax)
eigen = sum(4.5 * layer.inputs**3 for layer in layers) / machine.rate
algebra = 2 * sum(layer.inputs * layer.parameters for layer in layers) / machine.rate
print(f"in an update every rank does theta = B Omega and B'g for itself: {algebra:.3f} s")
for r in (8, 64):
    print(f"{r} ranks: {needs[1].seconds / needs[r].seconds:.1f} times as fast; eigendecompositions, on every rank, "
          f"{eigen / needs[r].seconds_reparametrization:.0%} of a reparametrization")  # fmt: skip

# %% [markdown]
# By this model the statistics are as parallel as the paper says, and the eigendecompositions are not, which it says
# too; spread over $T$ updates neither matters. What ends the speedup is what no rank can leave to the others: the sum
# of the gradient, $n$ numbers whatever their number, and the change of coordinates, which here is done to $\theta$ and
# $g$, not to the activations. Other assumptions move the lines; these two stay flat.
#
# In section 4.3 they ran PRONG<sup>+</sup>, with batch normalization, which couples the samples of a batch. Here its
# statistics are of all ranks' rows: at each normalized layer the ranks add up the mean's sums, then the variance's, and
# on the way back once more. That is little to send, and three more messages a layer for which all ranks wait, which the
# model leaves out. Whether the paper's statistics were of 256 samples or of each GPU's 32, it does not say; the two are
# different functions.
#
# ## 9. Exercises
#
# 1. A covariance is no sum, but sums are enough. Write `covariance(ranks, h)`, the covariance of all ranks' rows of h
#    (each rank has another number of them), with one call of `ranks.total`: `check_exercise_1(covariance)`.
# 2. A product $Gv$ could be had from `J.rop` and `J.lop` instead, with tangents gathered in between. How many bytes
#    more would each rank receive for it, with $R$ ranks, $N$ samples and $O$ outputs in float32?
#    `check_exercise_2(formula)`, called with R, N, O, N divisible by R.


# %%
def check_exercise_1(covariance):
    h = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3)) + 5
    cuts = [0, 7, 30, 60]
    own = lambda ranks: h[cuts[ranks.rank] : cuts[ranks.rank + 1]]

    def work(ranks):
        C = covariance(ranks, own(ranks))
        return C, sum(name == "Allreduce" for name, _ in ranks.comm.sent)

    found = spread(3, work)
    assert all(C is not None and np.allclose(C, np.cov(h.T, bias=True)) for C, _ in found), "E[hh'] - E[h] E[h]'"
    assert all(count == 1 for _, count in found), "one message is enough"
    print("right")


def check_exercise_2(formula):
    for R, N, O in ((2, 10, 3), (8, 256, 1000)):
        assert formula(R, N, O) == 4 * (N - N // R) * O, f"not so for R = {R}, N = {N}, O = {O}"
    print("right")


# %% tags=["hide-input"]
# The checkers are checked too, with a right and a wrong answer each.
def covariance(ranks, h):
    second, first, n = ranks.total([h.T @ h, h.sum(axis=0), np.array([float(len(h))])])
    return second / n - np.outer(first / n, first / n)


check_exercise_1(covariance)
check_exercise_2(lambda R, N, O: 4 * N * O * (R - 1) // R)
for check, wrong in ((check_exercise_1, lambda ranks, h: ranks.total([np.cov(h.T, bias=True)])[0] / 3),
                     (check_exercise_2, lambda R, N, O: 4 * N * O)):  # fmt: skip
    try:
        check(wrong)
    except AssertionError as error:
        print(f"wrong, as it should be: {error}")
    else:
        raise RuntimeError("a wrong answer was accepted")
