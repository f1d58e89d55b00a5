"""Twelve synthetic species: the grammar of their songs, and synthesis of songs as waveforms.

A song is a sequence of notes. A species defines them as phrases (its grammar), an individual has
its own pitch, tempo and brightness, and each song varies a little. Three pairs of species are
twins: the same notes, hence the same band and energy, in another order, rhythm or direction. An
average over time cannot distinguish twins, so a model has to use the temporal pattern.

Shapes: T samples.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import pchip_interpolate
from scipy.signal.windows import tukey

from birdmix import random_keys

#: Sample rate of all demo sound, in Hz.
SAMPLE_RATE = 32_000

# Highest overtone in Hz: Vorbis drops higher ones, and aliases would be audible.
_MAX_OVERTONE_HZ = 14_000

_THIRD_OCTAVE = 2 ** (1 / 3)


@dataclass(frozen=True)
class Note:
    """One continuous sound.

    Attributes:
        seconds: Duration in seconds.
        contour: Fundamental in Hz at equally spaced times, joined by a smooth curve.
        gap: Silence after the note, in seconds.
        overtones: Amplitudes of the second, third, ... harmonic relative to the fundamental.
        vibrato: Rate in Hz of a sinusoidal modulation of the pitch; fast and deep, it buzzes.
        depth: Depth of the vibrato as a fraction of the pitch.
        gain: Amplitude relative to the other notes.
        edge: Fraction of the note for fade-in and fade-out together, in (0, 1].
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
class RepeatedPhrase:
    """A sequence of notes that is sung several times.

    Attributes:
        notes: The notes.
        repeats: Smallest and largest number of repetitions.
        pace: Factor on durations and gaps from one repetition to the next; below 1 it speeds up.
    """

    notes: tuple[Note, ...]
    repeats: tuple[int, int] = (1, 1)
    pace: float = 1.0


@dataclass(frozen=True)
class Species:
    """A synthetic species with invented names.

    Attributes:
        code: Label, like an eBird code, or a number like an iNaturalist id.
        taxon: Number for the ``inat_taxon_id`` column.
        common_name: English name.
        scientific_name: Latin name.
        song: Phrases of a song, in order.
    """

    code: str
    taxon: int
    common_name: str
    scientific_name: str
    song: tuple[RepeatedPhrase, ...]

    @property
    def band(self) -> tuple[float, float]:
        """Band of the fundamentals in Hz, extended by a third of an octave on both sides."""
        pitches = [f for phrase in self.song for note in phrase.notes for f in note.contour]
        return min(pitches) / _THIRD_OCTAVE, max(pitches) * _THIRD_OCTAVE


@dataclass(frozen=True)
class Individual:
    """Differences of one bird from its species, as factors around 1."""

    pitch: float
    tempo: float
    brightness: float


def _reverse_notes(phrase: RepeatedPhrase) -> RepeatedPhrase:
    """Return a phrase with its notes in reverse order; the last gap stays the last."""
    gaps = [note.gap for note in phrase.notes]
    gaps = [*gaps[-2::-1], gaps[-1]]
    notes = zip(reversed(phrase.notes), gaps, strict=True)
    return replace(phrase, notes=tuple(replace(note, gap=gap) for note, gap in notes))


_HIGH_LOW = RepeatedPhrase(
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

#: All species. The order is part of every random key: append new ones at the end.
SPECIES = (
    Species("rivwar1", 9000101, "Rivulet Warbler", "Rivulornis declinans", (_HIGH_LOW,)),
    Species(
        "mirwar1", 9000102, "Mirror Warbler", "Rivulornis inversus", (_reverse_notes(_HIGH_LOW),)
    ),
    Species(
        "ambtri1",
        9000103,
        "Amber Triller",
        "Trillator lentus",
        (RepeatedPhrase((_SLOW_TRILL,), (8, 12)),),
    ),
    Species(
        "quitri1",
        9000104,
        "Quick Triller",
        "Trillator celer",
        (RepeatedPhrase((_FAST_TRILL,), (16, 24)),),
    ),
    Species(
        "skyfin1",
        9000105,
        "Skyward Finch",
        "Scalaria ascendens",
        (RepeatedPhrase((_UP_SWEEP,), (3, 5)),),
    ),
    Species(
        "duffin1",
        9000106,
        "Duskfall Finch",
        "Scalaria cadens",
        (RepeatedPhrase((replace(_UP_SWEEP, contour=_UP_SWEEP.contour[::-1]),), (3, 5)),),
    ),
    Species(
        "holdov1",
        9000107,
        "Hollow Dove",
        "Columbella cava",
        (
            RepeatedPhrase(
                (Note(0.28, (520, 610, 580), gap=0.12, overtones=(0.35, 0.12), gain=0.7),)
            ),
            RepeatedPhrase(
                (Note(0.42, (600, 640, 560), gap=0.20, overtones=(0.35, 0.12)),), (2, 4)
            ),
        ),
    ),
    Species(
        "rasbun1",
        9000108,
        "Rasping Bunting",
        "Stridulina aspera",
        (
            RepeatedPhrase((Note(0.07, (4600, 5200), gap=0.06),), (2, 3)),
            RepeatedPhrase(
                (Note(0.75, (5000, 5400, 6200), gap=0.2, vibrato=75, depth=0.09),), (1, 2)
            ),
        ),
    ),
    Species(
        "glathr1",
        9000109,
        "Glade Thrush",
        "Hylocantor serenus",
        (
            RepeatedPhrase((_FLUTE,)),
            RepeatedPhrase((replace(_FLUTE, seconds=0.16, contour=(2500, 3100, 2400)),), (1, 3)),
            RepeatedPhrase((replace(_FLUTE, contour=(2700, 2150, 2900, 3000), gap=0.3),), (1, 2)),
        ),
    ),
    Species(
        "neekin1",
        9000110,
        "Needle Kinglet",
        "Acicula minuta",
        (RepeatedPhrase((Note(0.13, (7300, 7900, 7600), gap=0.13),), (4, 7), pace=0.94),),
    ),
    Species(
        "tinbar1", 9000111, "Tin Barbet", "Stannopsis nasalis", (RepeatedPhrase((_NASAL,), (3, 6)),)
    ),
    Species(
        "22961",
        22961,
        "Reedbed Rattler",
        "Crepitator palustris",
        (RepeatedPhrase((_CHATTER,), (10, 16), pace=0.95),),
    ),
)

#: Pairs of codes with equal long-term spectra: reversed order, another rhythm, reversed direction.
TWINS = (("rivwar1", "mirwar1"), ("ambtri1", "quitri1"), ("skyfin1", "duffin1"))


def draw_individual(seed: int, species: int, number: int, spread: float) -> Individual:
    """Draw one bird.

    Args:
        seed: Seed of the demo.
        species: Index into ``SPECIES``.
        number: The bird's number within its species.
        spread: Factor on the differences between birds of a species; 0 makes them equal.
    """
    pitch, tempo, brightness = random_keys.generator(
        seed, "demo individual", species, number
    ).normal(scale=(0.05 * spread, 0.10 * spread, 0.35 * spread))
    return Individual(float(np.exp(pitch)), float(np.exp(tempo)), float(np.exp(brightness)))


def compose_song(
    species: Species, individual: Individual, rng: np.random.Generator
) -> tuple[Note, ...]:
    """Draw one song of a bird as notes with their final pitches, durations and overtones.

    Args:
        species: Species of the bird.
        individual: Differences of the bird from its species.
        rng: Source of randomness.
    """
    notes = []
    for phrase in species.song:
        for repeat in range(int(rng.integers(*phrase.repeats, endpoint=True))):
            pace = phrase.pace**repeat / individual.tempo
            notes += [_vary_note(note, individual, pace, rng) for note in phrase.notes]
    return tuple(notes)


def _vary_note(note: Note, individual: Individual, pace: float, rng: np.random.Generator) -> Note:
    detune, stretch, gain = np.exp(rng.normal(scale=(0.006, 0.04, 0.12)))
    return replace(
        note,
        seconds=note.seconds * pace * stretch,
        gap=note.gap * pace,
        contour=tuple(hertz * individual.pitch * detune for hertz in note.contour),
        overtones=tuple(amplitude * individual.brightness for amplitude in note.overtones),
        gain=note.gain * gain,
    )


def song_seconds(notes: tuple[Note, ...]) -> float:
    """Return the duration of a song in seconds, without the silence after its last note."""
    return sum(note.seconds + note.gap for note in notes) - notes[-1].gap


def render_song(notes: tuple[Note, ...]) -> np.ndarray:
    """Synthesise a song.

    Args:
        notes: The notes of the song.

    Returns:
        Waveform at ``SAMPLE_RATE`` with unit RMS, float32 [T].
    """
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
    phase = (2 * np.pi * (cycles % 1)).astype(np.float32)  # % 1 keeps float32 precise
    sound = np.sin(phase)
    for harmonic, amplitude in enumerate(note.overtones, start=2):
        if harmonic * hertz.max() < _MAX_OVERTONE_HZ:
            sound += np.float32(amplitude) * np.sin(harmonic * phase)
    return sound * (note.gain * tukey(num_samples, note.edge)).astype(np.float32)
