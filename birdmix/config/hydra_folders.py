"""Hydra callback that records the folders that Hydra creates for a run."""

from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from birdmix.files import absent_folders


class NewFolderRecorder(Callback):
    """Records which folders of the run directory's path do not exist before Hydra makes them.

    ``birdmix train`` removes them again if the run fails before it writes anything.

    Attributes:
        folders: These folders, the innermost first.
    """

    folders: ClassVar[list[Path]] = []

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Record the folders; called by Hydra before it makes the run directory."""
        NewFolderRecorder.folders = absent_folders(Path(config.hydra.run.dir))
