"""``python -m kps`` is the command ``kps``."""

from kps.cli import main

if __name__ == "__main__":
    main()
