"""A small plot as SVG: lines over two logarithmic axes, with a limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 60, 150, 40, 40
COLOURS = ("#0969da", "#cf222e", "#1a7f37", "#8250df")
Points = Sequence[tuple[float, float]]
Axis = Callable[[float], float]  # from a value to its place, in pixels


def svg(title: str, lines: Mapping[str, Points], *, limit: tuple[str, float], across: str) -> str:
    """The lines by name. `limit` is a name and the value that no line should reach; `across` names the x axis."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points] + [limit[1]]
    x_of = _axis(min(xs), max(xs), start=LEFT, end=WIDTH - RIGHT)
    y_of = _axis(
        10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys))), start=HEIGHT - BOTTOM, end=TOP
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, TOP - 16, title, size=14),
        *_marks(sorted(set(xs)), [10.0**power for power in _powers(ys)], x_of=x_of, y_of=y_of),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, across, anchor="middle"),
        _path([(x_of(min(xs)), y_of(limit[1])), (x_of(max(xs)), y_of(limit[1]))], "#6e7781", dashed=True),
        _text(WIDTH - RIGHT + 6, y_of(limit[1]) + 4, limit[0], colour="#6e7781"),
    ]
    for (name, points), colour in zip(lines.items(), COLOURS, strict=False):
        placed = [(x_of(x), y_of(y)) for x, y in points]
        parts += [
            _path(placed, colour),
            *(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>' for x, y in placed),
        ]
        parts.append(_text(WIDTH - RIGHT + 6, placed[-1][1] + 4, name, colour=colour))
    return "\n".join([*parts, "</svg>", ""])


def _axis(least: float, most: float, *, start: float, end: float) -> Axis:
    scale = (end - start) / math.log(most / least)
    return lambda value: start + scale * math.log(value / least)


def _powers(values: Sequence[float]) -> range:
    return range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)


def _marks(xs: Sequence[float], ys: Sequence[float], *, x_of: Axis, y_of: Axis) -> Iterator[str]:
    for x in xs:
        yield _text(x_of(x), HEIGHT - BOTTOM + 16, f"{x:,.0f}", anchor="middle")
    for y in ys:
        yield _path([(LEFT, y_of(y)), (WIDTH - RIGHT, y_of(y))], "#d0d7de")
        yield _text(LEFT - 6, y_of(y) + 4, f"{y:g}", anchor="end")


def _path(points: Points, colour: str, *, dashed: bool = False) -> str:
    given = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<polyline points="{given}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>'


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "start", colour: str = "#24292f") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{text}</text>'
