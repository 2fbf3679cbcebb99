"""What a run ran on: CPU, BLAS and its kernel, versions, GPU. `minigrad info` prints it, records keep it."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from .. import backend

PACKAGES = ("minigrad-naturalgradient", "numpy", "scipy", "matplotlib", "cupy-cuda13x", "cupy-cuda12x", "mlxtend")
BEHIND_AVX512 = ("Haswell", "Zen", "SandyBridge", "Nehalem", "Prescott", "Core2", "Bulldozer", "Excavator", "Generic")


def machine():
    """{"cpu", "cores", "system", "blas", "kernel", "threads"} and, on a GPU, "gpu"; unknown things are "unknown"."""
    found = {"cpu": cpu(), "cores": cores(), "system": f"{platform.system()} {platform.machine()}", **blas()}
    return found | ({"gpu": gpu()} if backend.name() == "cupy" else {})


def versions():
    """Versions of Python and of the packages that decide numbers, where installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu():
    """The processor's name."""
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blas():
    """{"blas": library and version, "kernel": its code path, "threads"}, as threadpoolctl sees NumPy's."""
    from threadpoolctl import threadpool_info

    for library in threadpool_info():
        if library["user_api"] == "blas":
            return {
                "blas": f"{library['internal_api']} {library.get('version') or ''}".strip(),
                "kernel": library.get("architecture") or "unknown",
                "threads": library["num_threads"],
            }
    return {"blas": "unknown", "kernel": "unknown", "threads": cores()}


def gpu():
    """The GPU's name; call it with the cupy backend active."""
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()


def advice(environment=None):
    """One line for each setting that makes this machine slower than it could be."""
    environment = os.environ if environment is None else environment
    found, lines = blas(), []
    preset = environment.get("OPENBLAS_CORETYPE")
    if preset:
        best = own_kernel()
        if best not in (found["kernel"], "unknown"):
            lines.append(f"OPENBLAS_CORETYPE={preset} is set: it runs {found['kernel']} kernels, the CPU's are {best}")
    elif has_avx512() and found["kernel"] in BEHIND_AVX512:
        lines.append(f"the CPU has AVX-512, but the BLAS runs its {found['kernel']} kernels; a newer NumPy may help")
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "MINIGRAD_THREADS"):
        given = environment.get(name, "")
        if given.isdigit() and int(given) < cores():
            lines.append(f"{name}={given} is set: this process may use {cores()} cores")
    if found["blas"].startswith("mkl") and "AMD" in cpu():
        lines.append("NumPy runs on MKL, which takes a slow path on AMD processors; PyPI's NumPy comes with OpenBLAS")
    if environment.get("MINIGRAD_MALLOC") == "0":
        lines.append("MINIGRAD_MALLOC=0 is set: page faults of large arrays may cost as much as the arithmetic")
    return lines


def own_kernel():
    """The kernel that the BLAS chooses for this CPU when no OPENBLAS_CORETYPE is set, asked of a fresh process."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    code = "import numpy, threadpoolctl as t; print([b.get('architecture') for b in t.threadpool_info()][0])"
    try:
        answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.decode().strip() if answer.returncode == 0 else "unknown"


def has_avx512():
    """Does the CPU have AVX-512 (as far as Linux tells)?"""
    return any(line.startswith("flags") and " avx512f" in line for line in _lines("/proc/cpuinfo"))


def _lines(path):
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
