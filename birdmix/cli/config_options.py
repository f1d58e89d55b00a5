"""Options of commands that compose a configuration."""

from pathlib import Path
from typing import Annotated

import typer

ConfigDir = Annotated[
    Path | None,
    typer.Option(help="Folder of your own YAML, for example DIR/mix/mine.yaml for mix=mine."),
]
