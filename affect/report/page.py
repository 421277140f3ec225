"""Jinja's templates → one HTML file that holds its scripts and styles.

The charts are drawn by Vega: it is kept by a group with a history of a decade, draws SVG that a browser can print and
restyle, and tells a page's script where its scales are. `vl-convert-python` carries its JavaScript, so pages are made
without a network.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from affect.errors import escape_text

FOLDER = Path(__file__).parent
# The name of Vega's JavaScript among the scripts of a page, and what our script needs of it.
VEGA = "vega"
NAMES = "window.vegaEmbed = vegaEmbed;"


def render(template: str, scripts: Sequence[str], **values: Any) -> str:
    """Returns a page as text. All values are escaped.

    Args:
        template: Name of the template, a file of this folder.
        scripts: `VEGA`, or names of files of this folder, in the order in which they run.
        values: What it shows.
    """
    codes = [_bundle() if name == VEGA else _guard(_read(name)) for name in scripts]
    return _environment().get_template(template).render(scripts=codes, **values)


def link_to(path: str, above: int = 0) -> str:
    """Returns a path as a URL that a page's link takes.

    Args:
        path: With slashes; relative to the folder of the study, or absolute.
        above: Number of folders between the folder of the study and the page.
    """
    path = path.replace("\\", "/")
    if re.match(r"[A-Za-z]:/", path):
        return f"file:///{path[:2]}{_quote(path[2:])}"
    if path.startswith("/"):
        return f"file://{_quote(path)}"
    return _quote("../" * above + path) if above else "./" * (":" in path.partition("/")[0]) + _quote(path)


def _quote(path):
    return quote(path, errors="surrogateescape")  # also a byte of a name that is not UTF-8


def show_duration(seconds: float | None) -> str:
    """Returns a duration as minutes and seconds: `1:02.5`; for less than a minute as `2.5 s`.

    Args:
        seconds: `None` is shown as a dash.
    """
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} min"
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d}:{int(seconds % 60):02d} h"


def show_number(value: float | None, digits: int = 2) -> str:
    """Returns a number with a true minus sign; a dash for `None`.

    Args:
        value: The number.
        digits: After the point.
    """
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return (text if float(text) else f"{0:.{digits}f}").replace("-", "−")


def show_share(value: float | None) -> str:
    """Returns a share in percent; all and nothing are said only of exactly that.

    Args:
        value: In [0, 1]; `None` is shown as a dash.
    """
    if value is None:
        return "–"
    if 0 < value < 0.01:
        return "<1 %"
    if 0.99 < value < 1:
        return ">99 %"
    return f"{100 * value:.0f} %"


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        finalize=lambda value: escape_text(value) if type(value) is str else value,  # not what is HTML already
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        {
            "duration": show_duration,
            "number": show_number,
            "share": show_share,
            "markdown": _render_markdown,
        }
    )
    chart = json.dumps(json.loads(_read("chart.json")), separators=(",", ":"))
    environment.globals.update({"hash_of": _hash_of, "style": _read("style.css"), "chart": chart})
    return environment


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _guard(code: str) -> str:
    """Returns JavaScript in which nothing ends the element `script`."""
    return re.sub(r"<(?=/script|!--|script)", r"\\x3c", code, flags=re.IGNORECASE)


def _hash_of(code: str) -> str:
    """Returns what a content security policy needs to allow a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode("ascii")


@cache
def _bundle() -> str:
    """Returns Vega's JavaScript."""
    import vl_convert

    return _guard(vl_convert.javascript_bundle(NAMES))


def _render_markdown(text: str) -> Any:
    """Returns a model card as HTML. HTML within it is shown as text; pictures are not fetched."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    markdown = MarkdownIt("js-default").disable("image")
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"  # below the headings of the page
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))
