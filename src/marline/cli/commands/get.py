"""What `marline data get` does."""

from __future__ import annotations

import os
from pathlib import Path

from marline.cli.options.data import Get
from marline.data.shelf import Shelf
from marline.display.console import say, say_json
from marline.display.shell import command
from marline.errors import require

MIRROR = "MARLINE_MIRROR"


def get(options: Get) -> int:
    """`marline data get`."""
    shelf = shelf_of(options.mirror, options.seal)
    if options.name is None:
        if options.json:
            say_json({"seal": shelf.seal, "things": dict(shelf.about)})
        else:
            for name, about in shelf.about.items():
                say(f"{name:40} {about}")
            say(f"  seal: {shelf.seal}")
        return 0
    folder = options.out or Path(options.name)
    shelf.get(options.name, folder)
    is_run = (folder / "run.json").exists()
    if options.json:
        say_json({"folder": str(folder), "kind": "run" if is_run else "logs", "seal": shelf.seal})
        return 0
    say(f"{options.name}: {shelf.about[options.name]}")
    say(f"  {'run' if is_run else 'logs'}: {folder}")
    say(f"  next: {command('play', folder) if is_run else command('data', 'check', folder)}")
    return 0


def shelf_of(mirror: str | None, seal: str | None) -> Shelf:
    """The shelf that is named, or that the environment names."""
    where = mirror or os.environ.get(MIRROR)
    require(where is not None, f"say where the shelf is: --mirror FOLDER or an address, or set {MIRROR}")
    return Shelf(where or "", seal=seal)
