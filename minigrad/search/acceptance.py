"""Rules of acceptance: how much each trial's neighbourhood is to be explored further (George, section 2.3).

A rule takes the losses of n trials, inf for one that failed, and gives each a p in [0, 1]; a model of the landscape
spreads these over the space, and a biased random search keeps a proposal with the p found where it lies.
A failed trial has p = 0 under both rules, as the worst one has; where all losses that there are agree, these have p =
1.

    by_loss    the thesis': where the loss lies between best and worst
    by_rank    the share of the other trials that it beats: one diverged trial cannot flatten it
"""

import numpy as np


def by_loss(losses):
    """p = (c_max - c) / (c_max - c_min), algorithm 1 line 7, with c_max and c_min of the trials that did not fail.

    The same for a c + b with a > 0. Halves, since the difference of two finite numbers may overflow.
    """
    half = np.asarray(losses, float) / 2
    finite = np.isfinite(half)
    p = np.zeros(len(half))
    if finite.any():
        low, high = half[finite].min(), half[finite].max()
        p[finite] = (high - half[finite]) / (high - low) if high > low else 1.0
    return p


def by_rank(losses):
    """p = the share of the other trials that did not fail that this one beats, a tie counting half; 1 for the only one.

    The same for every increasing function of the losses.
    """
    losses = np.asarray(losses, float)
    finite = np.isfinite(losses)
    p = np.zeros(len(losses))
    values, which, agree = np.unique(losses[finite], return_inverse=True, return_counts=True)
    if len(values) == 1:
        p[finite] = 1.0
    elif len(values):
        beaten = agree.sum() - np.cumsum(agree)
        p[finite] = ((beaten + (agree - 1) / 2) / (agree.sum() - 1))[which]
    return p
