# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # The benchmark
#
# **The question.** The chapters before this one built sixteen methods. Which of them trains a deep network best: per
# update, and per second? And how much of the answer is the method, how much the search for its hyper-parameters?
#
# **The papers.** George's thesis, section 2.5, sets the task and leaves the comparison of ACP with K-FAC, natural
# neural networks and batch normalization "WIP" (section 3.4.3, figure 3.2). Desjardins et al. 2015, section 4.2 and
# figure 3c-d, have PRONG well ahead of SGD, RMSProp and batch normalization on the same kind of net. Neither says how
# the competitors were tuned. Here all are, alike.
#
# | | |
# |---|---|
# | the net | 784-1000-500-250-30 and back: sigmoids, a linear code; Bernoulli outputs in logit form |
# | what is measured | $\lVert y - x \rVert^2$, the thesis' error, of training images |
# | a method's parameters | the best of 16 random trials of 45 s, equally many for each (chapter 90) |
# | a run | 180 s of one core, three seeds; a second is one of the processor |

# %%
# %matplotlib inline
import os

import numpy as np

import minigrad
from minigrad import experiments
from minigrad.experiments import deep_autoencoder_report as report
from minigrad.experiments.deep_autoencoder_methods import METHODS

QUICK = os.environ.get("MINIGRAD_QUICK") == "1"
minigrad.use("numpy")
close = np.testing.assert_allclose

# %% [markdown]
# ## 1. The figure that the thesis left open
#
# Error against updates above, against seconds below; a column is a family of methods, grey the others. Batches differ,
# each method having chosen its own, so an update of one is not an update of another: the upper row says how much a
# method gets out of a step, the lower row what the step is worth.

# %%
record = experiments.show("deep-autoencoder")

# %% [markdown]
# The table, in order of the training error at the end: median, least and most of the seeds.

# %%
rows = report.table(record)
assert [row["train"][0] for row in rows] == sorted(row["train"][0] for row in rows)
print(f"{'':19}{'training error':>22}{'test':>7}{'updates':>9}{'batch':>7}{'ms an update':>14}{'us an image':>13}")
for row in rows:
    middle, low, high = row["train"]
    milliseconds, batch = sum(row["milliseconds"].values()), row["parameters"]["batch_size"]
    print(f"{row['method']:19}{middle:8.2f} ({low:.2f} - {high:.2f}){row['test'][0]:7.2f}{row['updates']:9,}{batch:7}"
          f"{milliseconds:14.1f}{1000 * milliseconds / batch:13.0f}")  # fmt: skip

# %% [markdown]
# ## 2. Per update, per second
#
# Order the methods twice. Where the two orders agree a method is better; where they do not, it is only dearer or
# cheaper.

# %%
runs = record["results"]["runs"]
common = min(run["updates"] for each in runs.values() for run in each.values())
by_update = {name: np.median(report.errors_at(each, "update", common)) for name, each in runs.items()}
by_second = {row["method"]: row["train"][0] for row in rows}
rank = lambda errors: sorted(errors, key=errors.get)
print(f"{f'after {common} updates':28}at the end")
for one, other in zip(rank(by_update), rank(by_second), strict=True):
    print(f"{one:19}{by_update[one]:6.1f}   {other:19}{by_second[other]:6.2f}")
moved = {name: rank(by_update).index(name) - rank(by_second).index(name) for name in runs}
assert sum(moved.values()) == 0

# %% [markdown]
# Methods that ask the curvature take the largest steps and lead while updates are counted; seconds are another matter.
#
# ## 3. How much is the tuning?
#
# The search's own trials say what would have come out of fewer of them (the right panel above). The spread between the
# best and the median trial of one method is often larger than the distance to the next method:

# %%
errors = record["settings"]["tuning"]["errors"]
for name in rank(by_second):
    trials = np.array([np.nan if e is None else e for e in errors[name]], float)
    assert len(trials) == record["settings"]["tuning"]["trials"] or QUICK
    print(f"{name:19} best trial {np.nanmin(trials):6.1f}   median {np.nanmedian(trials):6.1f}   "
          f"diverged {np.isnan(trials).sum():2} of {len(trials)}")  # fmt: skip

# %% [markdown]
# What each method ended up with:

# %%
assert set(errors) == set(METHODS) or QUICK
for row in rows:
    chosen = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                       for key, value in row["parameters"].items())  # fmt: skip
    print(f"{row['method']:19} {chosen}")

# %% [markdown]
# ## 4. What it says, and what it does not
#
# - One net, one data set, sigmoids, 180 seconds of one core. On another machine a second is worth other numbers of
#   updates to each method: the upper row of the figure stays, the lower one does not.
# - Sixteen trials are few for four or five hyper-parameters, and PRONG, ACP and K-FAC have the most. A method with
#   fewer parameters is better tuned by the same number of trials; one may count that among its merits.
# - Hessian-free turns round and climbs, long after the trials that chose its parameters were over. Chapter 90, section
#   6, tunes all methods anew and follows a run that does the same.
# - The papers' curves could not be reproduced as such: they give neither batch sizes nor rates.
# - The loss that is trained, Bernoulli in logit form, is a matched pair, so that the Fisher information is the
#   Gauss-Newton matrix of the same loss; the error that is shown is the thesis' squared one.
#
# ## Exercises
#
# 1. How many more images a second would K-FAC have to see to tie with the best method? Write `speed_up(name)`, the
#    factor by which all of a method's seconds must shrink for its median error to reach the winner's at the winner's
#    end, by running along its curve; `inf` if the curve never gets there.


# %%
def speed_up(name):
    best = rank(by_second)[0]
    seconds, curves = report.together(runs[name], "seconds")
    there = np.flatnonzero(np.median(curves, axis=0) <= by_second[best])
    return seconds[there[0]] / seconds[-1] if there.size else np.inf


assert speed_up(rank(by_second)[0]) <= 1
assert all(speed_up(name) >= speed_up(rank(by_second)[0]) for name in runs)
print({name: speed_up(name) for name in rank(by_second)[:4]})
