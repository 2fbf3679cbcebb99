"""A GPU that is not there: a module that stands for CuPy, so that `use("cupy")` itself runs in CI.

Its arrays live in host memory, but refuse what CuPy's refuse: mixing with host arrays, becoming one implicitly, and
being asked for a truth value or a number (CuPy would allow the last two, and wait for the device each time). Reductions
and single elements are arrays without axes, never NumPy scalars. The only way out is `cupy.asnumpy`.
"""

import contextlib
import numbers
import sys
import types

import numpy as np

from minigrad import backend

_PLAIN = {"shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides", "flags"}
_VIEWS = {"T", "real", "imag"}
_METHODS = {
    "all", "any", "argmax", "argmin", "argsort", "astype", "clip", "conj", "copy", "cumsum", "diagonal", "dot", "fill",
    "flatten", "max", "mean", "min", "nonzero", "prod", "ravel", "repeat", "reshape", "round", "sort", "squeeze", "std",
    "sum", "swapaxes", "take", "trace", "transpose", "var", "view",
}  # fmt: skip
_HARMLESS = (numbers.Number, np.generic, np.dtype, type, str, type(None), type(Ellipsis), slice)


def _refuse(what):
    def method(self, *args, **options):
        raise TypeError(f"implicit {what} of a device array")

    return method


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """Stands for cupy.ndarray."""

    __slots__ = ("_memory",)
    __array_priority__ = 100

    def __init__(self, memory):
        self._memory = memory

    def __getattr__(self, name):
        if name in _PLAIN:
            return getattr(self._memory, name)
        if name in _VIEWS:
            return DeviceArray(getattr(self._memory, name))
        if name in _METHODS:
            return _on_device(getattr(self._memory, name))
        raise AttributeError(f"device arrays have no {name!r}")

    def __getitem__(self, key):
        key = _inside(key)
        found = self._memory[key]
        if isinstance(found, np.generic):  # a view of the element, not its value
            found = self._memory[(*key, ...) if isinstance(key, tuple) else (key, ...)]
        return DeviceArray(found)

    def __setitem__(self, key, value):
        self._memory[_inside(key)] = _inside(value)

    def __len__(self):
        return len(self._memory)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if not all(isinstance(x, (DeviceArray, np.ndarray, list, *_HARMLESS)) for x in inputs):
            return NotImplemented
        if out is not None:
            options["out"] = _inside(out)
        result = getattr(ufunc, method)(*(_operand(x) for x in inputs), **options)
        return _outside(result) if out is None else out[0]

    def __array_function__(self, function, types, args, options):
        if not all(issubclass(t, (DeviceArray, np.ndarray)) for t in types):
            return NotImplemented
        return _on_device(function)(*args, **options)

    def __repr__(self):
        return f"DeviceArray({self._memory})"

    __array__ = _refuse("conversion to a NumPy array")
    __float__ = _refuse("float()")
    __int__ = _refuse("int()")
    __index__ = _refuse("use as an index")
    __complex__ = _refuse("complex()")
    __bool__ = _refuse("truth")
    item = _refuse("item()")
    tolist = _refuse("tolist()")


def _operand(x):
    if isinstance(x, list):
        raise TypeError("unsupported type <class 'list'>")
    return _inside(x)


def _inside(x):
    """x with the memory of device arrays; host arrays and strangers are refused."""
    if isinstance(x, DeviceArray):
        return x._memory
    if isinstance(x, (tuple, list)):
        return type(x)(_inside(part) for part in x)
    if isinstance(x, _HARMLESS):
        return x
    raise TypeError(f"unsupported type {type(x)} on the device")


def _outside(x):
    """x with its arrays and scalars as device arrays."""
    if isinstance(x, (np.ndarray, np.generic)):
        return DeviceArray(np.asarray(x))
    if isinstance(x, tuple):
        parts = [_outside(part) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
    return [_outside(part) for part in x] if isinstance(x, list) else x


def _on_device(function):
    def call(*args, out=None, **options):
        options = {name: _inside(value) for name, value in options.items()}
        if out is not None:
            options["out"] = _inside(out)
        result = function(*_inside(args), **options)
        return _outside(result) if out is None else out

    return call


class _Kernel:
    """Stands for cupy.ufunc: an elementwise kernel, which a stranger among its operands may override."""

    def __init__(self, ufunc):
        self.ufunc, self.name, self.at = ufunc, f"cupy_{ufunc.__name__}", _on_device(ufunc.at)

    def __call__(self, *args, **options):
        for arg in args:
            if hasattr(arg, "__cupy_override_elementwise_kernel__"):
                return arg.__cupy_override_elementwise_kernel__(self, *args, **options)
        return _on_device(self.ufunc)(*args, **options)


class _Delegate(types.ModuleType):
    """NumPy's module of the same name, its functions working on device arrays."""

    def __init__(self, name, module):
        super().__init__(name)
        self._module = module

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._module, name)
        if isinstance(value, types.ModuleType):
            value = _Delegate(f"{self.__name__}.{name}", value)
        elif isinstance(value, np.ufunc):
            value = _Kernel(value)
        elif callable(value) and not isinstance(value, type):
            value = _on_device(value)
        setattr(self, name, value)
        return value


class _Generator:
    """Stands for cupy.random.Generator, which has no permutation, choice or shuffle."""

    def __init__(self, seed=None):
        host = np.random.default_rng(seed)
        for name in ("random", "standard_normal", "integers", "uniform", "exponential"):
            setattr(self, name, _on_device(getattr(host, name)))


def fake_cupy(gpu=True):
    """The module; `gpu`: does it find one?"""
    cupy = _Delegate("cupy", np)
    cupy.ndarray = DeviceArray
    cupy.asnumpy = lambda x: np.array(_inside(x) if isinstance(x, DeviceArray) else x)
    cupy.array = lambda x, **options: DeviceArray(np.array(x if isinstance(x, np.ndarray) else _inside(x), **options))
    cupy.asarray = lambda x, dtype=None: (
        x if isinstance(x, DeviceArray) and dtype in (None, x.dtype) else cupy.array(x, dtype=dtype)
    )
    cupy.random = types.SimpleNamespace(default_rng=_Generator)
    cupy.waits = 0  # how often the host has waited for the stream

    def synchronize():
        cupy.waits += 1

    stream = types.SimpleNamespace(synchronize=synchronize)
    cupy.cuda = types.SimpleNamespace(is_available=lambda: gpu, get_current_stream=lambda: stream)
    return cupy


@contextlib.contextmanager
def installed(cupy):
    """Make `import cupy` find this module (None: find nothing) and restore the backend afterwards."""
    before, backend_before = sys.modules.get("cupy"), backend.name()
    sys.modules["cupy"] = cupy
    try:
        yield cupy
    finally:
        if before is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = before
        backend.use(backend_before)


@contextlib.contextmanager
def fake_device():
    """Run the block on the fake device, by the library's own switch."""
    with installed(fake_cupy()) as cupy:
        backend.use("cupy")
        yield cupy
