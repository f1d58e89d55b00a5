"""Lookup of species by code or name, and lists of species in files."""

import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from birdmix.labels import Labels
from birdmix.messages import first_few
from birdmix.text import nfc, read_text, unquote_cell


class SpeciesFinder:
    """Finds species by code or name, without regard to case and to the Unicode form of accents.

    If a text as a whole is neither, either side of a ``_`` in it may be: BirdNET's lists have
    ``Genus species_Common Name``. Codes go before names, and left before right.
    """

    def __init__(self, labels: Labels) -> None:
        self._by_code: dict[str, list[int]] = defaultdict(list)
        self._by_name: dict[str, list[int]] = defaultdict(list)
        for column, (code, name) in enumerate(zip(labels.codes, labels.names, strict=True)):
            self._by_code[_fold(code)].append(column)
            self._by_name[_fold(name)].append(column)

    def columns(self, text: str) -> list[int]:
        """Return the columns of a species: several where they share a name, none if unknown."""
        for part in _parts(_fold(text)):
            for columns_by_text in (self._by_code, self._by_name):
                if part and part in columns_by_text:  # there are species without a name
                    return columns_by_text[part]
        return []


def read_species_columns(labels: Labels, file: Path | None) -> list[int]:
    """Return the columns of the species in a list, ascending; all if there is no list.

    A list, in UTF-8 or UTF-16, has a species in each line; blank lines and those that begin with
    ``#`` are ignored. Species that are not in the labels are named in a warning.

    Args:
        labels: The species of the bundles.
        file: The list; None for all species.

    Raises:
        ValueError: If the list cannot be read, or has none of the species.
    """
    if file is None:
        return list(range(len(labels)))
    try:
        lines = [unquote_cell(line.strip()).strip() for line in read_text(file).splitlines()]
    except (OSError, ValueError) as error:
        raise ValueError(f"--species {file}: cannot be read ({error})") from error
    wanted = [line for line in lines if line and not line.startswith("#")]
    finder = SpeciesFinder(labels)
    found = {line: finder.columns(line) for line in wanted}
    if not any(found.values()):
        problem = f"none of its {len(wanted)} lines is a species of the bundle"
        raise ValueError(
            f"--species {file}: {problem if wanted else 'it is empty'}; "
            f"write a code or a name in each line, as {first_few(labels.codes)}"
        )
    unknown = [line for line in wanted if not found[line]]
    if unknown:
        warnings.warn(
            f"{file}: {len(unknown)} of {len(wanted)} species are not in the bundle: "
            f"{first_few(unknown, 10)}",
            stacklevel=2,
        )
    return sorted({column for columns in found.values() for column in columns})


def _fold(text: str) -> str:
    """Return the form in which texts are compared: NFC, without case."""
    return nfc(nfc(text).casefold())


def _parts(text: str) -> Iterator[str]:
    """Yield a text, then its left and right side of each ``_``."""
    yield text
    words = text.split("_")
    for at in range(1, len(words)):
        yield "_".join(words[:at]).strip()
        yield "_".join(words[at:]).strip()
