"""``python -m birdmix``: the command line, where no script of that name is installed."""

from birdmix.app.cli import main

if __name__ == "__main__":
    main()
