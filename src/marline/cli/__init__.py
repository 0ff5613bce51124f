"""The command line: `options` say what there is to say, `commands` do it, `entry` brings them together."""

from marline.cli.entry import main, process

__all__ = ["main", "process"]
