"""Options of commands that predict: bundles, windows, ensembles and engines."""

from pathlib import Path
from typing import Annotated

import typer

Bundle = Annotated[Path, typer.Option(help="Bundle of a run: RUN_DIR/bundle.")]
Bundles = Annotated[list[Path], typer.Option(help="Bundle of a run; give several for an ensemble.")]

Context = Annotated[
    float | None,
    typer.Option(
        help="Length of the model input in seconds, around each window. Default: as in training."
    ),
]
FramePooling = Annotated[
    str,
    typer.Option(
        help="Prediction of a window: clip (of the head), or mean or max of its frames (head=sed)."
    ),
]
Shift = Annotated[
    float,
    typer.Option(help="Average with predictions this many seconds earlier and later; 0 is off."),
]
Smoothing = Annotated[
    float,
    typer.Option(help="Weight of the two neighbours in a window's logits, from 0 to below 1."),
]
Combine = Annotated[
    str, typer.Option(help="Mean over several bundles of: logit, power (of probabilities) or rank.")
]
Power = Annotated[float, typer.Option(help="Exponent of --combine power.")]
EngineName = Annotated[
    str, typer.Option(help="auto (the fastest one installed), torch, onnx or openvino.")
]
