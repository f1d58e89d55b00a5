"""Synthetic scenes: plan which birds sing when, and render them as recordings.

A scene is planned first and rendered afterwards; its labels come from the plan. Recordings,
validation and test soundscapes have different individuals.

Shapes: T samples.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from birdmix import random_keys
from birdmix.audio.synthetic_acoustics import (
    apply_distance_and_reverb,
    band_rms,
    distance_from_snr,
    draw_background_noise,
    draw_impulse_response,
)
from birdmix.audio.synthetic_songs import (
    SAMPLE_RATE,
    SPECIES,
    Individual,
    Note,
    compose_song,
    draw_individual,
    render_song,
    song_seconds,
)

#: Length in seconds of a soundscape, and of its labelled windows.
SOUNDSCAPE_SECONDS = 60
WINDOW_SECONDS = 5

# A window is labelled with a species if it contains this many seconds of a song, or half of a
# shorter song.
_MIN_SONG_SECONDS = 0.4

# Largest number of species in a window.
_MAX_SPECIES = 5

# Smallest and largest number of birds in a soundscape.
_NUM_SINGERS = (3, 6)

# Focal recordings: length in seconds, ratio of song to background in dB, share with a second
# species in the background, and its attenuation in dB relative to the first.
_FOCAL_SECONDS = (5.0, 15.0)
_FOCAL_SNR = (5.0, 30.0)
_BACKGROUND_SHARE = 0.2
_BACKGROUND_DB = (8.0, 18.0)

# First number of the birds of a soundscape, or in the background of a recording, by kind of scene.
_FIRST_INDIVIDUAL = {"recording": 1_000_000, "validation": 2_000_000, "test": 3_000_000}

# Largest peak: decoded Vorbis exceeds the encoded peak a little, which must not clip.
_PEAK = 0.8


@dataclass(frozen=True)
class SceneSettings:
    """Settings of all scenes of a demo.

    Attributes:
        seed: Seed of all random draws.
        spread: Factor on the differences between individuals of a species.
        snr_range: Lowest and highest ratio of song to background in soundscapes, in dB.
    """

    seed: int
    spread: float
    snr_range: tuple[float, float]


@dataclass(frozen=True)
class TimedSong:
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
        songs: Its songs, in order; the last may extend beyond the end of the scene.
    """

    species: int
    individual: int
    snr_db: float
    songs: tuple[TimedSong, ...]


@dataclass(frozen=True)
class ScenePlan:
    """Plan of a synthetic recording.

    Attributes:
        kind: ``recording``, ``validation`` or ``test``.
        number: Number within the kind.
        seconds: Length in seconds.
        singers: The birds; the first of a focal recording is its primary species.
    """

    kind: str
    number: int
    seconds: float
    singers: tuple[Singer, ...]


def _make_generator(seed: int, purpose: str, kind: str, number: int) -> np.random.Generator:
    return random_keys.generator(seed, f"demo {kind} {purpose}", number)


def plan_focal_recording(
    settings: SceneSettings, species: int, individual: int, number: int
) -> ScenePlan:
    """Plan a focal recording: a bird near the microphone, sometimes another in the background.

    Args:
        settings: Settings of all scenes.
        species: Index into ``SPECIES``.
        individual: The bird's number within its species, below a million.
        number: Number of the recording within the demo.
    """
    rng = _make_generator(settings.seed, "plan", "recording", number)
    seconds = round(rng.uniform(*_FOCAL_SECONDS), 2)
    snr_db = rng.uniform(*_FOCAL_SNR)
    bird = draw_individual(settings.seed, species, individual, settings.spread)
    songs = _plan_songs(species, bird, (rng.uniform(0.1, 0.6), seconds), (0.6, 2.2), rng)
    singers = [Singer(species, individual, snr_db, songs)]
    if rng.random() < _BACKGROUND_SHARE:
        other = int(species + rng.integers(1, len(SPECIES))) % len(SPECIES)
        individual_number = _FIRST_INDIVIDUAL["recording"] + number
        bird = draw_individual(settings.seed, other, individual_number, settings.spread)
        songs = _plan_songs(other, bird, (rng.uniform(0.1, 2.0), seconds), (1.0, 4.0), rng)
        singers.append(
            Singer(other, individual_number, snr_db - rng.uniform(*_BACKGROUND_DB), songs)
        )
    return ScenePlan("recording", number, seconds, tuple(singers))


def plan_soundscapes(settings: SceneSettings, kind: str, count: int) -> list[ScenePlan]:
    """Plan soundscapes: a few birds each, near and far, whose songs overlap.

    Args:
        settings: Settings of all scenes.
        kind: ``validation`` or ``test``.
        count: Number of soundscapes.
    """
    deck = itertools.chain.from_iterable(  # all species equally often
        _make_generator(settings.seed, "deck", kind, turn).permutation(len(SPECIES))
        for turn in itertools.count()
    )
    return [_plan_soundscape(settings, kind, number, deck) for number in range(count)]


def _plan_soundscape(
    settings: SceneSettings, kind: str, number: int, deck: Iterator[int]
) -> ScenePlan:
    rng = _make_generator(settings.seed, "plan", kind, number)
    num_singers = int(rng.integers(*_NUM_SINGERS, endpoint=True))
    singers = []
    for place, species in enumerate(map(int, itertools.islice(deck, num_singers))):
        individual_number = _FIRST_INDIVIDUAL[kind] + _NUM_SINGERS[1] * number + place
        bird = draw_individual(settings.seed, species, individual_number, settings.spread)
        start = rng.uniform(-5, 0.7 * SOUNDSCAPE_SECONDS)
        span = (max(start, 0.0), min(start + rng.uniform(10, 32), SOUNDSCAPE_SECONDS))
        songs = _plan_songs(species, bird, span, (1.0, 6.0), rng)
        singers.append(Singer(species, individual_number, rng.uniform(*settings.snr_range), songs))
    return ScenePlan(kind, number, SOUNDSCAPE_SECONDS, tuple(_limit_species_per_window(singers)))


def _plan_songs(
    species: int,
    bird: Individual,
    span: tuple[float, float],
    pause: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[TimedSong, ...]:
    """Draw songs with pauses between them until a span is filled; all times are in seconds."""
    songs: list[TimedSong] = []
    start, end = span
    while start < end - 1 or not songs:
        songs.append(TimedSong(start, compose_song(SPECIES[species], bird, rng)))
        start = songs[-1].end + rng.uniform(*pause)
    return tuple(songs)


def _limit_species_per_window(singers: list[Singer]) -> Iterator[Singer]:
    """Remove songs that would give a window more than the largest number of species."""
    species_in_windows: list[set[int]] = [
        set() for _ in range(SOUNDSCAPE_SECONDS // WINDOW_SECONDS)
    ]
    for singer in singers:
        songs = []
        for song in singer.songs:
            windows = [species_in_windows[w] for w in _find_labelled_windows(song)]
            if all(len(window | {singer.species}) <= _MAX_SPECIES for window in windows):
                songs.append(song)
                for window in windows:
                    window.add(singer.species)
        if songs:
            yield Singer(singer.species, singer.individual, singer.snr_db, tuple(songs))


def _find_labelled_windows(song: TimedSong) -> list[int]:
    """Return the windows of a soundscape that are labelled with the species of a song."""
    min_overlap = min(_MIN_SONG_SECONDS, (song.end - song.start) / 2)
    starts = np.arange(0, SOUNDSCAPE_SECONDS, WINDOW_SECONDS)
    overlap = np.minimum(song.end, starts + WINDOW_SECONDS) - np.maximum(song.start, starts)
    return [int(window) for window in np.flatnonzero(overlap >= min_overlap)]


def species_codes_by_window(scene: ScenePlan) -> list[set[str]]:
    """Return the species codes of each window of a soundscape.

    Args:
        scene: Plan of the soundscape, ``SOUNDSCAPE_SECONDS`` long.
    """
    return [set(levels) for levels in species_snr_by_window(scene)]


def species_snr_by_window(scene: ScenePlan) -> list[dict[str, float]]:
    """Return the signal-to-noise ratio in dB of each species in each window of a soundscape.

    It is that of the loudest bird of the species (``Singer.snr_db``), by species code.

    Args:
        scene: Plan of the soundscape, ``SOUNDSCAPE_SECONDS`` long.
    """
    levels: list[dict[str, float]] = [{} for _ in range(SOUNDSCAPE_SECONDS // WINDOW_SECONDS)]
    for singer in scene.singers:
        code = SPECIES[singer.species].code
        for song in singer.songs:
            for window in _find_labelled_windows(song):
                levels[window][code] = max(singer.snr_db, levels[window].get(code, -np.inf))
    return levels


def render_scene(scene: ScenePlan, seed: int) -> np.ndarray:
    """Render a scene as a recording.

    Args:
        scene: The plan.
        seed: Seed of the demo, for background noise, reverberation and level.

    Returns:
        Waveform at ``SAMPLE_RATE``, float32 [T], peak below 1.
    """
    rng = _make_generator(seed, "sound", scene.kind, scene.number)
    recording = draw_background_noise(round(scene.seconds * SAMPLE_RATE), rng)
    noise_levels = [
        (singer, band_rms(recording, *SPECIES[singer.species].band)) for singer in scene.singers
    ]
    for singer, noise in noise_levels:
        impulse_response = draw_impulse_response(rng)
        gain = np.float32(noise * 10 ** (singer.snr_db / 20))
        for song in singer.songs:
            sound = apply_distance_and_reverb(
                render_song(song.notes), distance_from_snr(singer.snr_db), impulse_response
            )
            first = int(song.start * SAMPLE_RATE)
            sound = sound[: len(recording) - first]
            recording[first : first + len(sound)] += gain * sound
    level = _PEAK * 10 ** (-rng.uniform(0, 15) / 20)
    return recording * np.float32(level / np.abs(recording).max())
