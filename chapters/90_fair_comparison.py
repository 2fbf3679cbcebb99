# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Fair comparison
#
# **The question.** A method with its best hyper-parameters beats another one with bad ones, whatever the two are. How
# are hyper-parameters found, at a price that is the same for all, and how much does the price matter?
#
# **The paper.** George, *Factorized second order methods in neural networks*, section 2.3: grid search, random search,
# and *biased* random search (algorithm 1), which tries more where it found better.
#
# | in the paper | here | what it is |
# |---|---|---|
# | $\mathcal D$ | `Space`, the unit cube | where hyper-parameters are looked for |
# | $a$ | `point` | one choice of them |
# | $\mathcal H$ | `search.history` | what was tried, and what came of it |
# | $\mathcal M(\mathcal H, a)$ | `model` | what to expect at $a$ |
# | $c$, $c_{\min}$, $c_{\max}$ | `loss` | what is minimized; its least and largest value so far |
# | $p$ | `p` | the probability to try a proposal |

# %%
# %matplotlib inline
import os
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from scipy import stats

from minigrad import experiments, search
from minigrad.experiments import deep_autoencoder, deep_autoencoder_report, tune_deep_autoencoder
from minigrad.experiments import search_comparison as comparison
from minigrad.plot import figure, loss_colours, tried
from minigrad.search import BiasedRandomSearch, GridSearch, LogUniform, RandomSearch, Space, Uniform
from minigrad.training import records

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
close = np.testing.assert_allclose

# %% [markdown]
# ## 1. The best of k
#
# Whoever tries $k$ settings reports the best. If single trials end at losses with the distribution function $F$, the
# best of $k$ has $1 - (1 - F)^k$: it falls with $k$ whatever the method, and it falls faster where trials differ more.
# Of $n$ trials that were made, the expected best of $k$ drawn from them is
#
# $$ \mathbb E\,[\min] = \sum_{i=1}^{n} c_{(i)} \binom{n - i}{k - 1} \Big/ \binom{n}{k}, \qquad
#    c_{(1)} \le \dots \le c_{(n)}. $$

# %%
rng = np.random.default_rng(90)
losses = rng.lognormal(size=9)
expected = deep_autoencoder_report.best_of_k(list(losses))
for k in (1, 3, 9):
    drawn = np.array([rng.choice(losses, k, replace=False).min() for _ in range(4000)])
    assert abs(expected[k - 1] - drawn.mean()) < 4 * drawn.std() / 4000**0.5 + 1e-12
print("expected best of 1, 3, 9 trials:", *(f"{expected[k - 1]:.2f}" for k in (1, 3, 9)))

# %% [markdown]
# The deep autoencoder's methods had equally many trials each, of equal time. Where would they stand if fewer had been
# made? A comparison is settled where the curves no longer cross.

# %%
tuning = records.load(deep_autoencoder.TUNED)
curves = {
    name: np.array(deep_autoencoder_report.best_of_k([trial["error"] for trial in trials]))
    for name, trials in tune_deep_autoencoder.trials(tuning).items()
}
count = len(next(iter(curves.values())))
order = lambda k: sorted(curves, key=lambda name: curves[name][k - 1])
pairs = len(curves) * (len(curves) - 1) // 2
print(f"{count} trials of {tuning['settings']['seconds']:g} s for each of {len(curves)} methods")
for k in (1, count // 2, count):
    behind = sum(order(k).index(a) > order(k).index(b) for i, a in enumerate(order(count)) for b in order(count)[i:])
    print(f"k = {k:2}: best {', '.join(order(k)[:3])}; {behind} of {pairs} pairs stand otherwise than at k = {count}")

# %% [markdown]
# ## 2. Three searches
#
# A space maps the unit cube to hyper-parameters; a learning rate is drawn evenly on a logarithmic scale. A grid of 100
# trials in two dimensions tries 10 values of each hyper-parameter, random search 100. If only one of the two matters,
# random search has tried ten times as many of it (Bergstra & Bengio 2012).

# %%
space = Space(lr=LogUniform(1e-3, 1e-1), alpha=LogUniform(0.5, 50.0))
close(space.parameters([0.5, 0.5])["lr"], 1e-2)
close(space.point({"lr": 1e-2, "alpha": 5.0}), [0.5, 0.5])


def loss(trial):
    """A valley along lr alpha = const, as figure 2.3 has one, whose floor rises from its middle."""
    across = np.log10(trial["lr"] * trial["alpha"] / 0.05)
    along = np.log10(trial["alpha"] / 5)
    return float(across**2 + 0.2 * along**2)


found = {
    "grid search": GridSearch(space, 10).run(loss, 100),
    "random search": RandomSearch(space, seed=1).run(loss, 100),
    "biased random search": BiasedRandomSearch(space, seed=1).run(loss, 100, batch=1),
}
for name, distinct in (("grid search", 10), ("random search", 100)):
    assert len({trial["lr"] for trial in found[name].trials}) == distinct
fig, axes = figure(1, 3, width=9.0, height=3.0, sharey=True)
norm = loss_colours([trial.loss for history in found.values() for trial in history.trials])
for ax, (name, history) in zip(axes, found.items(), strict=True):
    columns = ([trial[key] for trial in history.trials] for key in ("lr", "alpha"))
    points = tried(ax, *columns, [trial.loss for trial in history.trials], norm)
    ax.set(xscale="log", yscale="log", xlabel="learning rate", title=f"{name}: {history.best.loss:.1g}")
axes[0].set_ylabel("alpha")
_ = fig.colorbar(points, ax=axes, label="loss", extend="max")

# %% [markdown]
# ## 3. Algorithm 1 in twenty lines
#
# A point $a$ is drawn evenly; the model says what to expect there, the nearest trial's loss; and with probability
#
# $$ p = \frac{c_{\max} - \mathcal M(\mathcal H, a)}{c_{\max} - c_{\min}} $$
#
# it becomes the next trial, otherwise another one is drawn. The library draws many points at once, but from the same
# stream of numbers, so that the trials are the same to the last bit:

# %%


def algorithm_1(loss, space, seed, trials):
    """[(point, loss)], line by line."""
    H = []  # line 1
    for number in range(trials):  # line 2
        draw = search.trial.rng(seed, number)
        while True:  # line 4
            *a, x = draw.random(len(space) + 1)  # lines 5 and 8
            if not H:
                break  # nothing is known yet
            points, c = np.array([a for a, _ in H]), np.array([c for _, c in H])
            estimate = c[((points - a) ** 2).sum(axis=1).argmin()]  # line 6
            p = (c.max() - estimate) / (c.max() - c.min()) if c.max() > c.min() else 1.0  # line 7
            if x < p:  # line 9
                break
        H.append((a, loss(search.Trial(number, space.parameters(a), 0))))  # lines 13 and 14
    return H


ours = algorithm_1(loss, space, 1, 60)
theirs = found["biased random search"].trials[:60]
assert [space.parameters(a) for a, _ in ours] == [trial.parameters for trial in theirs]
assert [c for _, c in ours] == [trial.loss for trial in theirs]

# %% [markdown]
# What is kept has the density $p(a) / \int p$, and a proposal is kept with probability $\int p$. Here is a history of
# five trials in one dimension; the probability of each neighbourhood is its length times its $p$.

# %%
line = Space(x=Uniform(0.0, 1.0))
places, c = np.array([0.1, 0.25, 0.5, 0.7, 0.95]), np.array([3.0, 1.0, 0.0, 2.0, 4.0])
edges = np.concatenate([[0], (places[1:] + places[:-1]) / 2, [1]])
shares = np.diff(edges) * (c.max() - c) / (c.max() - c.min())
draws = 4000
counts = np.zeros(5)
for seed in range(draws):
    biased = BiasedRandomSearch(line, seed)
    for number, (x, value) in enumerate(zip(places, c, strict=True)):
        biased.tell(search.Trial(number, {"x": float(x)}, 0), value)
    counts[np.searchsorted(edges, biased.propose(5)[0]) - 1] += 1
test = stats.chisquare(counts[:4], draws * shares[:4] / shares.sum())
print(f"kept in each neighbourhood: {counts.astype(int)}; expected {np.round(draws * shares / shares.sum(), 1)}")
print(f"chi-square: p = {test.pvalue:.2f}; of the proposals {shares.sum():.0%} are kept")
assert test.pvalue > 1e-3 and counts[4] == 0  # the worst trial's neighbourhood is never tried again

# %% [markdown]
# Three things the box leaves open, and what is done here. With an empty history there is neither $c_{\max}$ nor
# $c_{\min}$, and as long as all losses agree $p$ is $0 / 0$: the point is kept. A trial that fails, or returns no
# finite number, has $p = 0$ and does not enter $c_{\max}$. And where $p = 0$ all over, line 4 would loop for ever:
# after 1,000 proposals the next trial is drawn from these.

# %%
nothing = BiasedRandomSearch(space, seed=3).run(lambda trial: float("nan"), 5)
assert [trial.failed for trial in nothing.trials] == ["returned nan, expected a finite number"] * 5
same = BiasedRandomSearch(space, seed=3).run(lambda trial: 1.0, 5, batch=1)
even = RandomSearch(space, seed=3).run(lambda trial: 1.0, 5)
assert [trial.parameters for trial in same.trials] == [trial.parameters for trial in even.trials]

# %% [markdown]
# ## 4. What the bias buys, and what it costs
#
# The bias is a bet: that what is near a good trial is good. On a bowl the bet pays. It loses where the best lies in the
# middle of bad, a narrow well on the rim: random search hits that by chance, biased search stays away. And the thesis'
# rule weighs a loss by its distance from the worst: one corner with losses of a million, and all others have $p$ near
# 1. A rule by rank, the share of trials that a loss beats, does not see how bad the corner is.

# %%
count = 20 if QUICK else 100
rules = {name: comparison.RULES[name] for name in ("random search", "biased random search", "biased, by rank")}
ends = {
    (name, rule): np.array(
        [
            make(comparison.SQUARE, seed).run(lambda trial, f=f: f(trial["x"], trial["y"]), 50, batch=1).best.loss
            for seed in range(count)
        ]
    )
    for name, f in comparison.FORMULAS.items()
    for rule, make in rules.items()
}
for name in comparison.FORMULAS:
    for rule in rules:
        least = ends[name, rule]
        well = f", {np.mean(least < 0):.0%} in the well" if name == "deceptive" else ""
        print(f"{name:10} {rule:21} mean {least.mean():+.3f}, sd {least.std(ddof=1):.3f}{well}")
hit = 1 - (1 - np.pi * comparison.RADIUS**2) ** 50
print(f"50 random points hit the well with probability {hit:.0%}")
assert abs(np.mean(ends["deceptive", "random search"] < 0) - hit) < 4 * (hit * (1 - hit) / count) ** 0.5
assert ends["bowl", "biased random search"].mean() < ends["bowl", "random search"].mean()
assert np.mean(ends["deceptive", "biased random search"] < 0) < np.mean(ends["deceptive", "random search"] < 0)
assert ends["diverging", "biased, by rank"].mean() < ends["diverging", "biased random search"].mean()

# %% [markdown]
# ## 5. The thesis' table
#
# "We ran 100 searches of 100 experiments on a simple task where we tuned 2 hyperparameters": random search came to
# 27.02 ± 0.28, biased to 26.61 ± 0.13 (in our copy the grid's average is illegible). `python -m minigrad run
# search-comparison --full` repeats it with the deep autoencoder after 100 updates, for the learning rate and the
# variance of the initial weights. Where its record comes with minigrad it is shown below, else a run of a few seconds,
# and then the verdicts mean little.

# %%
record = experiments.show("search-comparison")
print("\nmethod                 mean     sd   the thesis")
for row in comparison.table(record):
    paper = " ± ".join("?" if number is None else f"{number:g}" for number in row["paper"])
    print(f"{row['method']:21} {row['mean']:6.2f} {row['sd']:6.2f}   {paper}")

# %% [markdown]
# What other models and rules would have found, played on the landscape of the random searches' trials (at any point,
# the loss of the nearest one):

# %%
for rule, row in record["results"]["played"]["recorded"].items():
    print(f"{rule:21} {row['mean']:6.2f} ± {row['sd']:.2f}")

# %% [markdown]
# ## 6. The tuned benchmark
#
# The sixteen methods of chapter 75 had sixteen random trials each. `python -m minigrad run deep-autoencoder --full
# --tune` gives as many, as long, to biased random search, and trains again with what these find.

# %%
tuned = experiments.show("deep-autoencoder", tune=True)

# %% [markdown]
# Beside the first tuning. Sixteen trials for three to seven hyper-parameters are few: whoever repeats the search has
# another winner, and part of what looks like the method is the luck of its trials. Part is the machine, too: the two
# tunings had equal seconds, but not on equal processors.

# %%
first = experiments.recorded("deep-autoencoder")
with tempfile.TemporaryDirectory() as folder:
    deep_autoencoder_report.plot_compared(first, tuned, Path(folder) / "compared.png")
rows = deep_autoencoder_report.compared(first, tuned)
for what, key in (("best trials", "trial"), ("ends of training", "train")):
    errors = np.array([row[key] for row in rows])
    alike = stats.spearmanr(*errors.T, nan_policy="omit").statistic
    ratio = np.nanmedian(errors[:, 1] / errors[:, 0])
    print(f"{what}: rank correlation {alike:.2f}; second over first, median of the methods {ratio:.2f}")
rates = [
    {row["method"]: row["parameters"]["batch_size"] / sum(row["milliseconds"].values()) for row in table}
    for table in map(deep_autoencoder_report.table, (first, tuned))
]
faster = np.median([rates[1][row["method"]] / rates[0][row["method"]] for row in rows])
same = rates[1]["K-FAC"] / rates[0]["K-FAC"]  # at its old batch size
print(f"images a second, second over first: {faster:.2f} (median of the methods), K-FAC {same:.2f}")

# %% [markdown]
# How much of that is the bias? If it works, a search's later trials, which know of more, are better than its first;
# those of random search are not. Within each method's search the trials' ranks tell, on whatever machine:

# %%
searches = {"random": tuning, "biased": experiments.recorded("tune-deep-autoencoder", tune=True)}
for what, record in searches.items():
    trials = tune_deep_autoencoder.trials(record).values()
    losses = np.array([records.numbers([trial["error"] for trial in each]) for each in trials])
    ranks = stats.rankdata(np.where(np.isnan(losses), np.inf, losses), axis=1)
    early, late = (half.mean(axis=1) for half in np.array_split(ranks, 2, axis=1))
    p = stats.wilcoxon(late - early).pvalue
    print(f"{what}: mean rank of the first half {early.mean():.2f}, of the second {late.mean():.2f} (p = {p:.2f})")

# %% [markdown]
# What stays and what does not:
#
# - By updates Kronecker factors lead with either tuning, by seconds centred and normalized methods, PRONG+ among them.
#   Eight methods end between 3.2 and 3.9, and which of two neighbours is ahead is a matter of sixteen trials.
# - No trend shows in the sixteen searches together, as little as in the random ones: in three to seven dimensions
#   sixteen trials are too few to teach the nearest neighbour anything that one could see. So it must come from the
#   second machine that biased search's best trials are better for all sixteen methods: they saw 2.8 times as many
#   images a second, 2.1 times with K-FAC, whose batch is as large as before. Section 5, with two dimensions and a
#   hundred trials, is what it takes to see the bias.
# - A trial of 45 s chooses what is best after 45 s. Natural gradient and Hessian-free fall to 13 and 11 in their first
#   75 s, and end at 32 and 27, with all three seeds alike. Their damping says why: Levenberg and Marquardt's rule asks
#   how good the model was on the very batch that it was made of. Of 100 or 500 images it is always good, the ratio
#   stays near 1, and within 120 updates lam falls from 3 or 1 to the least that is allowed, 1e-8 (`History.steps` has
#   it). From there each update fits its own batch (chapter 55). The first tuning's natural gradient, with 10 iterations
#   of CG in place of 15, still falls after 180 s; its Hessian-free climbs too.

# %% [markdown]
# ## 7. What is wrong or missing in the paper as printed
#
# - Algorithm 1, line 7: our copy has lost the denominator $c_{\max} - c_{\min}$, which the text has. Both leave open
#   what $p$ is at first, at $c_{\max} = c_{\min}$, and what a diverged trial is worth (section 3).
# - The text: values "close to the best experiments" are accepted "almost surely". That is so if the best trial is the
#   nearest one; half-way between best and worst $p$ is $1/2$, however many trials are better than that.
# - The average of the grid search is missing in the table. Its standard deviation of 0 says that a trial's loss was
#   taken for a function of the hyper-parameters alone.
#
# ## 8. Exercises
#
# 1. Losses of single trials are even on $[0, 1]$. What is the expected best of $k$? `check_exercise_1(lambda k:
#    value)`.
# 2. How many proposals does a trial take on average, when the lengths of the neighbourhoods are $\ell_i$ and their
#    probabilities $p_i$? `check_exercise_2(lambda lengths, p: number)`.
# 3. A rule of acceptance for `BiasedRandomSearch(acceptance=...)` that is more greedy than the thesis': each $p$
#    squared. `check_exercise_3(lambda losses: p)`.


# %%
def check_exercise_1(best):
    uniform = np.random.default_rng(0).random((20_000, 8))
    for k in (1, 4, 8):
        assert abs(best(k) - uniform[:, :k].min(axis=1).mean()) < 0.01, "the integral of (1 - F)^k"
    print("right")


def check_exercise_2(number):
    lengths, p = np.diff(edges), (c.max() - c) / (c.max() - c.min())
    draw = np.random.default_rng(0)
    proposals = []
    for _ in range(4000):
        tries = 1
        while draw.random() >= p[np.searchsorted(edges, draw.random()) - 1]:
            tries += 1
        proposals.append(tries)
    assert abs(number(lengths, p) - np.mean(proposals)) < 0.1, "each proposal is kept with the same probability"
    print("right")


def check_exercise_3(rule):
    values = np.array([1.0, 3.0, np.inf, 2.0])
    close(rule(values), [1.0, 0.0, 0.0, 0.25], err_msg="by_loss, squared; a failed trial has 0")
    greedy = partial(BiasedRandomSearch, acceptance=rule)
    ends = [make(space, s).run(loss, 60, batch=1).best.loss for make in (greedy, RandomSearch) for s in range(8)]
    assert np.mean(ends[:8]) < np.mean(ends[8:])
    print("right")


# %% tags=["hide-input"]
# The checkers are checked too, with a right and a wrong answer each.
check_exercise_1(lambda k: 1 / (k + 1))
check_exercise_2(lambda lengths, p: 1 / (lengths @ p))
check_exercise_3(lambda losses: search.by_loss(losses) ** 2)
for checker, wrong in (
    (check_exercise_1, lambda k: 1 / (2 * k)),
    (check_exercise_2, lambda lengths, p: 1 / p.mean()),
    (check_exercise_3, search.by_loss),
):
    try:
        checker(wrong)
    except AssertionError:
        continue
    raise RuntimeError("a wrong answer was taken for right")
