"""CSV tables of runs: text that spreadsheets would take for formulas is escaped."""

import pandas as pd

from birdmix.text import escape_formula, escape_formula_in_path

# Columns of paths.
_PATH_COLUMNS = ("run",)


def escape_table_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of a table with text escaped that spreadsheets would take for formulas."""
    escaped = table.copy()
    for name in table:
        escape = escape_formula_in_path if name in _PATH_COLUMNS else escape_formula
        escaped[name] = [escape(cell) if isinstance(cell, str) else cell for cell in table[name]]
    return escaped.rename(columns=lambda name: escape_formula(str(name)))
