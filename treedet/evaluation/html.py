"""A small HTML builder: elements that escape what they are given, and a page that needs nothing but itself."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

VOID = {"img", "br", "hr", "meta"}
"""Elements without content or end tag."""
NOT_DEFINED = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


class Markup(str):
    """Text that is HTML already; any other text is escaped where it is put into an element."""

    __slots__ = ()


Child: TypeAlias = str | float | None
Format: TypeAlias = Callable[[Any], str]


def element(name: str, *children: Child, **attributes: str | None) -> Markup:
    """Return an element.

    Args:
        name: Of the element.
        children: Markup, taken as it is; anything else is escaped text. None is left out.
        attributes: By name; an underscore at the end is dropped (``class_``), None leaves the attribute out.

    >>> element("p", "a < b ", element("b", "c"), class_="x")
    '<p class="x">a &lt; b <b>c</b></p>'
    """
    told = "".join(
        f' {key.rstrip("_")}="{html.escape(value, quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{joined(children)}</{name}>")


def joined(children: Sequence[Child]) -> Markup:
    """Return children one after the other, escaped unless they are markup.

    >>> joined(["<", element("br")])
    '&lt;<br>'
    """
    return Markup("".join(_escaped(child) for child in children if child is not None))


def _escaped(child: Child) -> str:
    return str(child) if isinstance(child, Markup) else html.escape(str(child), quote=False)


def picture(path: Path, *, alt: str) -> Markup:
    """Return a PNG as an image that lies inside the page.

    Args:
        path: The file, read now.
        alt: What the picture shows, for those who can not see it.
    """
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return element("img", src=f"data:image/png;base64,{data}", alt=alt)


def bars(rows: Sequence[tuple[str, float, str]]) -> Markup:
    """Return named horizontal bars, drawn by style alone.

    Args:
        rows: Name, share from 0 to 1 (NaN for none), and what is written beside the bar.

    >>> 'style="width:50.0%"' in bars([("0.1 m", 0.5, "0.50")])
    True
    """
    cells = []
    for name, share, text in rows:
        width = f"{100 * min(max(share, 0.0), 1.0):.1f}" if math.isfinite(share) else "0"
        bar = element("span", element("i", style=f"width:{width}%"), class_="bar")
        cells.append(element("li", element("span", name, class_="what"), bar, element("span", text, class_="figure")))
    return element("ul", *cells, class_="bars")


def table(frame: pd.DataFrame, formats: Mapping[str, Format], *, names: Mapping[str, str] | None = None) -> Markup:
    """Return a table that scrolls sideways where it is wider than the page.

    Args:
        frame: One row each; its columns in this order.
        formats: How a column's values are written; others as :func:`plain` does.
        names: Headings by column; others are the columns' own names.
    """
    headings = [(names or {}).get(str(column), str(column)) for column in frame.columns]
    head = element("tr", *(element("th", heading, scope="col") for heading in headings))
    writers = [formats.get(str(column), plain) for column in frame.columns]
    body = [
        element("tr", *(element("td", write(value)) for write, value in zip(writers, row, strict=True)))
        for row in frame.itertuples(index=False, name=None)
    ]
    inner = element("table", element("thead", head), element("tbody", *body))
    return element("div", inner, class_="scroll")


def is_nothing(value: object) -> bool:
    """Tell whether a value stands for one that is not defined: None, NaN or NA.

    >>> is_nothing(None), is_nothing(float("nan")), is_nothing("nan"), is_nothing([])
    (True, True, False, False)
    """
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def plain(value: object) -> str:
    """Return a value as text: three significant digits, a dash where it is not defined.

    >>> plain(0.12345), plain(float("nan")), plain(True), plain("a"), plain(1234567), plain(123456.7)
    ('0.123', '–', 'yes', 'a', '1 234 567', '123 457')
    """
    if is_nothing(value):
        return NOT_DEFINED
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if isinstance(value, int):
        return whole(value)
    if isinstance(value, float):
        return whole(value) if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def whole(value: float) -> str:
    """Return a number without decimals, its thousands apart.

    >>> whole(12345.6), whole(float("nan"))
    ('12 346', '–')
    """
    return NOT_DEFINED if is_nothing(value) or not math.isfinite(value) else f"{value:,.0f}".replace(",", " ")


def decimals(digits: int, *, sign: bool = False) -> Format:
    """Return a function that writes a number with so many decimals.

    >>> decimals(2)(0.5), decimals(1, sign=True)(3.0), decimals(2)(float("nan"))
    ('0.50', '+3.0', '–')
    """
    spec = f"{'+' if sign else ''}.{digits}f"
    return lambda value: NOT_DEFINED if is_nothing(value) else format(float(value), spec).replace("-", MINUS)


def percent(value: float, *, sign: bool = False) -> str:
    """Return a share as whole per cent.

    >>> percent(0.634), percent(-0.04, sign=True), percent(float("nan"))
    ('63 %', '−4 %', '–')
    """
    if is_nothing(value) or not math.isfinite(value):
        return NOT_DEFINED
    return f"{100 * value:{'+' if sign else ''}.0f} %".replace("-", MINUS)


def facts(values: Mapping[str, Any]) -> Markup:
    """Return names and values, nested ones as lists of their own."""
    pairs: list[Markup] = []
    for name, value in values.items():
        pairs += [element("dt", str(name).replace("_", " ")), element("dd", _fact(value))]
    return element("dl", *pairs)


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return facts(value)
    if isinstance(value, list | tuple):
        return ", ".join(plain(one) for one in value) or NOT_DEFINED
    return plain(value)


def page(title: str, *parts: Markup) -> str:
    """Return a whole page, to be read offline, on a phone, in the dark and in print.

    >>> page("a & b", element("h1", "x")).startswith("<!doctype html>")
    True
    """
    head = joined(
        [
            element("meta", charset="utf-8"),
            element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
            element("title", title),
            element("style", Markup(STYLE)),
        ]
    )
    body = element("main", *parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


STYLE = """
:root{--ink:#1b1f1d;--soft:#5b645f;--line:#d9dedb;--paper:#fff;--card:#f4f7f5;--accent:#0072b2;--track:#dfe5e1}
@media (prefers-color-scheme:dark){:root{--ink:#e8ecea;--soft:#a3ada8;--line:#39413d;--paper:#141816;--card:#1e2421;
--accent:#56b4e9;--track:#353d39}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:76rem;margin:0 auto;padding:1.2rem 1rem 4rem}
h1{font-size:1rem;font-weight:600;color:var(--soft);margin:0 0 .3rem;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:2.4rem 0 .3rem}
h3{font-size:1rem;margin:1.4rem 0 .2rem}
.headline{font-size:clamp(1.3rem,3.4vw,1.9rem);line-height:1.25;font-weight:650;margin:0 0 .4rem;max-width:60rem}
.under,.note,figcaption{color:var(--soft);font-size:.92rem;max-width:52rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(16.5rem,1fr));gap:.8rem;margin:1.1rem 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem .95rem}
.card h2{font-size:.92rem;margin:0 0 .25rem;color:var(--soft);font-weight:600}
.card .answer{font-size:1.12rem;font-weight:650;line-height:1.3;margin:0 0 .4rem}
.card p{margin:.3rem 0;font-size:.92rem}
.bars{list-style:none;margin:.4rem 0;padding:0;font-size:.85rem}
.bars li{display:grid;grid-template-columns:5.4rem 1fr 5.6rem;gap:.5rem;align-items:center;line-height:1.55}
.bars .figure{white-space:nowrap;font-variant-numeric:tabular-nums}
.bar{background:var(--track);height:.62rem;border-radius:.2rem;overflow:hidden}
.bar i{display:block;height:100%;background:var(--accent)}
.bar,.bar i{print-color-adjust:exact;-webkit-print-color-adjust:exact}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr));gap:1.2rem;margin:.8rem 0}
figure{margin:0;break-inside:avoid}
figure.wide{grid-column:1/-1}
figure img{display:block;max-width:100%;height:auto;background:#fff;border:1px solid var(--line);border-radius:.4rem}
.scroll{overflow-x:auto;margin:.4rem 0 1rem}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{padding:.28rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{vertical-align:bottom;font-weight:600;white-space:normal;min-width:3.6rem;color:var(--soft)}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--paper)}
dl{display:grid;grid-template-columns:minmax(7rem,max-content) 1fr;gap:.15rem 1rem;margin:.3rem 0;font-size:.9rem}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
summary{cursor:pointer;font-weight:600;margin:.8rem 0 .3rem}
@media (max-width:40rem){dl{grid-template-columns:1fr}dd{margin:0 0 .4rem}}
@media print{body{font-size:10.5pt}main{max-width:none;padding:0}.cards{grid-template-columns:1fr 1fr}
.scroll{overflow:visible}table{font-size:7.5pt}th,td{padding:.15rem .3rem}h2{break-after:avoid}}
"""
