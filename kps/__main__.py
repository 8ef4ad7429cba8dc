"""``python -m kps`` is the command ``kps``."""

from kps.cli.main import main

if __name__ == "__main__":
    main()
