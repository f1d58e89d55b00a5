"""Tables of runs as CSV."""

import pandas as pd

from birdmix.text import harmless, harmless_path

#: Columns of paths.
_PATHS = ("run",)


def harmless_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose text no spreadsheet takes for formulas; numbers stay numbers."""
    made = table.copy()
    for name in table:
        make = harmless_path if name in _PATHS else harmless
        made[name] = [make(cell) if isinstance(cell, str) else cell for cell in table[name]]
    return made.rename(columns=lambda name: harmless(str(name)))
