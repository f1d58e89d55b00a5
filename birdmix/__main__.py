"""``python -m birdmix``: the command line without the installed script."""

from birdmix.cli.main import main

if __name__ == "__main__":
    main()
