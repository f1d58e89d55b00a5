"""Folders of YAML files: the packaged ``conf``, and one of the user's own, ``--config-dir``."""

from pathlib import Path

from birdmix.config.overrides import add_quotes


def packaged_conf() -> Path:
    """Return the folder of birdmix's own YAML, whatever the working directory is.

    It is inside an installed package, and beside the package in a checkout.
    """
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def config_dir_overrides(folder: Path | None) -> list[str]:
    """Return the overrides by which Hydra also finds the options in a folder of the user's.

    Args:
        folder: Folder with a folder per group: ``FOLDER/mix/mine.yaml`` is ``mix=mine``. None: no
            such folder, and no override.

    Raises:
        ValueError: See ``check_config_dir``.
    """
    if folder is None:
        return []
    check_config_dir(folder)
    return [f"hydra.searchpath=[{add_quotes(f'file://{folder.resolve()}', chr(34))}]"]


def check_config_dir(folder: Path) -> None:
    """Check that a folder of the user's exists and that no option in it is hidden.

    Raises:
        ValueError: If there is no such folder; or if an option has the name of one of birdmix's own
            but another content: birdmix's own would be used.
    """
    if not folder.is_dir():
        raise ValueError(f"--config-dir={folder}: no such folder")
    own = packaged_conf()
    for option in sorted(own.glob("*/**/*.yaml")):
        name = option.relative_to(own)
        file = folder / name
        if file.is_file() and file.read_bytes() != option.read_bytes():
            raise ValueError(f"{file}: birdmix has a {name} of its own; give it another name")
