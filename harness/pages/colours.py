"""The colours of pages and pictures, for a light and a dark ground.

The series' colours are Okabe and Ito's (2008), which people with any kind of colour blindness tell apart, made
darker or lighter until each has a contrast of 3 or more against the ground.
"""

from __future__ import annotations

from typing import Any

SERIES = (  # (light, dark)
    ("#0b6bb0", "#5aaef0"),
    ("#c75300", "#f2994a"),
    ("#00835f", "#3fc79a"),
    ("#b0568d", "#e39ac6"),
    ("#8a6d00", "#e3c14b"),
    ("#2b8fb3", "#8ad3f2"),
    ("#6b7280", "#a3adba"),
    ("#5b4bc4", "#a99df5"),
)
NAMED = {
    "ground": ("#ffffff", "#14171b"),
    "raised": ("#f6f7f9", "#1d2126"),
    "ink": ("#16191d", "#e8eaed"),
    "muted": ("#5c6672", "#9aa5b1"),
    "line": ("#e2e6ea", "#2e343b"),
    "band": ("#e9f1f8", "#1d2a36"),
    "link": ("#0b5fa5", "#7cbcf5"),
    "good": ("#00754f", "#4fd1a1"),
    "warn": ("#8a5a00", "#edb54a"),
    "bad": ("#b3261e", "#ff8a80"),
}
COLOURS = {**NAMED, **{f"c{number}": pair for number, pair in enumerate(SERIES)}}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def css() -> str:
    """The colours as CSS variables, each for both grounds."""
    return "\n".join(f"  --{name}: light-dark({light}, {dark});" for name, (light, dark) in COLOURS.items())


def coloured(spec: Any, dark: bool = False) -> Any:
    """A spec with `@name` replaced by the colour of that name."""
    if isinstance(spec, dict):
        return {name: coloured(value, dark) for name, value in spec.items()}
    if isinstance(spec, (list, tuple)):
        return [coloured(value, dark) for value in spec]
    if isinstance(spec, str) and spec[:1] == "@" and spec[1:] in COLOURS:
        return COLOURS[spec[1:]][dark]
    return spec
