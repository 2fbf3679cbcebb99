"""Files that are whole or not there: what is written gets its name only when the last byte is on the disk."""

import contextlib
import os
from pathlib import Path


def write_atomic(path, write):
    """Call write(file) on a binary file beside `path`, then give it that name: `path` is never half-written.

    A process killed in between leaves at most one file, `.NAME.part`, which the next write replaces.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    _sync_folder(path.parent)


def writable_folder(folder):
    """Make `folder` if need be and try to write in it; OSError with one clear line where that fails."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".minigrad-{os.getpid()}.part"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise type(error)(f"cannot write in the folder {folder}: {error.strerror or error}") from error
    return folder


def _sync_folder(folder):
    """Put the new name on the disk too, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
