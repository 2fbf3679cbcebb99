"""Every test here sees an empty home, cache and working folder, and a network that is down."""

from types import SimpleNamespace

import pooch
import pytest
import requests

from minigrad.data import datasets
from tests.data.samples import change


class Network:
    """Stands for pooch.HTTPDownloader: serves `pages` (address -> bytes), fails half-way for the rest."""

    def __init__(self):
        self.pages, self.asked = {}, []

    def __call__(self, progressbar, timeout):
        assert progressbar  # 170 MB of CIFAR-10 without a sign of life look like a hang
        assert timeout <= 30  # a mirror that does not answer must not hold up the next for long
        return self.fetch

    def fetch(self, url, output_file, pooch):
        self.asked.append(url)
        with open(output_file, "wb") as file:
            file.write(self.pages.get(url, b"half a fi"))
        if url not in self.pages:
            raise requests.ConnectionError("network is down")


@pytest.fixture(autouse=True)
def world(tmp_path, monkeypatch):
    """home, cache and cwd as empty folders; data, not yet there, for MINIGRAD_DATA; the network, down."""
    home, cwd, data = tmp_path / "home", tmp_path / "cwd", tmp_path / "data"
    home.mkdir()
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(home / ".cache" / name))
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    network = Network()
    monkeypatch.setattr(pooch, "HTTPDownloader", network)
    for source in ("MNIST", "FASHION_MNIST", "CIFAR10"):  # this machine may really have Debian's package
        elsewhere = tuple(name for name in getattr(datasets, source).elsewhere if not name.startswith("/"))
        change(monkeypatch, source, elsewhere=elsewhere)
    return SimpleNamespace(home=home, cache=home / ".cache" / "minigrad", cwd=cwd, data=data, network=network)
