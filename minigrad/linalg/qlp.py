"""The QLP factorization of a tridiagonal matrix, a column at a time: the scalars of MINRES and MINRES-QLP.

The Lanczos process gives T_k, (k + 1) x k: alphas on the diagonal, betas beside it. Reflections from the left make it
upper triangular, Q T = R; reflections from the right make R lower triangular, R P = L (Choi, Paige & Saunders 2011,
section 5). MINRES is y = R^-1 t with t = beta_1 times the first entries of Q's first column; MINRES-QLP is y = P u with
L u = t, whose last entry may be left out when T_k is singular: the shortest solution.

Everything here is Python floats. Letters are the paper's: c, s a reflection; gamma, delta, epsilon R's diagonals;
gamma, theta, eta L's; tau an entry of t; phi the residual's norm.
"""

from dataclasses import dataclass
from math import hypot


def reflection(a, b):
    """c, s, r with [c s; s -c] [a; b] = [r; 0] and r >= 0."""
    r = hypot(a, b)
    return (a / r, b / r, r) if r > 0 else (1.0, 0.0, 0.0)


def over(a, b):
    """a / b, and 0 where b is 0: the shortest solution of b x = a in the least-squares sense."""
    return a / b if b != 0 else 0.0


@dataclass
class Row:
    """A row of L u = t: eta u_{i-2} + theta u_{i-1} + gamma u_i = tau. A row of zeros stands where there is none."""

    eta: float = 0.0
    theta: float = 0.0
    gamma: float = 0.0
    tau: float = 0.0
    u: float = 0.0

    def solve(self, before, last):
        """u, given the two entries above it."""
        self.u = over(self.tau - self.eta * before - self.theta * last, self.gamma)


class QLP:
    """State after k columns.

    delta, epsilon, gamma: column k of R. tau, phi: t_k and ||r_k||. decay: ||A r_{k-1}|| / ||r_{k-1}||.
    left, right: the reflections P_{k-2,k} and P_{k-1,k}. first, second, third: rows k-2, k-1, k of L, with their u.
    norm: ||T_k|| estimated from below; condition: norm over the smallest |gamma| of L; length: ||u|| = ||x_k - x_0||.
    quadratic: phi(x_k) - phi(x_0).
    """

    def __init__(self, beta):
        self.k, self.beta, self.phi = 0, beta, beta
        self.c, self.s = -1.0, 0.0
        self.next_delta = self.next_epsilon = 0.0
        self.second, self.third = Row(), Row()
        self.finished = (0.0, 0.0)  # u_{k-4} and u_{k-3}: they will not change any more
        self.finished_length, self.finished_gamma = 0.0, float("inf")
        self.norm = self.quadratic = 0.0
        self.slopes = (0.0, 0.0)  # r_{k-1}'d_{k-2} and r_{k-1}'d_{k-1}

    def column(self, alpha, beta):
        """Take in alpha_k and beta_{k+1}."""
        self.k += 1
        self.norm = max(self.norm, hypot(self.beta, alpha, beta) if self.k > 1 else hypot(alpha, beta))
        self.beta = beta
        gamma, s_old = self._from_the_left(alpha, beta)
        self._progress(s_old)
        self._from_the_right(gamma)
        self._estimates()

    def truncate(self):
        """Leave out u_k: T_k counts as singular, and this makes the solution the shortest."""
        self.third.u = 0.0
        self._estimates()

    def _from_the_left(self, alpha, beta):
        """Q_{k-1,k} of the last column meets column k, then Q_{k,k+1} removes beta."""
        c, s = self.c, self.s
        self.epsilon = self.next_epsilon
        self.delta = c * self.next_delta + s * alpha
        gamma = s * self.next_delta - c * alpha
        self.next_epsilon, self.next_delta = s * beta, -c * beta
        self.decay = hypot(gamma, self.next_delta)  # A r_{k-1} = phi_{k-1} (gamma v_k + delta_{k+1} v_{k+1})
        self.phi_old, self.c_old = self.phi, c
        self.c, self.s, self.gamma = reflection(gamma, beta)
        self.tau, self.phi = self.c * self.phi, self.s * self.phi
        return self.gamma, s

    def _progress(self, s_old):
        """phi(x_k) - phi(x_{k-1}) = -(r_{k-1} + r_k)'(x_k - x_{k-1}) / 2, where x_k - x_{k-1} = tau d_k, D = V R^-1.

        r_k = s^2 r_{k-1} - phi_k c v_{k+1} and v_{k+1} is orthogonal to d_k, so r_{k-1}'d_k is all that it takes; it
        obeys d_k's own recurrence, with r_{k-1}'v_k = -phi_{k-1} c_{k-1}.
        """
        before, last = self.slopes
        slope = over(-self.phi_old * self.c_old - self.epsilon * before - self.delta * last, self.gamma)
        self.quadratic -= 0.5 * self.tau * (1 + self.s**2) * slope
        self.slopes = (self.s**2 * last, self.s**2 * slope)

    def _from_the_right(self, gamma):
        """P_{k-2,k} removes epsilon, P_{k-1,k} removes delta; then the last three entries of u."""
        first, second, third = self.second, self.third, Row(tau=self.tau)
        self.before = first.gamma, second.theta, second.gamma, first.u, second.u

        c, s, first.gamma = reflection(first.gamma, self.epsilon)
        second.theta, delta = c * second.theta + s * self.delta, s * second.theta - c * self.delta
        third.eta, gamma = s * gamma, -c * gamma
        self.left = c, s

        c, s, second.gamma = reflection(second.gamma, delta)
        third.theta, third.gamma = s * gamma, -c * gamma
        self.right = c, s

        first.solve(*self.finished)
        second.solve(self.finished[1], first.u)
        third.solve(first.u, second.u)
        self.first, self.second, self.third = first, second, third
        self.finished = self.finished[1], first.u
        self.finished_length = hypot(self.finished_length, first.u)
        if self.k > 2:
            self.finished_gamma = min(self.finished_gamma, first.gamma)

    def _estimates(self):
        gammas = [abs(row.gamma) for row in (self.third, self.second)[: self.k]]
        self.norm = max(self.norm, self.first.gamma, *gammas)
        smallest = min(self.finished_gamma, *gammas)
        self.condition = self.norm / smallest if smallest > 0 else float("inf")
        self.length = hypot(self.finished_length, self.second.u, self.third.u)
