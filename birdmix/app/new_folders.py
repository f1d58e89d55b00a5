"""Folders that Hydra makes for a run before anything of birdmix begins."""

from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from birdmix.files import absent_folders


class NewFolders(Callback):
    """Hydra's callback that notes, before Hydra makes the run directory, which folders are new.

    Attributes:
        folders: Those that did not exist, the innermost first.
    """

    folders: ClassVar[list[Path]] = []

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note them."""
        NewFolders.folders = absent_folders(Path(config.hydra.run.dir))
