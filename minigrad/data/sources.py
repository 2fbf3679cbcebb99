"""Where data sets are looked for, in this order, and where they are fetched from.

1. the folder named by the environment variable `MINIGRAD_DATA`: below it `mnist/`, `fashion-mnist/`,
   `cifar-10-batches-bin/` (also `MNIST/raw` and the like, as torchvision names them);
2. the user's cache of minigrad (on Linux `~/.cache/minigrad`), where downloads go;
3. what other programs leave: the Keras cache, torchvision's folders below `./data`, `~/data`, `~/.torch` and
   `~/.cache/torch` (torchvision has no place of its own: the user names one), Debian's data packages;
4. the mirrors, one after the other, each file checked by its MD5 before it gets its name.

A file that is there but damaged ends the search with an error: going on in silence would hide it.
"""

import os
import textwrap
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 10  # seconds without an answer until the next mirror is tried


@dataclass(frozen=True)
class Source:
    """What a data set is called, where it may lie, and how to read it there."""

    title: str
    readers: tuple  # functions folder -> ((images, labels), (images, labels)), or None if not there
    folders: tuple  # below MINIGRAD_DATA; the first one also below the user's cache
    elsewhere: tuple  # folders of other programs
    mirrors: tuple  # addresses that end in a slash
    files: dict  # file name on the mirrors -> MD5
    counts: tuple  # images for training and test in the whole set


class NoDownload(Exception):
    """No mirror gave the file; the message says what each one answered."""


def folders(source):
    """Yield (folder, own): where to look, in order; `own` tells our folders from other programs'.

    Raises NotADirectoryError when `MINIGRAD_DATA` names no folder.
    """
    if given := os.environ.get("MINIGRAD_DATA"):
        root = Path(given).expanduser()
        if not root.is_dir():
            raise NotADirectoryError(f"MINIGRAD_DATA must name a folder, got {given!r}")
        yield from ((root / name, True) for name in source.folders)
    yield cache_folder(source), True
    yield from ((Path(name).expanduser().absolute(), False) for name in source.elsewhere)


def usual_folders(name):
    """Where `name` often lies below the folders that users give torchvision and the like."""
    return tuple(f"{root}/{name}" for root in ("data", "~/data", "~/.torch", "~/.cache/torch"))


def cache_folder(source):
    """The folder for downloads of `source`, in the cache that this operating system gives each user."""
    import platformdirs  # comes with pooch, which uses the same folder as pooch.os_cache("minigrad")

    return Path(platformdirs.user_cache_dir("minigrad")) / source.folders[0]


def download(source):
    """Fetch the files of `source` into the user's cache and return the folder; NoDownload if that fails.

    A file appears under its name only when it is whole and its MD5 is right.
    """
    import pooch  # only here: it takes a while to import, and most runs download nothing

    pooch.get_logger().setLevel("WARNING")  # a line for each attempt says little; the progress bar stays
    folder = cache_folder(source)
    for name, md5 in source.files.items():
        _download_file(pooch, source.mirrors, name, md5, folder)
    return folder


def _download_file(pooch, mirrors, name, md5, folder):
    failures = []
    for mirror in mirrors:
        fetch = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
        try:
            pooch.retrieve(mirror + name, f"md5:{md5}", fname=name, path=folder, downloader=fetch)
            return
        except (OSError, ValueError) as error:  # no network, no such page, no place to write; wrong hash
            failures.append(f"{mirror}{name}: {type(error).__name__}: {textwrap.shorten(str(error), 100)}")
    raise NoDownload("\n".join(failures))
