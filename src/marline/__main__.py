"""`python -m marline` is the command `marline`."""

from marline.cli import process

if __name__ == "__main__":
    process()
