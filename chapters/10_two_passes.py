# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Two passes: the derivative as a linear map
#
# **The question.** A network has a million parameters and a hundred outputs. Its derivative is a matrix with a hundred
# million entries. How can we multiply with that matrix, with its transpose, even with second derivatives, and never
# form it?
#
# **The papers.** Pearlmutter (1994) multiplied with the Hessian by a second forward pass, the *R-operator*; Schraudolph
# (2002) combined it with the backward pass into products with curvature matrices. Pascanu & Bengio (section 1) build
# natural gradient descent on this pipeline, and so does this whole book. We build the engine in one page from nothing,
# test it in every way we can think of, and then meet `minigrad.autodiff`, which is the same idea with more operations.
#
# | in the papers | here | shape | what it is |
# |---|---|---|---|
# | $\mathbf J_y$; George: $\mathbf J_f^x$ | `J` | (m, n) | the Jacobian, $J_{ij} = \partial y_i / \partial x_j$ |
# | $v$ | `v` | (n,) | a tangent: a direction in which x moves |
# | $\mathcal R\{f(x)\}$ (Pearlmutter), R-op | `J @ v`, `rop(v)` | (m,) | how y moves then |
# | $u$ | `u` | (m,) | a cotangent: how much we care about each output |
# | L-op | `J.T @ u`, `lop(u)` | (n,) | how much we must then care about each input |
# | $\mathbf H$ | `H` | (n, n) | the Hessian of a scalar f |
#
# One difference to keep in mind: for Pascanu & Bengio a gradient is a row vector. Here it is a plain vector,
# $J^\top u$.

# %%
# %matplotlib inline
import numpy as np

import minigrad
from minigrad.plot import BLACK, BLUE, GREEN, ORANGE, VERMILLION, figure, label_ends

minigrad.use("numpy")  # this chapter works on small host arrays, whatever backend is set
rng = np.random.default_rng(10)

# %% [markdown]
# ## 1. The chain rule is a product of matrices
#
# The derivative of $f$ at $x$ is the linear map $J$ that tells, to first order, what a small move does:
#
# $$ f(x + \varepsilon v) = f(x) + \varepsilon\, J v + O(\varepsilon^2). $$
#
# For a chain of steps, $J$ is the product of the steps' own matrices. Take three layers without biases,
# $y = A_3 \tanh(A_2 \tanh(A_1 x))$. A matrix is its own derivative; an elementwise function has a diagonal one:
#
# $$ J = A_3\, D_2\, A_2\, D_1\, A_1, \qquad D_l = \operatorname{diag}(1 - h_l^2), \quad h_l = \tanh(a_l). $$

# %%
A1, A2, A3 = rng.normal(size=(7, 5)), rng.normal(size=(6, 7)), rng.normal(size=(3, 6))
x, v, u = rng.normal(size=5), rng.normal(size=5), rng.normal(size=3)

h1 = np.tanh(A1 @ x)
h2 = np.tanh(A2 @ h1)
J = A3 @ np.diag(1 - h2**2) @ A2 @ np.diag(1 - h1**2) @ A1

f_plain = lambda x: A3 @ np.tanh(A2 @ np.tanh(A1 @ x))
print("moved:", (f_plain(x + 1e-6 * v) - f_plain(x)) / 1e-6, "\nJ v:  ", J @ v)
np.testing.assert_allclose((f_plain(x + 1e-6 * v) - f_plain(x)) / 1e-6, J @ v, atol=1e-4)

# %% [markdown]
# To multiply a *vector* with a product of matrices, never multiply the matrices. Start at the vector:
#
# $$ J v = A_3 (D_2 (A_2 (D_1 (A_1 v)))), \qquad J^\top u = A_1^\top (D_1 (A_2^\top (D_2 (A_3^\top u)))). $$
#
# The first runs in the order of the computation: the **R-op**, forward mode. The second runs against it: the **L-op**,
# reverse mode, known as backpropagation. Either costs about as much as computing $f$ itself. What differs is how many a
# whole matrix takes: $n$ R-ops, one a column, or $m$ L-ops, one a row. A gradient is one row: for 784 inputs, 1500
# units, 10 outputs and one loss, an L-op of 1.2 million multiplications; by R-ops it would take 784 times that.

# %%
np.testing.assert_allclose(A3 @ ((1 - h2**2) * (A2 @ ((1 - h1**2) * (A1 @ v)))), J @ v)
np.testing.assert_allclose(A1.T @ ((1 - h1**2) * (A2.T @ ((1 - h2**2) * (A3.T @ u)))), J.T @ u)

# %% [markdown]
# ## 2. The engine in one page
#
# While $f$ runs, we write down each step's linear map, in both directions, around one coefficient. That list is the
# **tape**. The two sweeps are the two products above. When a value is used twice its cotangents add up: two paths, and
# the chain rule sums over paths. The last lines of the page check it against section 1.


# %%
class Var:
    """A value that a tape watches, and its place on that tape."""

    __array_ufunc__ = None  # NumPy's arrays leave `array * Var` to us

    def __init__(self, value, tape, place):
        self.value, self.tape, self.place = value, tape, place

    shape = property(lambda self: self.value.shape)
    __add__ = __radd__ = lambda self, other: add(self, other)
    __mul__ = __rmul__ = lambda self, other: multiply(self, other)


def unwrap(args):
    """Which tape records, and which arguments does it watch? A first try: the one that records now, and every Var."""
    watched = [isinstance(a, Var) for a in args]
    return (recording[-1] if any(watched) else None), watched


def op(value, *rules):
    """Let `value` write itself on the tape: rules[i](y, *args) is the pair (R, L) of the map from argument i to y."""

    def recorded(*args):
        tape, watched = unwrap(args)
        if tape is None:
            return value(*args)
        inside = [a.value if w else a for a, w in zip(args, watched)]
        y = recorded(*inside)
        tape.append([(a.place, rule(y, *inside)) for a, w, rule in zip(args, watched, rules) if w])
        return Var(y, tape, len(tape))

    return recorded


def linearize(f, x):
    """Run f once. Returns f(x), v -> J v, and u -> J'u."""
    tape = []  # the linear maps of each operation, in the order in which they ran
    recording.append(tape)
    y = f(Var(x, tape, 0))
    recording.pop()

    def rop(v):
        tangents = [v]
        for maps in tape:
            tangents.append(sum(R(tangents[i]) for i, (R, _) in maps))
        return tangents[y.place]

    def lop(u):
        cotangents = {y.place: u}
        for place in range(len(tape), 0, -1):
            for i, (_, L) in tape[place - 1] if place in cotangents else []:
                back = L(cotangents[place])
                cotangents[i] = cotangents[i] + back if i in cotangents else back
        return cotangents[0]

    return y.value, rop, lop


recording = []  # the tapes that record now, inner ones last
same = (lambda v: v, lambda u: u)
scale = lambda s: (lambda v: s * v, lambda u: s * u)  # one coefficient, two directions
add = op(lambda a, b: a + b, lambda y, a, b: same, lambda y, a, b: same)
multiply = op(lambda a, b: a * b, lambda y, a, b: scale(b), lambda y, a, b: scale(a))
tanh = op(np.tanh, lambda y, a: scale(1.0 + -1.0 * (y * y)))
matrix = lambda A: op(lambda a: A @ a, lambda y, a: (matrix(A), matrix(A.T)))
total = op(np.sum, lambda y, a: (total, fill(a.shape)))
fill = lambda shape: op(lambda a: a * np.ones(shape), lambda y, a: (fill(shape), total))
grad = lambda f: lambda x: linearize(f, x)[2](1.0)  # the L-op of 1

# That is all. Our three layers, and a function in which one value takes two paths:
f = lambda x: matrix(A3)(tanh(matrix(A2)(tanh(matrix(A1)(x)))))
y, rop, lop = linearize(f, x)
np.testing.assert_allclose(y, f_plain(x))
np.testing.assert_allclose(rop(v), J @ v)
np.testing.assert_allclose(lop(u), J.T @ u)

loss = lambda x: 0.5 * total(f(x) * f(x))  # f is used twice
np.testing.assert_allclose(grad(loss)(x), J.T @ f_plain(x))
print("gradient:", grad(loss)(x))

# %% [markdown]
# ## 3. The adjoint test
#
# How can we know that the backward sweep is the transpose of the forward one, without forming either? By the definition
# of a transpose, for any $u$ and $v$:
#
# $$ \langle u, J v \rangle = \langle J^\top u, v \rangle. $$
#
# Two numbers, which must agree to rounding. One pair of random vectors tests all entries at once.

# %%
print(f"<u, Jv> = {u @ rop(v):.15f}\n<J'u, v> = {lop(u) @ v:.15f}")
np.testing.assert_allclose(u @ rop(v), lop(u) @ v, rtol=1e-13)

# %% [markdown]
# ## 4. Differences, and a step that is not real
#
# The adjoint test says that the two sweeps agree with each other. They could agree on a wrong number. So we also need
# the true directional derivative, from outside. A difference quotient has two errors, one from the curvature and one
# from rounding ($\epsilon \approx 2 \cdot 10^{-16}$), and no step makes both small:
#
# $$ \left| \frac{f(x + \varepsilon v) - f(x)}{\varepsilon} - J v \right| \approx
#    \frac{\varepsilon}{2} |v^\top H v| + \frac{\epsilon |f|}{\varepsilon}. $$
#
# An *imaginary* step (Squire & Trapp, 1998) subtracts nothing, so nothing cancels, and the step may be as small as we
# like:
#
# $$ \operatorname{Im} \frac{f(x + i h v)}{h} = J v + O(h^2). $$

# %%
truth = grad(loss)(x) @ v
steps = np.logspace(0, -20, 41)
estimates = {
    "forward difference": lambda e: (loss(x + e * v) - loss(x)) / e,
    "central difference": lambda e: (loss(x + e * v) - loss(x - e * v)) / (2 * e),
    "complex step": lambda e: np.imag(loss(x + 1j * e * v)) / e,
}
errors = {name: np.array([abs(by(e) / truth - 1) for e in steps]) for name, by in estimates.items()}
best = [steps[np.argmin(error)] for error in errors.values()]
assert 1e-9 < best[0] < 1e-6 < best[1] < 1e-3  # near the square root and the cube root of the rounding error
assert errors["complex step"][20:].max() < 1e-14

fig, axis = figure(height=3.2)
for (name, error), color in zip(errors.items(), (ORANGE, BLUE, GREEN)):
    axis.loglog(steps, np.maximum(error, 1e-16), color=color, label=name)
axis.set(xlabel=r"step $\varepsilon$, shrinking (in units of v)", ylabel="relative error of $J v$", xlim=(1, 1e-20))
axis.set_title("Differences lose half or a third of the digits; a complex step loses none", fontsize=9)
label_ends(axis)

# %% [markdown]
# ## 5. The Hessian, by differentiating the sweep
#
# The gradient is itself a function of $x$, made of operations. Pearlmutter's observation: the Hessian times a vector is
# the R-op of the gradient,
#
# $$ H v = \mathcal R\{\nabla f(x)\}
#     = \left. \frac{d}{d\varepsilon} \nabla f(x + \varepsilon v) \right|_{\varepsilon = 0}. $$
#
# Our rules are written with our own operations, so `linearize(grad(loss), x)` should do it: a tape that records another
# tape's sweep. Let us first try something smaller that we can do in our heads:
#
# $$ \frac{d}{dx} \Big[ x \cdot \frac{d}{dy} (x + y) \Big] = \frac{d}{dx} [x \cdot 1] = 1. $$

# %%
confused = grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0)
print("d/dx [ x d/dy (x + y) ] =", confused, "(it is 1)")
assert confused == 2.0

# %% [markdown]
# Two! The inner tape watched `y`, at its place 0. But `x`, watched by the *outer* tape and at *its* place 0, came
# along, and our first try took it for `y`: $d(x+y)/dy$ became $1 + 1$. This is **perturbation confusion**, and many
# engines have had it. The cure: tapes have levels, inner ones higher. An operation is recorded on the highest level
# among its arguments, and there everything else, outer variables included, is a constant.


# %%
def unwrap(args):
    """The innermost tape that watches any of them records, and watches its own alone."""
    owners = [a.tape if isinstance(a, Var) else None for a in args]
    tape = next((t for t in reversed(recording) if any(t is owner for owner in owners)), None)
    return tape, [tape is not None and owner is tape for owner in owners]


assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1.0

_, H, HT = linearize(grad(loss), x)  # the R-op and the L-op of the gradient
np.testing.assert_allclose(H(v), np.imag(grad(loss)(x + 1e-30j * v)) / 1e-30, rtol=1e-12)
np.testing.assert_allclose(HT(v), H(v), rtol=1e-12)  # Hessians are symmetric
np.testing.assert_allclose(errors["forward difference"][8] * abs(truth), steps[8] / 2 * abs(v @ H(v)), rtol=0.01)
print(f"H v = {H(v)};  section 4's error model is right at a step of {steps[8]:.0e}")

# %% [markdown]
# One function changed, and the engine differentiates itself, to any order. The last line is a test that costs nothing
# to write: a Hessian is its own transpose, yet its R-op and its L-op take entirely different routes.
#
# ## 6. Taylor plots
#
# Taylor's theorem makes a picture that only right derivatives can draw:
#
# $$ f(x + \varepsilon v) = f(x) + \varepsilon\, g^\top v + \frac{\varepsilon^2}{2} v^\top H v + O(\varepsilon^3). $$
#
# Keep one, two or three terms, and plot what remains against $\varepsilon$ on logarithmic axes: slopes 1, 2 and 3. An
# error of one in a thousand in the gradient, which no plot of gradients would show, bends the second line to slope 1.

# %%
g, f0, direction = grad(loss)(x), loss(x), v / np.linalg.norm(v)
steps = np.logspace(-1, -5, 17)
moved = np.array([loss(x + e * direction) for e in steps]) - f0
slope, curve = g @ direction, direction @ H(direction)
remainders = {
    "nothing off": (moved, BLACK, 1),
    "$g$ off, wrong by 0.1 %": (moved - 1.001 * steps * slope, VERMILLION, None),
    "$g$ off": (moved - steps * slope, BLUE, 2),
    "$g$ and $H$ off": (moved - steps * slope - steps**2 / 2 * curve, GREEN, 3),
}
fig, axis = figure(height=3.2)
for name, (rest, color, order) in remainders.items():
    fitted = np.polyfit(np.log(steps[3:9]), np.log(abs(rest[3:9])), 1)[0]
    axis.loglog(steps, abs(rest), "-" if order else "--", color=color, label=f"{name}: slope {fitted:.1f}")
    assert order is None or abs(fitted - order) < 0.1
axis.set(xlabel=r"step $\varepsilon$, shrinking (length along v)", ylabel="what remains of $f$", xlim=(0.1, 1e-5))
axis.set_title("Each right term taken off raises the slope by one; a wrong one bends as the step shrinks", fontsize=9)
label_ends(axis)

# %% [markdown]
# ## 7. Meet `minigrad.autodiff`
#
# The library's engine is this page, with more operations, better messages and less memory. Its Jacobian is an
# *operator*: it multiplies like a matrix and is none. NumPy's own functions work on what it traces.

# %%
from minigrad.autodiff import PRIMITIVES, Linear, check, linearize, primitive
from minigrad.autodiff import grad as library_grad

y, J_op = linearize(f_plain, x)
np.testing.assert_allclose(J_op @ v, rop(v), rtol=1e-13)
np.testing.assert_allclose(J_op.T @ u, lop(u), rtol=1e-13)
_, H_op = linearize(library_grad(lambda x: 0.5 * np.sum(f_plain(x) ** 2)), x)
np.testing.assert_allclose(H_op @ v, H(v), rtol=1e-12)
assert library_grad(lambda x: x * library_grad(lambda y: x + y)(1.0))(1.0) == 1.0
J_op

# %% [markdown]
# A network is a function of one vector of parameters (chapter 20). Its tape can be printed and read: which views of
# `x`, the flat parameter vector, go where. And `J.sweep(u)` is the L-op, stopped at each operation: what happened
# there, and the cotangent of its output. Whoever needs every layer's backward signal (chapter 20 does; K-FAC, ACP and
# PRONG will) reads it off here and needs no hooks.

# %%
from minigrad.nets import mlp

net, inputs = mlp([3, 4, 2], activation="tanh"), rng.normal(size=(6, 3))
theta = net.init(rng, dtype="float64")
output, J_net = linearize(lambda theta: net.apply(theta, inputs), theta)
print(J_net)
for node, cotangent in J_net.sweep(rng.normal(size=output.shape)):
    print(f"swept back: {node.op.name:7} {node.name or '':7} cotangent {cotangent.shape}")

# %% [markdown]
# ### Why the two directions cannot drift apart
#
# A rule returns one `Linear`: both directions, side by side, around one coefficient that is computed once. Older
# engines keep two tables of rules, one for each mode, and two tables can disagree. Can our checks tell? We plant faults
# of 0.1 %: in R alone, in L alone, and in the coefficient that both share.


# %%
def bent_tanh(r_fault=1.0, l_fault=1.0):
    """tanh as a new primitive, with faults in its rule."""

    @primitive
    def bent(x):
        return np.tanh(x)

    @bent.linear(0)
    def _(y, x):
        s = 1.0 - y * y
        return Linear(rop=lambda v: r_fault * s * v, lop=lambda u: l_fault * s * u)

    PRIMITIVES.pop("bent")  # it need not stay in the library's table
    return bent


def refuses(test, *args):
    """Does the test raise?"""
    try:
        test(*args)
    except AssertionError:
        return True
    return False


faults = {"nothing": (1, 1), "R": (1.001, 1), "L": (1, 1.001), "coefficient": (1.001, 1.001)}
print("fault in      caught by check.rop, by check.adjoint")
for place, fault in faults.items():
    caught = [refuses(test, bent_tanh(*fault), x) for test in (check.rop, check.adjoint)]
    print(f"{place:13} {caught}")
    assert caught == [fault[0] != 1, fault[0] != fault[1]]

# %% [markdown]
# So each test sees what another misses, and every operation of the library must pass them all, together with linearity
# and second order. `check` is public: use it on your own functions, as the tests of this project do.

# %%
check.rop(lambda theta: net.apply(theta, inputs), theta)  # J v against a complex step, to 1e-12
check.adjoint(lambda theta: net.apply(theta, inputs), theta)  # <u, Jv> = <J'u, v>
check.derivatives(lambda theta: net.apply(theta, inputs), theta)  # both, and both again for the sweeps: second order
check.symmetric(linearize(library_grad(lambda theta: np.sum(net.apply(theta, inputs) ** 2)), theta)[1])

# %% [markdown]
# ## 8. What second derivatives cost
#
# Two of our papers disagree. George (3.1.4) writes out $(f \circ g \circ h)''$, counts "3 backpropagations", and
# concludes that for bigger networks it "quickly becomes very slow". Pascanu & Bengio (section 7) say of the
# Gauss-Newton matrix and the Hessian that "computing both can be done equally fast". Let us count the linear maps in
# one product with each, $J^\top M J v$ (there and back) and $H v$, for deeper and deeper networks.

# %%
for depth in (2, 8, 32):
    deep = mlp([3] * (depth + 1), activation="tanh")
    run = lambda p, deep=deep: deep.apply(p, inputs)
    _, J_deep = linearize(run, deep.init(rng, dtype="float64"))
    _, H_deep = linearize(library_grad(lambda p, run=run: np.sum(run(p) ** 2)), deep.init(rng, dtype="float64"))
    there, hessian = (sum(len(node.inputs) for node in operator.nodes) for operator in (J_deep, H_deep))
    print(
        f"{depth:2} layers: J'MJv {2 * there:3} maps, Hv {hessian:3}, that is {hessian / (2 * there):.2f} times as many"
    )
    assert hessian < 3 * 2 * there

# %% [markdown]
# The Hessian's tape is longer by the same factor at any depth, because George's terms share their factors, and a sweep
# computes each shared factor once. The whole *matrix* would cost one such product a column: that is slow, and nobody
# needs it. Pascanu & Bengio are right up to a constant below 3.
#
# ## 9. What is different in the papers as printed
#
# **George, 2.1.2.** The thesis gives "the jacobians of the activations with respect to the parameters" as
# $\mathbf J_{a}^{W} = \nabla_{a} l\, h^\top$ and $\mathbf J_{a}^{b} = \nabla_{a} l$. These are not Jacobians of $a$, as
# their shapes tell; they are the *gradients of the loss*, $\nabla_W l = \nabla_a l\, h^\top$ and
# $\nabla_b l = \nabla_a l$. The Jacobian of $a = W h + b$ in $W$, taken row by row, is $I \otimes h^\top$, and in $b$
# it is $I$.

# %%
W, h, delta = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=4)
_, J_W = linearize(lambda w: w.reshape(4, 3) @ h, W.ravel())
np.testing.assert_allclose(J_W.dense(), np.kron(np.eye(4), h))
np.testing.assert_allclose(J_W.T @ delta, np.outer(delta, h).ravel())  # the printed formula is the L-op of delta

# %% [markdown]
# ## 10. Exercises
#
# 1. Write the toy engine's rule for $y = e^a$: a function `rule(y, a)` that returns the pair (R, L). Then
#    `check_exercise_1(rule)`.
# 2. Write `curvature(f, x, v)` $= v^\top H v$ with forward sweeps alone (`linearize` and `rop`, no `grad`).
#    `check_exercise_2(curvature)`.


# %%
def check_exercise_1(rule):
    a, s = np.linspace(-1.0, 1.5, 4), np.array([0.3, -1.0, 2.0, 0.7])
    R, L = rule(np.exp(a), a)
    truth = np.imag(np.exp(a + 1e-30j * s)) / 1e-30
    assert np.allclose(R(s), truth, rtol=1e-12), "R is not the derivative: compare R(s) with a complex step"
    assert np.isclose(a @ R(s), L(a) @ s), "L is not the transpose of R"
    print("right")


def check_exercise_2(curvature):
    cubic = lambda x: np.sum(x * x * x)
    a, s = np.array([1.0, -2.0, 0.5]), np.array([0.2, 1.0, -3.0])
    assert np.isclose(curvature(cubic, a, s), 6 * np.sum(a * s * s)), "for sum x**3 it is 6 sum x v**2"
    print("right")


# %% tags=["hide-input"]
# The checkers are checked too, with a right and a wrong answer each.
check_exercise_1(lambda y, a: scale(y))
check_exercise_2(lambda f, x, v: linearize(lambda z: linearize(f, z)[1].rop(v), x)[1].rop(v))
assert refuses(check_exercise_1, lambda y, a: scale(a))
assert refuses(check_exercise_2, lambda f, x, v: linearize(f, x)[1].rop(v))
