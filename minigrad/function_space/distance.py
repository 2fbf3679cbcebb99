"""Networks as functions: how far apart are two of them (Benjamin et al. 2018, section 2; 2019, section 2)?

A net is a vector-valued function of its input, f_theta(x) = y, and the data's distribution gives functions a norm,

    ||f - g||^2 = E_x |f(x) - g(x)|^2,      estimated on N inputs as  D2 = 1/N sum_i |f(x_i) - g(x_i)|^2

D2 is the mean square distance and D = sqrt(D2) the root mean square distance. The papers write both as ||f - g||; here
each has its name. Functions are given by their outputs y (N, ...) on the same inputs: y = sigma(r), what
`objective.predict` returns, so that a classifier's are probabilities (2019, figure 2).
"""

from ..autodiff import linearize
from ..backend import item, xp
from ..linalg.vectors import add_up


def mean_square(f, g):
    """D2 = 1/N sum_i |f_i - g_i|^2, a number, of outputs f and g (N, ...) on the same inputs.

    Raises ValueError for no samples or for shapes that differ.
    """
    check_outputs(f.shape, g)
    e = (f - g).reshape(-1)
    return item(xp.dot(e, e)) / f.shape[0]


def squared_distances(f, g):
    """|f_i - g_i|^2 of each sample, (N,), of outputs f and g (N, ...) on the same inputs; D2 is their mean.

    Raises as `mean_square`.
    """
    check_outputs(f.shape, g)
    e = (f - g).reshape(f.shape[0], -1)
    return (e * e).sum(axis=1)


def root_mean_square(f, g):
    """D = sqrt(D2), a number; see `mean_square`."""
    return mean_square(f, g) ** 0.5


def mean_square_and_grad(objective, theta, x, f):
    """D2 between f_theta and the outputs f (N, ...) on x, and its gradient (n,) in theta, 2/N sum_i J_i'(f_theta - f).

    J_i is the Jacobian of y at x_i, through the output activation. One sweep each way, slice by slice.
    Raises ValueError where f does not have the outputs' shape, and what `objective.predict` raises.
    """
    x = objective.inputs(theta, x)
    n = x.shape[0]
    if f.shape[:1] != (n,):
        raise ValueError(f"distance: need outputs of the same inputs, got {f.shape[:1]} of them for {n} inputs")

    net, slices, run = objective.cut(theta, n, objective.rows)

    def one_slice(rows):
        y, J = linearize(lambda theta: objective.loss.predict(net.apply(theta, x[rows])), theta)
        check_outputs(y.shape, f[rows])
        e = y - f[rows]
        return xp.dot(e.reshape(-1), e.reshape(-1)), J.lop(e * (2.0 / n))

    squares, gradients = zip(*run(one_slice, slices), strict=True)
    square, g = objective.ranks.total([sum(squares[1:], squares[0]), add_up(gradients)])
    return item(square) / n, g


def root_mean_square_and_grad(objective, theta, x, f):
    """D = sqrt(D2) and its gradient, that of D2 over 2 D; see `mean_square_and_grad`.

    Where f_theta = f the root has a kink, and its gradient any of an ellipsoid; the shortest is returned, 0.
    """
    square, g = mean_square_and_grad(objective, theta, x, f)
    root = square**0.5
    return root, g * (0.5 / root) if root > 0 else xp.zeros_like(g)


def check_outputs(shape, f):
    """Raise ValueError unless outputs f have this shape, of at least one sample."""
    if f.shape != shape:
        raise ValueError(f"distance: outputs must have one shape, got {shape} and {f.shape}")
    if not shape or shape[0] == 0:
        raise ValueError(f"distance: need outputs of at least one sample, got shape {shape}")
