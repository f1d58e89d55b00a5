"""Parts that HTML pages share: templates, escaped text, colours in light and dark, data URIs.

A page is one file that needs no network and no server. Its templates are NAME.html, NAME.css and
NAME.js beside this file; ``common.css`` is in front of each NAME.css.
"""

import base64
from html import escape
from importlib.resources import files
from string import Template

from birdmix.files import replace_surrogates
from birdmix.report import style

#: Largest page that is written: browsers open larger ones slowly or not at all.
MAX_PAGE_BYTES = 40_000_000


def fill_template(name: str, css_variables: str = "", **parts: str) -> str:
    """Return a page: its template with style sheet, script and parts.

    Args:
        name: Name of the templates.
        css_variables: Further declarations of CSS variables, ``--name:value;`` each.
        parts: HTML for each ``$name`` of the template, escaped where it is text.
    """
    css = _colour_variables(css_variables) + _template_file("common.css")
    return Template(_template_file(f"{name}.html")).substitute(
        css=css + _template_file(f"{name}.css"), js=_template_file(f"{name}.js"), **parts
    )


def escaped(text: str) -> str:
    """Return a text for HTML, in elements and in attributes with quotes."""
    return escape(replace_surrogates(text))


def data_uri(content: bytes, media_type: str) -> str:
    """Return the content of a file as a URI."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _template_file(name: str) -> str:
    return files("birdmix.report").joinpath(name).read_text(encoding="utf-8")


def _colour_variables(further: str) -> str:
    """Return CSS variables: the colours by the reader's preference, and further ones."""
    light = _variable_list(
        ground="#f5f7f8",
        card="white",
        ink=style.INK,
        muted=style.MUTED,
        faint=style.FAINT,
        accent=style.ACCENT,
        warning=style.WARNING,
    )
    dark = _variable_list(
        ground=style.DARK_GROUND,
        card="#1a2429",
        ink=style.DARK_INK,
        muted=style.DARK_MUTED,
        faint=style.DARK_FAINT,
        accent=style.DARK_ACCENT,
        warning=style.DARK_WARNING,
    )
    return (
        f":root{{color-scheme:light dark;{further}{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    )


def _variable_list(**colours: str) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())
