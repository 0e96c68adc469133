"""A flame graph as one SVG file: each box is a function, its width the share of samples in which it ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from innerloop.harness.cli.words import visible

WIDTH, ROW, LETTER = 1200.0, 17.0, 6.6  # pixels: of the picture, of a row, of a letter in 11 px monospace
DEEPEST = 300  # rows
LEAST = 0.4  # pixels: narrower boxes are left out


@dataclass
class Node:
    """A function below one path of callers."""

    count: int = 0
    below: dict[str, Node] = field(default_factory=dict)


def tree(counts: Mapping[tuple[str, ...], int]) -> Node:
    """Stacks, from the outside in, folded into a tree."""
    root = Node()
    for stack, count in counts.items():
        node = root
        node.count += count
        for frame in stack:
            node = node.below.setdefault(frame, Node())
            node.count += count
    return root


def flame_graph(counts: Mapping[tuple[str, ...], int], title: str) -> str:
    """The picture. Callers are above what they call; a box's own name, samples and share show under the pointer."""
    root = tree(counts)
    boxes: list[str] = []
    deepest = _draw("all", root, 0.0, 0, root.count, boxes)
    height = (deepest + 3) * ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH:.0f}" height="{height:.0f}"'
            f' viewBox="0 0 {WIDTH:.0f} {height:.0f}" font-family="monospace" font-size="11">',
            f'<rect width="100%" height="100%" fill="white"/><text x="4" y="14">{root.count} {_text(title)}</text>',
            *boxes,
            "</svg>",
            "",
        ]
    )


def _draw(name: str, node: Node, x: float, depth: int, whole: int, boxes: list[str]) -> int:
    """Adds the boxes of a function and of all below it; returns the deepest row."""
    width = WIDTH * node.count / whole
    if width < LEAST or depth == DEEPEST:
        return depth
    y = (depth + 1.5) * ROW
    letters = int((width - 4) / LETTER)
    label = name if len(name) <= letters else name[: letters - 1] + "…" if letters > 3 else ""
    boxes.append(
        f"<g><title>{_text(name)}: {node.count} samples, {node.count / whole:.1%}</title>"
        f'<rect x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{ROW - 1:.0f}" fill="{colour(name)}" rx="1"/>'
        f'<text x="{x + 3:.2f}" y="{y + 12:.1f}">{_text(label)}</text></g>'
    )
    deepest = depth
    for below, child in sorted(node.below.items()):
        deepest = max(deepest, _draw(below, child, x, depth + 1, whole, boxes))
        x += WIDTH * child.count / whole
    return deepest


def _text(words: str) -> str:
    """Words of others as a picture's text: XML has no control characters."""
    return escape(visible(words))


def colour(name: str) -> str:
    """A warm colour, the same for the same file."""
    file = name.rpartition("(")[2]
    shade = sum(map(ord, file)) % 60
    return f"hsl({20 + shade // 2}, {75 + shade % 20}%, {68 + shade % 14}%)"
