"""The objective's quadratic model along one or two vectors: what a step promises, and which combination promises most.

    g'd + d'(G + (eta + lam) I)d / 2    for d = sum_i c_i v_i; eta: the weight decay, G: the exact Fisher information

is a quadratic function of c with as many numbers as c has pairs (Martens & Grosse 2015, sections 6.4 and 7, where the
vectors are the new direction and the last step). v'Gw = (J v)' M (J w): an R-op a vector, and no L-op.
"""

from dataclasses import dataclass

from ..backend import to_host, xp
from ..linalg.vectors import dot


@dataclass(frozen=True)
class Model:
    """slopes'c + c'(curvatures + lam lengths)c / 2, in the coefficients c of one or two vectors; numbers on the host.

    slopes[i] = g'v_i, curvatures[i][j] = v_i'(G + eta I)v_j, lengths[i][j] = v_i'v_j. parallel: below this sin^2 of the
    angle (in the model's metric) two vectors count as one.
    """

    slopes: list
    curvatures: list
    lengths: list
    parallel: float

    def slope(self, c):
        """g'd."""
        return sum(c_i * b for c_i, b in zip(c, self.slopes))

    def curvature(self, c):
        """d'(G + eta I)d, without lam."""
        return sum(c_i * c_j * b for c_i, row in zip(c, self.curvatures) for c_j, b in zip(c, row))

    def minimum(self, c, lam):
        """[alpha, mu]: the numbers of c as they are, and in the place of its Nones those that make the model least.

        Vectors of no length get 0, and so does the second of two parallel ones.
        """
        b = self.slopes
        B = [[q + lam * l for q, l in zip(*rows)] for rows in zip(self.curvatures, self.lengths)]
        free = [i for i in range(len(b)) if c[i] is None and B[i][i] > 0]
        c = [0.0 if c_i is None else c_i for c_i in c]
        if len(free) == 2:
            determinant = B[0][0] * B[1][1] - B[0][1] * B[1][0]
            if determinant > self.parallel * B[0][0] * B[1][1]:
                return [
                    (B[0][1] * b[1] - B[1][1] * b[0]) / determinant,
                    (B[1][0] * b[0] - B[0][0] * b[1]) / determinant,
                ]
            free = [0]
        for i in free:
            others = sum(B[i][j] * c[j] for j in range(len(b)) if j != i)
            c[i] = -(b[i] + others) / B[i][i]
        return c


def quadratic_model(objective, g, r, J, vectors):
    """The Model around theta along vectors, with G on the batch of r and J."""
    M, tangents = objective.loss.metric(r), [J.rop(v).reshape(-1) for v in vectors]
    products = [M @ tangent for tangent in tangents]
    numbers = [dot(g, v) for v in vectors]
    numbers += [dot(tangent, product) for tangent in tangents for product in products]
    numbers += [dot(v, w) for v in vectors for w in vectors]
    numbers, k = to_host(xp.stack(numbers)).tolist(), len(vectors)
    rows = [numbers[i : i + k] for i in range(0, len(numbers), k)]
    slopes, curvatures, lengths = rows[0], rows[1 : 1 + k], rows[1 + k :]
    eta, rounding = objective.weight_decay, float(xp.finfo(g.dtype).eps)
    curvatures = [[q + eta * l for q, l in zip(*pair)] for pair in zip(curvatures, lengths, strict=True)]
    return Model(slopes, curvatures, lengths, parallel=100 * rounding)
