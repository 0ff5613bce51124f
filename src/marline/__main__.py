"""`python -m marline` is the command `marline`."""

from marline.cli import main

if __name__ == "__main__":
    main()
