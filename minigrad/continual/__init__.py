"""Continual learning: one task after another, without forgetting the first (Benjamin et al. 2019, section 3.1).

    tasks = Permuted(x, t, count=8)
    for lesson in learn(objective, EWC(lam=500), tasks, updates=6000):
        print(lesson.number, numbers_kept(lesson.kept), objective.value(lesson.theta, tasks[0]))

`learn` is one call of `fit` a task. What a method does about forgetting it says in two places: what it keeps of a task
at its end, and how that changes the optimizer of the next.

    Plain       nothing
    Retrain     examples; every so often a step on them               (working memory)
    L2Memory    examples and outputs; distance to these outputs       (working memory)
    EWC         theta and the diagonal of the Fisher information       Kirkpatrick et al. 2017
    SI          theta and each parameter's share in what was learned   Zenke et al. 2017
"""

from .learn import Lesson, learn
from .methods import Plain, numbers_kept
from .quadratic import EWC, SI
from .working_memory import L2Memory, Retrain

__all__ = ["learn", "Lesson", "Plain", "Retrain", "L2Memory", "EWC", "SI", "numbers_kept"]
