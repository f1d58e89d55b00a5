"""Twelve synthetic species: what each one sings, and how a song becomes a waveform.

A song is a row of notes. A species gives them as phrases (its grammar), an individual bends their
pitch, pace and brightness for good, and each song varies them a little. Three pairs of species are
twins: the same notes, hence the same band and energy, in another order, rhythm or direction. What
tells twins apart is gone from any average over time, so a model has to hear them sing.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import pchip_interpolate
from scipy.signal.windows import tukey

from birdmix import keys

#: Sample rate of all demo sound, in Hz.
SAMPLE_RATE = 32_000

# Overtones above this, in Hz, are left out: Vorbis drops them and aliases would be audible.
_HIGHEST = 14_000

_THIRD = 2 ** (1 / 3)


@dataclass(frozen=True)
class Note:
    """One unbroken sound.

    Attributes:
        seconds: Length of the sound.
        contour: Fundamental in Hz at equally spaced moments; a smooth curve runs through them.
        gap: Silence after it, in seconds.
        overtones: Amplitudes of the second, third, ... harmonic relative to the fundamental.
        vibrato: Rate in Hz of a sine that the pitch follows; fast and deep, it makes a buzz.
        depth: Depth of that sine as a fraction of the pitch.
        gain: Amplitude relative to the other notes.
        edge: Fraction of the note in which it fades in and out, in (0, 1].
    """

    seconds: float
    contour: tuple[float, ...]
    gap: float = 0.05
    overtones: tuple[float, ...] = ()
    vibrato: float = 0.0
    depth: float = 0.0
    gain: float = 1.0
    edge: float = 0.6


@dataclass(frozen=True)
class Phrase:
    """Notes sung in a row, several times over.

    Attributes:
        notes: The notes.
        repeats: Fewest and most repetitions.
        pace: Factor on lengths and gaps from one repetition to the next; below 1 it speeds up.
    """

    notes: tuple[Note, ...]
    repeats: tuple[int, int] = (1, 1)
    pace: float = 1.0


@dataclass(frozen=True)
class Species:
    """A synthetic species; its names are invented.

    Attributes:
        code: Label, like an eBird code, or a bare number like an iNaturalist id.
        taxon: Number for the ``inat_taxon_id`` column.
        common_name: English name.
        scientific_name: Latin name.
        song: The grammar.
    """

    code: str
    taxon: int
    common_name: str
    scientific_name: str
    song: tuple[Phrase, ...]

    @property
    def band(self) -> tuple[float, float]:
        """Band in Hz that the fundamentals lie in, a third of an octave wider on both sides."""
        pitches = [f for phrase in self.song for note in phrase.notes for f in note.contour]
        return min(pitches) / _THIRD, max(pitches) * _THIRD


@dataclass(frozen=True)
class Individual:
    """How one bird departs from its species, as factors around 1."""

    pitch: float
    tempo: float
    brightness: float


def _mirrored(phrase: Phrase) -> Phrase:
    """The same phrase in opposite order: the gap after the last note stays the last."""
    gaps = [note.gap for note in phrase.notes]
    gaps = [*gaps[-2::-1], gaps[-1]]
    notes = zip(reversed(phrase.notes), gaps, strict=True)
    return replace(phrase, notes=tuple(replace(note, gap=gap) for note, gap in notes))


_HIGH_LOW = Phrase(
    notes=(
        Note(0.30, (4250, 4300, 4200), gap=0.06, overtones=(0.05,)),
        Note(0.30, (3400, 3350, 3300), gap=0.55, overtones=(0.05,)),
    ),
    repeats=(2, 3),
)
_UP_SWEEP = Note(0.34, (2500, 3500, 5200), gap=0.16, overtones=(0.12, 0.04))
_SLOW_TRILL = Note(0.10, (5300, 4900, 4300), gap=0.10, overtones=(0.04,))
_FAST_TRILL = replace(_SLOW_TRILL, seconds=0.05, gap=0.05)
_FLUTE = Note(0.40, (1900, 1950, 1900), overtones=(0.15, 0.05), vibrato=22, depth=0.012)
_CHATTER = Note(0.07, (2900, 2300, 1900), gap=0.07, overtones=(0.5, 0.3, 0.15))
_NASAL = Note(
    0.22,
    (880, 960, 940, 860),
    gap=0.18,
    overtones=(0.9, 1.0, 0.8, 0.4, 0.2),
    vibrato=35,
    depth=0.01,
)

#: The species; the order is part of every random key, so new ones go to the end.
SPECIES = (
    Species("rivwar1", 9000101, "Rivulet Warbler", "Rivulornis declinans", (_HIGH_LOW,)),
    Species("mirwar1", 9000102, "Mirror Warbler", "Rivulornis inversus", (_mirrored(_HIGH_LOW),)),
    Species(
        "ambtri1", 9000103, "Amber Triller", "Trillator lentus", (Phrase((_SLOW_TRILL,), (8, 12)),)
    ),
    Species(
        "quitri1", 9000104, "Quick Triller", "Trillator celer", (Phrase((_FAST_TRILL,), (16, 24)),)
    ),
    Species(
        "skyfin1", 9000105, "Skyward Finch", "Scalaria ascendens", (Phrase((_UP_SWEEP,), (3, 5)),)
    ),
    Species(
        "duffin1",
        9000106,
        "Duskfall Finch",
        "Scalaria cadens",
        (Phrase((replace(_UP_SWEEP, contour=_UP_SWEEP.contour[::-1]),), (3, 5)),),
    ),
    Species(
        "holdov1",
        9000107,
        "Hollow Dove",
        "Columbella cava",
        (
            Phrase((Note(0.28, (520, 610, 580), gap=0.12, overtones=(0.35, 0.12), gain=0.7),)),
            Phrase((Note(0.42, (600, 640, 560), gap=0.20, overtones=(0.35, 0.12)),), (2, 4)),
        ),
    ),
    Species(
        "rasbun1",
        9000108,
        "Rasping Bunting",
        "Stridulina aspera",
        (
            Phrase((Note(0.07, (4600, 5200), gap=0.06),), (2, 3)),
            Phrase((Note(0.75, (5000, 5400, 6200), gap=0.2, vibrato=75, depth=0.09),), (1, 2)),
        ),
    ),
    Species(
        "glathr1",
        9000109,
        "Glade Thrush",
        "Hylocantor serenus",
        (
            Phrase((_FLUTE,)),
            Phrase((replace(_FLUTE, seconds=0.16, contour=(2500, 3100, 2400)),), (1, 3)),
            Phrase((replace(_FLUTE, contour=(2700, 2150, 2900, 3000), gap=0.3),), (1, 2)),
        ),
    ),
    Species(
        "neekin1",
        9000110,
        "Needle Kinglet",
        "Acicula minuta",
        (Phrase((Note(0.13, (7300, 7900, 7600), gap=0.13),), (4, 7), pace=0.94),),
    ),
    Species("tinbar1", 9000111, "Tin Barbet", "Stannopsis nasalis", (Phrase((_NASAL,), (3, 6)),)),
    Species(
        "22961",
        22961,
        "Reedbed Rattler",
        "Crepitator palustris",
        (Phrase((_CHATTER,), (10, 16), pace=0.95),),
    ),
)

#: Pairs of codes with one long-term spectrum: opposite order, other rhythm, opposite direction.
TWINS = (("rivwar1", "mirwar1"), ("ambtri1", "quitri1"), ("skyfin1", "duffin1"))


def draw_individual(seed: int, species: int, number: int, spread: float) -> Individual:
    """Draw one bird.

    Args:
        seed: Seed of the demo.
        species: Index into ``SPECIES``.
        number: The bird's number within its species.
        spread: Factor on how much birds of a species differ; 0 makes them all alike.
    """
    pitch, tempo, brightness = keys.generator(seed, "demo individual", species, number).normal(
        scale=(0.05 * spread, 0.10 * spread, 0.35 * spread)
    )
    return Individual(float(np.exp(pitch)), float(np.exp(tempo)), float(np.exp(brightness)))


def compose_song(
    species: Species, individual: Individual, rng: np.random.Generator
) -> tuple[Note, ...]:
    """Write one song of a bird as notes: pitches, lengths and overtones are final."""
    notes = []
    for phrase in species.song:
        for repeat in range(int(rng.integers(*phrase.repeats, endpoint=True))):
            pace = phrase.pace**repeat / individual.tempo
            notes += [_vary(note, individual, pace, rng) for note in phrase.notes]
    return tuple(notes)


def _vary(note: Note, individual: Individual, pace: float, rng: np.random.Generator) -> Note:
    detune, stretch, louder = np.exp(rng.normal(scale=(0.006, 0.04, 0.12)))
    return replace(
        note,
        seconds=note.seconds * pace * stretch,
        gap=note.gap * pace,
        contour=tuple(hertz * individual.pitch * detune for hertz in note.contour),
        overtones=tuple(amplitude * individual.brightness for amplitude in note.overtones),
        gain=note.gain * louder,
    )


def song_seconds(notes: tuple[Note, ...]) -> float:
    """Return the length of a song, without the silence after its last note."""
    return sum(note.seconds + note.gap for note in notes) - notes[-1].gap


def render_song(notes: tuple[Note, ...]) -> np.ndarray:
    """Turn notes into a waveform at unit RMS over the song, float32 [T]."""
    waveform = np.zeros(round(song_seconds(notes) * SAMPLE_RATE) + 1, np.float32)
    start = 0.0
    for note in notes:
        first = int(start * SAMPLE_RATE)
        sound = _render_note(note)[: len(waveform) - first]
        waveform[first : first + len(sound)] += sound
        start += note.seconds + note.gap
    return waveform / np.sqrt(np.mean(np.square(waveform)))


def _render_note(note: Note) -> np.ndarray:
    num_samples = max(int(note.seconds * SAMPLE_RATE), 2)
    position = np.linspace(0, 1, num_samples)
    hertz = pchip_interpolate(np.linspace(0, 1, len(note.contour)), note.contour, position)
    if note.depth:
        hertz *= 1 + note.depth * np.sin(2 * np.pi * note.vibrato * note.seconds * position)
    cycles = np.cumsum(hertz / SAMPLE_RATE)
    turn = (2 * np.pi * (cycles % 1)).astype(np.float32)  # whole cycles would cost precision
    sound = np.sin(turn)
    for harmonic, amplitude in enumerate(note.overtones, start=2):
        if harmonic * hertz.max() < _HIGHEST:
            sound += np.float32(amplitude) * np.sin(harmonic * turn)
    return sound * (note.gain * tukey(num_samples, note.edge)).astype(np.float32)
