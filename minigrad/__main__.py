"""python -m minigrad: see cli.py."""

from .cli import main

main()
