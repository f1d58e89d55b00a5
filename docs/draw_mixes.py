"""Make the figure and the sounds of docs/choosing-a-mix.md from the demo's synthetic birds.

    python docs/draw_mixes.py [--demo data/demo] [--out docs]

Run ``python train.py`` once before: it makes the demo.
"""

import argparse
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.settings import LogMelSettings
from birdmix.mix import Examples, Mixup, Mixup2, Plan
from birdmix.mix.mix_plan import Boxes
from birdmix.report.style import MUTED, SMALL_SIZE, axes_at, new_figure, text_at

SECONDS = 4
#: Numbers of two species of the demo, and the seconds that their recordings are moved later.
SPECIES = {2: 0, 7: 1}


@dataclass
class Example:
    """One cell of the figure.

    Attributes:
        title: What it is.
        note: What becomes of the labels.
        log_mel: The log-mel [M, F].
        waveform: The mixed waveform [T], if waveforms are mixed.
        sound: Name of the sound file that it is written to.
    """

    title: str
    note: str
    log_mel: Tensor
    waveform: Tensor | None = None
    sound: str = ""


def read_two_songs(demo: Path, sample_rate: int) -> Tensor:
    """Return a segment of a recording of each species, [2, T]."""
    folders = sorted(folder for folder in (demo / "train_audio").iterdir() if folder.is_dir())
    segments = np.zeros((len(SPECIES), SECONDS * sample_rate), np.float32)
    for segment, (species, start) in zip(segments, SPECIES.items(), strict=True):
        samples, rate = soundfile.read(min(folders[species].iterdir()), dtype="float32")
        assert rate == sample_rate
        piece = np.roll(samples[: len(segment)], start * sample_rate)
        segment[: len(piece)] = 0.5 * piece / np.abs(piece).max()
    return torch.from_numpy(segments)


def make_examples(x: Tensor, log_mel: LogMel) -> list[Example]:
    """Return the two songs and their mixes."""
    pair = np.array([[0, 1], [1, 0]])
    examples = Examples(x, torch.eye(2))

    def mix_waveforms(operator: Mixup, plan: Plan) -> Tensor:
        return operator.replay(plan, examples).x[0]

    def of_sound(sound: str, title: str, note: str, waveform: Tensor) -> Example:
        return Example(title, note, log_mel(waveform[None])[0, 0], waveform, sound)

    mels = Examples(log_mel(x), torch.eye(2))
    blend = Mixup2(1.0, 1.0).replay(Plan(pair, np.full((2, 2), 0.5)), mels).x[0, 0]
    time = Boxes(np.array([[0.3, 0.6], [0, 0]]), np.array([[0.0, 1.0], [0, 1]]))
    cut = Mixup2(1.0, 1.0).replay(Plan(pair, np.ones((2, 2)), time), mels).x[0, 0]
    total = mix_waveforms(Mixup(1.0), Plan(pair, np.ones((2, 2))))
    quiet = Plan(pair, np.array([[1.0, 10 ** (-15 / 20)]] * 2), match="rms")
    return [
        of_sound("example", "the example", "", x[0]),
        of_sound("partner", "its partner", "", x[1]),
        of_sound("sum", "Mixup: sum of waveforms", "union: both labels count in full", total),
        of_sound(
            "quiet",
            "partner 15 dB below",
            "min_snr_db=-12: no label of the partner",
            mix_waveforms(Mixup(1.0), quiet),
        ),
        of_sound(
            "aligned",
            "sum with time_shift=aligned",
            "union; loud parts meet",
            mix_waveforms(Mixup(1.0), Plan(pair, np.ones((2, 2)), aligned=True)),
        ),
        of_sound(
            "between_class",
            "mix=between_class, .5 : .5",
            "convex: .5 and .5; equally loud",
            mix_waveforms(
                Mixup(1.0, sample_rate=log_mel.settings.sample_rate),
                Plan(pair, np.full((2, 2), 0.5), match="loudness", unit_power=True),
            ),
        ),
        Example("Mixup2: blend of log-mels", "convex: .5 and .5", blend),
        Example("CutMix: a time span", "convex: .7 and .3, the areas", cut),
    ]


def draw(examples: list[Example], path: Path) -> None:
    """Draw the log-mels, four in a row."""
    width, height, columns = 2.55, 1.35, 4
    figure = new_figure(columns * (width + 0.2) + 0.2, 2 * (height + 0.75) + 0.2)
    low = min(example.log_mel.min().item() for example in examples)
    high = max(example.log_mel.max().item() for example in examples)
    for number, example in enumerate(examples):
        row, column = divmod(number, columns)
        left, top = 0.2 + column * (width + 0.2), 0.2 + row * (height + 0.75)
        text_at(figure, left, top, [example.title], weight="bold")
        text_at(figure, left, top + 0.2, [example.note], size=SMALL_SIZE, colour=MUTED)
        axes = axes_at(figure, left, top + 0.45, width, height)
        axes.imshow(
            example.log_mel.numpy(),
            origin="lower",
            aspect="auto",
            cmap=colormaps["magma"],
            vmin=low + 0.35 * (high - low),
            vmax=high,
        )
        axes.set_xticks([])
        axes.set_yticks([])
    page = BytesIO()
    figure.savefig(page)
    Image.open(page).convert("RGB").quantize(64).save(path, optimize=True)  # a third of the size


def main() -> None:
    """Write the figure and the sounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, default=Path("data/demo"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    settings = LogMelSettings(normalise="fixed")
    x = read_two_songs(arguments.demo, settings.sample_rate)
    examples = make_examples(x, LogMel(settings))
    draw(examples, arguments.out / "images" / "mixes.png")
    for example in examples:
        if example.waveform is not None:
            samples = example.waveform / max(example.waveform.abs().max().item(), 1)
            file = arguments.out / "sounds" / f"{example.sound}.ogg"
            soundfile.write(file, samples.numpy(), settings.sample_rate, compression_level=0.9)


if __name__ == "__main__":
    main()
