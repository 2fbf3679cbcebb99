"""The engine: a tape of linear maps.

    y, J = linearize(f, x)     # runs f once; J is a LinearOperator
    J @ v                      # R-op (forward mode): the tape swept forwards
    J.T @ u                    # L-op (reverse mode): the same tape swept backwards

While f runs on a traced value (`Var`), every primitive writes one node on the tape: its output, and for each
traced argument the linear map dy/d(argument), as one object with both directions. J is that list of maps. The chain
rule is the two loops `Jacobian.rop` and `Jacobian.lop`, and nothing else.

Tapes nest: maps are written with traced operations, so sweeping a tape while another one records differentiates
the sweep. `linearize(grad(loss), theta)` gives the Hessian. Each tape has a level, later tapes higher ones; a
primitive records on the highest level among its arguments and sees the lower ones as constants, so that
perturbations are never confused.

Constants (data, anything that does not depend on x) never enter the tape.
"""

import functools
import itertools
import math

from ..backend import item, xp
from ..linalg.operator import LinearOperator
from ..parallel import ALONE

_levels = itertools.count()
PRIMITIVES = {}  # name -> Primitive; the op table of the tests must cover it


class Var:
    """A value being traced: `value` (an array, or a Var of an outer tape), its tape, its place on the tape.

    It has NumPy's operators, indexing and common methods (attached in ops.py). It is immutable.
    """

    __slots__ = ("index", "tape", "value")

    def __init__(self, value, tape, index):
        self.value, self.tape, self.index = value, tape, index

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)

    def __len__(self):
        return len(self.value)

    def __repr__(self):
        return f"Var(t{self.index} {self.shape}, level {self.tape.level})"


def untraced(x):
    """The plain array inside a traced value: for masks and decisions, which carry no derivative."""
    while type(x) is Var:
        x = x.value
    return x


class Linear:
    """A linear map and its transpose around one cached coefficient.

    `rop(v)` maps a tangent of the argument to one of the output, `lop(u)` a cotangent of the output to one of the
    argument. `into(u, out)`, where given, is `lop` written into existing memory. `factor` is what curvature code needs
    to know of an affine layer's map: (its input, the Window on it or None).
    """

    __slots__ = ("factor", "into", "lop", "rop")

    def __init__(self, rop, lop, into=None, factor=None):
        self.rop, self.lop, self.into = rop, lop, into
        self.factor = factor

    @property
    def T(self):
        """The transpose, as a map of its own."""
        return Linear(self.lop, self.rop)


class Joint:
    """The linear map of several arguments at once, for operations whose arguments share work.

    `rop(*v)` maps a tangent an argument to the output's tangent, `lop(u)` a cotangent of the output to one an argument.
    """

    __slots__ = ("lop", "rop")

    def __init__(self, rop, lop):
        self.rop, self.lop = rop, lop

    def of(self, positions, args):
        """The map of these arguments alone; the others are constants, whose tangents are zero."""
        if len(positions) == len(args):
            return self
        kinds = [None if i in positions else (arg.shape, arg.dtype) for i, arg in enumerate(args)]

        def rop(*v):
            v = iter(v)
            return self.rop(*[next(v) if kind is None else xp.zeros(*kind) for kind in kinds])

        def lop(u):
            cotangents = self.lop(u)
            return [cotangents[i] for i in positions]

        return Joint(rop, lop)


JOINED = Linear(None, None)  # in place of the map that an argument of a Joint does not have by itself


class Node:
    """One recorded operation: its primitive, output index, and (input index, Linear) for each traced input.

    Where the primitive has one map of all, that is `joint`, and the Linears are JOINED. `operands` are the arguments
    for printing: a tape index, or the shape of a constant. `name` is a layer's or a parameter's name; `span` is
    (start, stop) where the node is a view of the flat input x, else None.
    """

    __slots__ = ("inputs", "joint", "name", "op", "operands", "out", "shape", "span")

    def __init__(self, op, out, inputs, joint, operands, shape, name=None, span=None):
        self.op, self.out, self.inputs, self.joint, self.operands = op, out, inputs, joint, operands
        self.shape, self.name, self.span = shape, name, span


class Tape:
    """The nodes in the order in which they ran; index 0 is the input."""

    def __init__(self, check_finite=False):
        self.level = next(_levels)
        self.nodes = []
        self.closed = False
        self.nested = False  # some value on it is traced by an outer tape
        self.check_finite = check_finite

    def record(self, op, y, values, args, params, kept):
        """Ask the primitive for its linear maps at the traced arguments; append the node; return the traced output."""
        if self.closed:
            raise RuntimeError(
                f"{op.name}: a traced value was used after its linearize() had ended; "
                "return it from the function instead of storing it"
            )
        if self.check_finite and not item(xp.isfinite(untraced(y)).all()):
            raise FloatingPointError(f"non-finite value out of {_described(op, args, params)}")
        self.nested = self.nested or type(y) is Var
        traced = [i for i, arg in enumerate(args) if type(arg) is Var and arg.tape is self]
        maps, joint = op.maps(traced, y, values, params, kept)
        inputs = [(args[i].index, linear) for i, linear in zip(traced, maps, strict=True)]
        operands = [arg.index if i in traced else _shape(arg) for i, arg in enumerate(args)]
        span = _span(params) if op is view and operands[0] == 0 else None
        node = Node(op, len(self.nodes) + 1, inputs, joint, operands, _shape(y), params.get("name"), span)
        self.nodes.append(node)
        return Var(y, self, node.out)


class Primitive:
    """A value function and its derivative rules. Called on traced values, it writes itself on the tape.

    keeps: the function returns its value and, beside it, what the rules would have to work out again. They get it as
    `kept`, or None where arguments are traced by an outer tape too.
    """

    def __init__(self, value, keeps=False):
        functools.update_wrapper(self, value)
        self.name, self.value, self.keeps = value.__name__.strip("_"), value, keeps
        self.rules = {}
        PRIMITIVES[self.name] = self

    def __call__(self, *args, **params):
        tape = None
        for arg in args:
            if type(arg) is Var and (tape is None or arg.tape.level > tape.level):
                tape = arg.tape
        if tape is None:
            return self._evaluate(args, params)[0]
        values = [arg.value if type(arg) is Var and arg.tape is tape else arg for arg in args]
        if Var in map(type, values):  # traced by an outer tape, too: it records the same operation
            y, kept = self(*values, **params), None
        else:
            y, kept = self._evaluate(values, params)
        return tape.record(self, y, values, args, params, kept)

    def _evaluate(self, args, params):
        """The value, and what is kept beside it."""
        try:
            return self.value(*args, **params) if self.keeps else (self.value(*args, **params), None)
        except (ValueError, IndexError, TypeError) as error:
            kind = next(k for k in (ValueError, IndexError, TypeError) if isinstance(error, k))
            raise kind(f"{_described(self, args, params)}: {error}") from error

    def linear(self, *positions):
        """Register rule(y, *args, **params) -> Linear for these arguments; no position means all: rule(i, y, ...).

        The position "jointly" means a rule that returns one Joint of all arguments.
        """

        def register(rule):
            for position in positions or ("all",):
                self.rules[position] = rule
            return rule

        return register

    def maps(self, positions, y, args, params, kept=None):
        """The linear maps dy/d(argument i), i in positions, and None; or JOINED for each, and their Joint."""
        if self.keeps:
            params = {**params, "kept": kept}
        if "jointly" not in self.rules:
            return [self.rule(i, y, args, params) for i in positions], None
        joint = self.rule("jointly", y, args, params)
        return [JOINED] * len(positions), joint.of(positions, args)

    def rule(self, i, y, args, params):
        """The linear map dy/d(argument i) at these argument values."""
        if i in self.rules:
            return self.rules[i](y, *args, **params)
        if "all" in self.rules:
            return self.rules["all"](i, y, *args, **params)
        raise NotImplementedError(
            f"{self.name}: no derivative rule for argument {i}; add one with @{self.name}.linear({i})"
        )

    def __repr__(self):
        return f"<primitive {self.name}>"


def primitive(value):
    """Decorator: make a value function of arrays a primitive; then give its rules with `@name.linear(i)`."""
    return Primitive(value)


def keeping(value):
    """Decorator: as `primitive`, for a function that returns (value, what its rules want of it); see Primitive."""
    return Primitive(value, keeps=True)


# --- the two sweeps -------------------------------------------------------------------------------------


class Jacobian(LinearOperator):
    """dy/dx at a point, as the tape that computed y.

    `J @ v` and `J.T @ u` act on flat vectors; `rop(v)` and `lop(u)` are the same maps with v shaped like x and u
    like y. Nothing of f runs again, however many products are taken.
    """

    ranks = ALONE  # all of y's rows are here; see objective.SlicedJacobian

    def __init__(self, tape, out, x, y):
        super().__init__((_size(y), x.size), x.dtype, name="J")
        self.x_shape, self.y_shape = x.shape, _shape(y)
        self.out, self.nested = out, tape.nested
        needed, nodes = {out}, []
        for node in reversed(tape.nodes):
            if node.out in needed:
                nodes.append(node)
                for i, _ in node.inputs:
                    needed.add(i)
        self.nodes = nodes[::-1]
        self._views = {node.out: node for node in self.nodes if node.span is not None}
        edges = list(itertools.chain(*sorted([node.span for node in self._views.values()])))  # start, stop, start, ...
        self._disjoint = edges == sorted(edges)
        self._covering = self._disjoint and sum(edges[1::2]) - sum(edges[::2]) == x.size

    @property
    def parameters(self):
        """{tape index: node} of the views of x, a net's named parameters."""
        return self._views

    @functools.cached_property
    def _last_use(self):
        return {i: node.out for node in self.nodes for i, _ in node.inputs}

    def _matvec(self, v):
        return self.rop(v.reshape(self.x_shape)).reshape(-1)

    def _rmatvec(self, u):
        return self.lop(u.reshape(self.y_shape)).reshape(-1)

    def rop(self, v):
        """R-op: the tangent of y for the tangent v of x. One sweep forwards.

        Raises ValueError unless v has the shape of x.
        """
        _check_shape("R-op", "tangent", v, self.x_shape)
        tangents = {0: v}
        for node in self.nodes:
            if node.joint is not None:
                t = node.joint.rop(*[tangents[i] for i, _ in node.inputs])
            else:
                t = None
                for i, linear in node.inputs:
                    term = linear.rop(tangents[i])
                    t = term if t is None else t + term
            tangents[node.out] = t
            for i, _ in node.inputs:
                if self._last_use[i] == node.out:
                    tangents.pop(i, None)
        if self.out not in tangents:
            return xp.zeros(self.y_shape, self.dtype)
        return tangents[self.out]

    def lop(self, u):
        """L-op: the cotangent of x for the cotangent u of y. One sweep backwards.

        Raises ValueError unless u has the shape of y.
        """
        _check_shape("L-op", "cotangent", u, self.y_shape)
        gradient = _Gradient(self, traced=self.nested or type(u) is Var)
        for _ in self._backwards(u, gradient):
            pass
        return gradient.collected()

    def sweep(self, u):
        """The backward sweep, step by step: (node, cotangent of its output) for every op between parameters and y.

        The parameters' own cotangents (a matrix product a layer) are not computed: K-FAC, ACP and PRONG build
        their factors from what is yielded.
        """
        _check_shape("sweep", "cotangent", u, self.y_shape)
        for node, cotangent in self._backwards(u, None):
            if node.span is None:
                yield node, cotangent

    def _backwards(self, u, gradient):
        """The reverse loop; `gradient` collects the cotangent of x, or is None if nobody wants it."""
        cotangents, slots = {self.out: u}, {} if gradient is None else gradient.slots
        for node in reversed(self.nodes):
            if node.out not in cotangents:  # a parameter, in a sweep that leaves those out
                continue
            u = cotangents.pop(node.out)
            yield node, u
            if gradient is not None and node.span is not None:
                gradient.add(node, u)
                continue
            terms = None if node.joint is None else node.joint.lop(u)
            for k, (i, linear) in enumerate(node.inputs):
                if gradient is None and (i == 0 or i in self._views):
                    continue
                slot, first = slots.get(i), i not in cotangents
                if slot is not None and first:  # the first cotangent is assigned, in its place in the gradient
                    cotangents[i] = slot
                    if linear.into is not None:
                        linear.into(u, slot)
                        continue
                term = linear.lop(u) if terms is None else terms[k]
                if slot is None:
                    cotangents[i] = term if first else cotangents[i] + term
                elif first:
                    slot[...] = term
                else:
                    slot += term
        if gradient is not None:
            gradient.direct = cotangents.get(0)

    def tape(self):
        """The tape as text: one line an operation, in the order in which they ran."""
        names = {0: "x"} | {node.out: node.name for node in self.nodes if node.span is not None}
        label = lambda a: names.get(a, f"t{a}") if isinstance(a, int) else f"const{a}"
        lines = [f"x{self.x_shape}"]
        for node in self.nodes:
            call = f"{node.op.name}({', '.join(label(a) for a in node.operands)})"
            if node.span is not None:
                call = f"x[{node.span[0]}:{node.span[1]}]"
            lines.append(f"{label(node.out)} = {call}  {node.shape}")
        return "\n".join([*lines, f"y = {label(self.out) if self.out is not None else 'constant'}"])

    def __str__(self):
        return f"J: R^{self.shape[1]} -> R^{self.shape[0]}, the linear maps of\n{self.tape()}"


class _Gradient:
    """Where the cotangent of x is collected: views of x own slices of one vector, written in place.

    On a traced sweep nothing is written in place; the pieces are joined by a traced primitive at the end.
    """

    def __init__(self, J, traced):
        self.J, self.direct = J, None
        self.pieces, self.vector = [], None
        self.slots = {}  # tape index of a view that owns its slice -> the memory where its cotangent belongs
        if J._views and not traced:
            self.vector = vector = (xp.empty if J._covering else xp.zeros)(J.shape[1], J.dtype)
            if J._disjoint:
                self.slots = {i: vector[slice(*node.span)].reshape(node.shape) for i, node in J._views.items()}

    def add(self, node, u):
        """Take the cotangent u of a view, unless it was written in its place already."""
        if self.vector is None:
            self.pieces.append((node.span, u))
        elif not self.J._disjoint:
            self.vector[slice(*node.span)] += u.reshape(-1)
        elif u is not self.slots.get(node.out):
            self.vector[slice(*node.span)] = u.reshape(-1)

    def collected(self):
        """The cotangent of x, in x's shape."""
        total = self.vector
        if self.pieces:
            spans, pieces = zip(*self.pieces, strict=True)
            total = assemble(*pieces, spans=spans, size=self.J.shape[1])
        if total is None or self.direct is None:
            total = self.direct if total is None else total
        else:
            total = total + self.direct
        return xp.zeros(self.J.x_shape, self.J.dtype) if total is None else total


# --- views of one vector, and their adjoint -------------------------------------------------------------


@primitive
def view(x, *, start, shape, name):
    """x[start : start + prod(shape)] in that shape, without a copy: a named parameter inside flat theta."""
    return x[start : start + math.prod(shape)].reshape(shape)


@view.linear(0)
def _(y, x, *, start, shape, name):
    span = (start, start + math.prod(shape))
    return Linear(
        rop=lambda v: view(v, start=start, shape=shape, name=name),
        lop=lambda u: assemble(u, spans=(span,), size=x.shape[0]),
    )


@primitive
def assemble(*pieces, spans, size):
    """The vector of `size` zeros with each piece, raveled, added at its span (start, stop): the adjoint of views."""
    out = xp.zeros(size, xp.result_type(*(piece.dtype for piece in pieces)))
    for (start, stop), piece in zip(spans, pieces, strict=True):
        out[start:stop] += piece.reshape(-1)
    return out


@assemble.linear()
def _(i, y, *pieces, spans, size):
    return Linear(
        rop=lambda v: assemble(v, spans=(spans[i],), size=size),
        lop=lambda u: view(u, start=spans[i][0], shape=pieces[i].shape, name=None),
    )


# --- what users call ------------------------------------------------------------------------------------


def linearize(f, x, *, check_finite=False):
    """Run f at x once: returns f(x) and its Jacobian there as an operator, J.

    f takes one float array and returns one array, of any shapes; it must be a pure function of x, written with
    NumPy syntax, `minigrad.autodiff.ops`, and constants. With `check_finite` each op's value is tested, and the first
    non-finite one raises FloatingPointError with op, layer and shapes (it waits for the device at each op).
    Raises TypeError unless x is a float array and f returns one array.
    """
    x = _checked_input(x)
    tape = Tape(check_finite)
    try:
        y = f(Var(x, tape, 0))
    finally:
        tape.closed = True
    if type(y) is Var and y.tape is tape:
        return y.value, Jacobian(tape, y.index, x, y.value)
    if type(y) is not Var and not hasattr(y, "dtype") and not isinstance(y, float):
        raise TypeError(
            f"linearize: the function must return one array, got {type(y).__name__}; concatenate several results"
        )
    return y, Jacobian(tape, None, x, y)  # a constant


def value_and_grad(f):
    """The function x -> (f(x), gradient), for f with a single number as its value. Gradient in x's shape."""

    @functools.wraps(f)
    def value_and_gradient(x):
        y, J = linearize(f, x)
        if _size(y) != 1:
            raise ValueError(f"grad: the function must return a single number, got shape {_shape(y)}")
        return y, J.lop(xp.ones(_shape(y), J.dtype))

    return value_and_gradient


def grad(f):
    """The function x -> gradient of f: L-op of 1. Raises ValueError unless f returns a single number."""
    both = value_and_grad(f)
    return functools.wraps(f)(lambda x: both(x)[1])


def jacobian(f):
    """The function x -> dense Jacobian, y.shape + x.shape; one sweep an input or an output, whichever are fewer."""

    @functools.wraps(f)
    def dense(x):
        y, J = linearize(f, x)
        matrix = J.dense() if J.shape[1] <= J.shape[0] else J.T.dense().T
        return matrix.reshape(_shape(y) + J.x_shape)

    return dense


# --- small helpers --------------------------------------------------------------------------------------


def _span(params):
    return params["start"], params["start"] + math.prod(params["shape"])


def _shape(x):
    return getattr(x, "shape", ())


def _size(x):
    return math.prod(_shape(x))


def _check_shape(what, kind, v, shape):
    if _shape(v) != shape:
        raise ValueError(f"{what}: the {kind} must have shape {shape}, got {_shape(v)}")


def _checked_input(x):
    if isinstance(x, float):
        x = xp.asarray(x)
    if type(x) is not Var and not isinstance(x, (xp.ndarray, xp.generic)):
        raise TypeError(f"linearize: x must be a float array of the active backend, got {type(x).__name__}")
    if x.dtype.kind not in "fc":
        raise TypeError(f"linearize: x must hold floating-point numbers, got dtype {x.dtype}")
    return x


def _described(op, args, params):
    """'affine enc0 of shapes (100, 784), (785, 1000)', for messages."""
    name = f" {params['name']!r}" if params.get("name") else ""
    return f"{op.name}{name} of shapes {', '.join(str(_shape(arg)) for arg in args)}"
