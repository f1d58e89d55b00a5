"""Text handling: byte order marks, accents (NFC), quotes, and escaping of spreadsheet formulas.

An accented letter is one character (NFC), or a letter and a combining accent (NFD, as in macOS file
names). Both look alike, so names are compared as NFC. Source: Unicode Standard Annex 15.
"""

import codecs
import re
import unicodedata
from pathlib import Path

#: R's text for a missing value; in every table it is read as an empty cell.
MISSING = "NA"

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

#: Characters that some readers treat as the end of a cell or a line.
_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")

#: First characters of a cell that spreadsheets evaluate as a formula, including the full-width
#: forms of East Asian keyboards. Source: OWASP, "CSV Injection".
_FORMULA_SIGNS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(f"'*[{re.escape(_FORMULA_SIGNS)}]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def nfc(text: str) -> str:
    """Return a text in NFC (each accented letter is one character), for comparing names."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def encoding_of_first_bytes(first_bytes: bytes) -> str:
    """Return the encoding by the byte order mark in a file's first bytes; UTF-8 without a mark."""
    marks = (name for mark, name in _BYTE_ORDER_MARKS.items() if first_bytes.startswith(mark))
    return next(marks, "utf-8")


def file_encoding(file: Path) -> str:
    """Return the encoding by a file's byte order mark; UTF-8 without a mark."""
    with file.open("rb") as stream:
        return encoding_of_first_bytes(stream.read(4))


def read_text(file: Path) -> str:
    """Read a text file in UTF-8, or in the encoding of its byte order mark.

    Raises:
        ValueError: If it is missing, or has another encoding, with the first such row.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    data = file.read_bytes()
    try:
        return data.decode(encoding_of_first_bytes(data))
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{file}, row {row}: not UTF-8; save the file as UTF-8") from error


def escape_surrogates(text: str) -> str:
    """Return a text that UTF-8 can encode: other bytes, as in some paths, become ``\\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    """Return a text without line or cell breaks, for formats without quotes."""
    return _BREAKS.sub(" ", escape_surrogates(text))


def unquote_cell(cell: str) -> str:
    """Return a cell without its quotes; a cell that is not quoted is returned unchanged.

    A quote in the cell is written twice, or as ``\\"`` (R's ``write.table``).
    """
    if len(cell) < 2 or cell[0] != '"' or cell[-1] != '"':
        return cell
    return cell[1:-1].replace('\\"', '"').replace('""', '"')


def escape_formula(cell: str) -> str:
    """Return a cell's text with a ``'`` in front if spreadsheets would evaluate it as a formula.

    ``unescape_formula`` is the inverse. Numbers are unchanged.
    """
    is_formula = _FORMULA.match(cell) is not None and _NUMBER.fullmatch(cell) is None
    return f"'{cell}" if is_formula else cell


def escape_formula_in_path(path: str) -> str:
    """Return a relative path with ``./`` in front if spreadsheets would evaluate it as a formula.

    The new path is of the same file. ``unescape_formula_in_path`` is the inverse.
    """
    return f"./{path}" if path[:1] and path[0] in _FORMULA_SIGNS else path


def unescape_formula(cell: str) -> str:
    """Return the text that ``escape_formula`` escaped: the inverse."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def unescape_formula_in_path(path: str) -> str:
    """Return the path that ``escape_formula_in_path`` escaped: the inverse."""
    return path[2:] if path[:2] == "./" and path[2:3] and path[2] in _FORMULA_SIGNS else path
