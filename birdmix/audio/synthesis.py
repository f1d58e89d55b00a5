"""Scenes of synthetic birds: who sings when, and what a microphone makes of it.

A scene is planned as plain values and rendered afterwards; its labels come from the plan.
Recordings, validation and test soundscapes hold different individuals.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from birdmix import keys
from birdmix.audio.songs import (
    SAMPLE_RATE,
    SPECIES,
    Individual,
    Note,
    compose_song,
    draw_individual,
    render_song,
    song_seconds,
)
from birdmix.audio.weather import band_rms, carry, draw_echo, draw_weather, metres

#: Length of a soundscape and of the windows it is labelled in, in seconds.
SOUNDSCAPE_SECONDS = 60
WINDOW_SECONDS = 5

# A window carries a species if it holds this much of a song, in seconds, or half of a shorter one.
_LEAST_SECONDS = 0.4

# No window carries more species than this.
_MOST_SPECIES = 5

# Fewest and most birds of a soundscape.
_SINGERS = (3, 6)

# Focal recordings: length in seconds, ratio of song to background in dB, share with another
# species behind, and how many dB weaker than the first that one is.
_FOCAL_SECONDS = (5.0, 15.0)
_FOCAL_SNR = (5.0, 30.0)
_BEHIND_SHARE = 0.2
_BEHIND_DB = (8.0, 18.0)

# Birds of a soundscape or behind another are numbered from here, by the kind of scene.
_STRANGERS = {"recording": 1_000_000, "validation": 2_000_000, "test": 3_000_000}

# Decoded Vorbis overshoots what was encoded a little; this leaves room below full scale.
_PEAK = 0.8


@dataclass(frozen=True)
class Habitat:
    """What all scenes of a demo share.

    Attributes:
        seed: Seed of every random choice.
        spread: Factor on how much individuals of a species differ.
        snr_range: Lowest and highest ratio of song to background in soundscapes, in dB.
    """

    seed: int
    spread: float
    snr_range: tuple[float, float]


@dataclass(frozen=True)
class Song:
    """A song and its start in the scene, in seconds."""

    start: float
    notes: tuple[Note, ...]

    @property
    def end(self) -> float:
        """End in the scene, in seconds."""
        return self.start + song_seconds(self.notes)


@dataclass(frozen=True)
class Singer:
    """A bird in a scene.

    Attributes:
        species: Index into ``SPECIES``.
        individual: Number of the bird within its species.
        snr_db: RMS of its songs over that of the background in its band, in dB.
        songs: What it sings, in order; the scene's end may cut the last one.
    """

    species: int
    individual: int
    snr_db: float
    songs: tuple[Song, ...]


@dataclass(frozen=True)
class Scene:
    """A recording to be made.

    Attributes:
        kind: ``recording``, ``validation`` or ``test``.
        number: Its number within the kind.
        seconds: Length.
        singers: The birds; of a focal recording, the first is what it is about.
    """

    kind: str
    number: int
    seconds: float
    singers: tuple[Singer, ...]


def _rng(seed: int, purpose: str, kind: str, number: int) -> np.random.Generator:
    return keys.generator(seed, f"demo {kind} {purpose}", number)


def plan_recording(habitat: Habitat, species: int, individual: int, number: int) -> Scene:
    """Plan a focal recording: a bird near the microphone, now and then another far behind it.

    Args:
        habitat: What all scenes share.
        species: Index into ``SPECIES``.
        individual: The bird's number within its species, below a million.
        number: Number of the recording within the demo.
    """
    rng = _rng(habitat.seed, "plan", "recording", number)
    seconds = round(rng.uniform(*_FOCAL_SECONDS), 2)
    snr_db = rng.uniform(*_FOCAL_SNR)
    bird = draw_individual(habitat.seed, species, individual, habitat.spread)
    songs = _sing(species, bird, (rng.uniform(0.1, 0.6), seconds), (0.6, 2.2), rng)
    singers = [Singer(species, individual, snr_db, songs)]
    if rng.random() < _BEHIND_SHARE:
        other = int(species + rng.integers(1, len(SPECIES))) % len(SPECIES)
        stranger = _STRANGERS["recording"] + number
        bird = draw_individual(habitat.seed, other, stranger, habitat.spread)
        songs = _sing(other, bird, (rng.uniform(0.1, 2.0), seconds), (1.0, 4.0), rng)
        singers.append(Singer(other, stranger, snr_db - rng.uniform(*_BEHIND_DB), songs))
    return Scene("recording", number, seconds, tuple(singers))


def plan_soundscapes(habitat: Habitat, kind: str, count: int) -> list[Scene]:
    """Plan soundscapes: a few birds each, near and far, that sing over one another.

    Args:
        habitat: What all scenes share.
        kind: ``validation`` or ``test``.
        count: How many.
    """
    deck = itertools.chain.from_iterable(  # every species as often as any other
        _rng(habitat.seed, "deck", kind, turn).permutation(len(SPECIES))
        for turn in itertools.count()
    )
    return [_plan_soundscape(habitat, kind, number, deck) for number in range(count)]


def _plan_soundscape(habitat: Habitat, kind: str, number: int, deck: Iterator[int]) -> Scene:
    rng = _rng(habitat.seed, "plan", kind, number)
    num_singers = int(rng.integers(*_SINGERS, endpoint=True))
    singers = []
    for place, species in enumerate(map(int, itertools.islice(deck, num_singers))):
        stranger = _STRANGERS[kind] + _SINGERS[1] * number + place
        bird = draw_individual(habitat.seed, species, stranger, habitat.spread)
        start = rng.uniform(-5, 0.7 * SOUNDSCAPE_SECONDS)
        span = (max(start, 0.0), min(start + rng.uniform(10, 32), SOUNDSCAPE_SECONDS))
        songs = _sing(species, bird, span, (1.0, 6.0), rng)
        singers.append(Singer(species, stranger, rng.uniform(*habitat.snr_range), songs))
    return Scene(kind, number, SOUNDSCAPE_SECONDS, tuple(_uncrowded(singers)))


def _sing(
    species: int,
    bird: Individual,
    span: tuple[float, float],
    pause: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[Song, ...]:
    """Fill a span with songs, pauses in between; all in seconds."""
    songs: list[Song] = []
    start, end = span
    while start < end - 1 or not songs:
        songs.append(Song(start, compose_song(SPECIES[species], bird, rng)))
        start = songs[-1].end + rng.uniform(*pause)
    return tuple(songs)


def _uncrowded(singers: list[Singer]) -> Iterator[Singer]:
    """Leave out songs that would bring a window above the largest number of species."""
    carried: list[set[int]] = [set() for _ in range(SOUNDSCAPE_SECONDS // WINDOW_SECONDS)]
    for singer in singers:
        songs = []
        for song in singer.songs:
            windows = [carried[w] for w in _windows_of(song)]
            if all(len(window | {singer.species}) <= _MOST_SPECIES for window in windows):
                songs.append(song)
                for window in windows:
                    window.add(singer.species)
        if songs:
            yield Singer(singer.species, singer.individual, singer.snr_db, tuple(songs))


def _windows_of(song: Song) -> list[int]:
    """Return the windows of a soundscape that hold enough of a song to carry its species."""
    enough = min(_LEAST_SECONDS, (song.end - song.start) / 2)
    starts = np.arange(0, SOUNDSCAPE_SECONDS, WINDOW_SECONDS)
    overlap = np.minimum(song.end, starts + WINDOW_SECONDS) - np.maximum(song.start, starts)
    return [int(window) for window in np.flatnonzero(overlap >= enough)]


def window_labels(scene: Scene) -> list[set[str]]:
    """Return the codes of the species that each window of a soundscape carries."""
    labels: list[set[str]] = [set() for _ in range(SOUNDSCAPE_SECONDS // WINDOW_SECONDS)]
    for singer in scene.singers:
        for song in singer.songs:
            for window in _windows_of(song):
                labels[window].add(SPECIES[singer.species].code)
    return labels


def render(scene: Scene, seed: int) -> np.ndarray:
    """Render a scene as a microphone would record it.

    Args:
        scene: The plan.
        seed: Seed of the demo, for weather, echo and level.

    Returns:
        Waveform at ``SAMPLE_RATE``, float32 [T], peak below 1.
    """
    rng = _rng(seed, "sound", scene.kind, scene.number)
    recording = draw_weather(round(scene.seconds * SAMPLE_RATE), rng)
    heard = [
        (singer, band_rms(recording, *SPECIES[singer.species].band)) for singer in scene.singers
    ]
    for singer, noise in heard:
        echo = draw_echo(rng)
        gain = np.float32(noise * 10 ** (singer.snr_db / 20))
        for song in singer.songs:
            sound = carry(render_song(song.notes), metres(singer.snr_db), echo)
            first = int(song.start * SAMPLE_RATE)
            sound = sound[: len(recording) - first]
            recording[first : first + len(sound)] += gain * sound
    level = _PEAK * 10 ** (-rng.uniform(0, 15) / 20)
    return recording * np.float32(level / np.abs(recording).max())
