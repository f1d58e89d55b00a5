"""Text as programs and people write it: byte order marks, accents, quotes, formulas.

An accented letter is one sign (NFC) or a letter and an accent (NFD, as macOS writes file names).
Both look alike, so names are compared as NFC. Source: Unicode Standard Annex 15.
"""

import codecs
import re
import unicodedata
from pathlib import Path

#: What R writes for a missing value; in every table it is a blank cell.
MISSING = "NA"

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

#: Whatever some reader takes for the end of a cell or a line.
_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")

#: What a spreadsheet takes for a formula: a cell that begins with one of these, in the wide form of
#: East Asian keyboards too. Source: OWASP, "CSV Injection".
_FORMULA_SIGNS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(f"'*[{re.escape(_FORMULA_SIGNS)}]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def nfc(text: str) -> str:
    """Return a text with each accented letter as one sign, in which names are compared."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def encoding_of(first_bytes: bytes) -> str:
    """Return the encoding that the first bytes of a file name; UTF-8 if they name none."""
    marks = (name for mark, name in _BYTE_ORDER_MARKS.items() if first_bytes.startswith(mark))
    return next(marks, "utf-8")


def file_encoding(file: Path) -> str:
    """Return the encoding that a file's byte order mark names; UTF-8 if it has none."""
    with file.open("rb") as stream:
        return encoding_of(stream.read(4))


def read_text(file: Path) -> str:
    """Read a text file in UTF-8, or whatever its byte order mark says.

    Raises:
        ValueError: If it is missing or something else; it names the first row that is.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    data = file.read_bytes()
    try:
        return data.decode(encoding_of(data))
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{file}, row {row}: this is not UTF-8; save the file as UTF-8") from error


def utf8(text: str) -> str:
    """Return a text as UTF-8 has it: other bytes, which a path may hold, become ``\\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    """Return a text in one line and one cell, for formats that quote nothing."""
    return _BREAKS.sub(" ", utf8(text))


def unquoted(cell: str) -> str:
    """Return what a cell holds between quotes, if it begins and ends with one; else the cell.

    A quote inside is written twice, or as ``\\"`` (R's ``write.table``).
    """
    if len(cell) < 2 or cell[0] != '"' or cell[-1] != '"':
        return cell
    return cell[1:-1].replace('\\"', '"').replace('""', '"')


def harmless(cell: str) -> str:
    """Return a cell of text that no spreadsheet takes for a formula.

    What begins like one gets a ``'`` before it; ``restored`` takes it away. Numbers stay numbers.
    """
    is_formula = _FORMULA.match(cell) is not None and _NUMBER.fullmatch(cell) is None
    return f"'{cell}" if is_formula else cell


def harmless_path(path: str) -> str:
    """Return a relative path that no spreadsheet takes for a formula: ``./`` is put before.

    It leads to the same file. ``restored_path`` gives the path back.
    """
    return f"./{path}" if path[:1] and path[0] in _FORMULA_SIGNS else path


def restored(cell: str) -> str:
    """Return a text as it was before ``harmless``."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def restored_path(path: str) -> str:
    """Return a path as it was before ``harmless_path``."""
    return path[2:] if path[:2] == "./" and path[2:3] and path[2] in _FORMULA_SIGNS else path
