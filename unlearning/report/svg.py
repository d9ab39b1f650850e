"""SVG elements for inline plots, coloured by CSS classes so that they follow light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup


def line(x1: float, y1: float, x2: float, y2: float, style: str, title: str = "") -> Markup:
    """Draws a straight line."""
    start = Markup('<line class="{}" x1="{:g}" y1="{:g}" x2="{:g}" y2="{:g}"')
    start = start.format(style, x1, y1, x2, y2)
    return start + (Markup(">{}</line>").format(_title(title)) if title else Markup("/>"))


def text(
    x: float, y: float, said: str, style: str = "tick", anchor: str = "middle", title: str = ""
) -> Markup:
    """Draws a line of text; anchor is start, middle or end."""
    element = Markup('<text class="{}" x="{:g}" y="{:g}" text-anchor="{}">{}{}</text>')
    return element.format(style, x, y, anchor, said, _title(title))


def upright(x: float, y: float, said: str, style: str = "axis") -> Markup:
    """Draws text that runs upwards, for a vertical axis."""
    element = Markup('<text class="{}" transform="translate({:g} {:g}) rotate(-90)"')
    return element.format(style, x, y) + Markup(' text-anchor="middle">{}</text>').format(said)


def circle(x: float, y: float, radius: float, style: str, title: str = "") -> Markup:
    """Draws a dot with a tooltip."""
    dot = Markup('<circle class="{}" cx="{:g}" cy="{:g}" r="{:g}">')
    return dot.format(style, x, y, radius) + _title(title) + Markup("</circle>")


def path(points: Sequence[tuple[float, float]], style: str, title: str = "") -> Markup:
    """Draws points joined by straight lines."""
    where = "L".join(f"{x:g} {y:g}" for x, y in points)
    start = Markup('<path class="{}" d="M{}"').format(style, where)
    return start + (Markup(">{}</path>").format(_title(title)) if title else Markup("/>"))


def diamond(x: float, y: float, radius: float, style: str, title: str) -> Markup:
    """Draws the mark of a model that is not a run."""
    corners = [(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y), (x, y - radius)]
    where = "L".join(f"{a:g} {b:g}" for a, b in corners)
    shape = Markup('<path class="{}" d="M{}Z">').format(style, where)
    return shape + _title(title) + Markup("</path>")


def group(parts: Sequence[Markup], style: str, number: int) -> Markup:
    """Groups the elements of one setting, so that the page can highlight them."""
    head = Markup('<g class="{}" data-setting="{}">').format(style, number)
    return head + Markup("").join(parts) + Markup("</g>")


def picture(
    parts: Sequence[Markup],
    width: int,
    height: int,
    said: str,
    data: Mapping[str, float] | None = None,
) -> Markup:
    """Wraps elements in an SVG picture.

    Args:
        said: what a reader who cannot see it is told.
        data: attributes for the page's script.
    """
    head = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}"')
    more = (Markup(' {}="{:.10g}"').format(*pair) for pair in (data or {}).items())
    start = head.format(width, height, said) + Markup("").join(more) + Markup(">")
    return start + Markup("").join(parts) + Markup("</svg>")


def _title(said: str) -> Markup:
    return Markup("<title>{}</title>").format(said) if said else Markup("")
