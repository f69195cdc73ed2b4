"""What a job or an SLO waits for, and what waits for it: a small graph, in layers from left to right, with links.

Only what is near is drawn, and of each step only so much; how much more there is is said.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from statistics import fmean

from pipelines.board.frame import Links, job_page, slo_page
from pipelines.board.tracked import JobKey, TrackedJob, TrackedSlo

Node = JobKey | str
"""A job, or the id of an SLO."""

# So many steps up and down, so many of each step; what there is beyond is counted up to a bound.
STEPS = 2
WIDEST = 5
MOST_COUNTED = 99
WIDTH, GAP, LINE, AIR = 176, 40, 16, 10
# What a line holds, in widths of a usual letter.
LETTERS = 20.0
SIGNS = {"critical": "× ", "warning": "! "}


@dataclass(frozen=True)
class Graph:
    """All jobs and SLOs. `state`: of those that are not well, `critical` or `warning`."""

    up: Mapping[JobKey, Sequence[JobKey]]
    down: Mapping[JobKey, Sequence[JobKey]]
    slos: Mapping[JobKey, Sequence[str]]
    names: Mapping[Node, str]
    state: Mapping[Node, str] = field(default_factory=dict)

    @classmethod
    def of(cls, slos: Iterable[TrackedSlo], jobs: Iterable[TrackedJob], state: Mapping[Node, str]) -> Graph:
        """Of what the catalog has."""
        names: dict[Node, str] = {}
        up: dict[JobKey, Sequence[JobKey]] = {}
        down: dict[JobKey, list[JobKey]] = defaultdict(list)
        served: dict[JobKey, list[str]] = defaultdict(list)
        for job in jobs:
            names[job.key] = job.name
            up[job.key] = job.upstream
            for above in job.upstream:
                down[above].append(job.key)
        for slo in slos:
            names[slo.id] = slo.name
            for one in slo.jobs:
                served[one.key].append(slo.id)
        return cls(up, down, served, names, state)

    def draw(
        self,
        own: Sequence[JobKey],
        slo: str | None,
        href: Callable[[Node], str | None],
        *,
        uid: str,
        title: str,
    ) -> str:
        """What is around the jobs `own`, and the SLO that they are of, as SVG; empty where there is nothing."""
        above, more_above = _near(own, lambda job: self.up.get(job, ()))
        below, more_below = _near(own, lambda job: self.down.get(job, ()))
        jobs = [*above, *own, *below]
        kept = set(jobs)
        edges: list[tuple[Node, Node]] = [
            (one, job) for job in jobs for one in self.up.get(job, ()) if one in kept
        ]
        promised, more_promised = self._promised([*own, *below], slo)
        edges += promised
        nodes: list[Node] = list(dict.fromkeys([*jobs, *(end for _, end in promised)]))
        if len(nodes) < 2:
            return ""
        edges = _reduced(edges)
        more = [
            f"{f'more than {MOST_COUNTED}' if count > MOST_COUNTED else count} more {where}"
            for count, where in (
                (more_above, "upstream"),
                (more_below, "downstream"),
                (more_promised, "SLOs downstream"),
            )
            if count
        ]
        centre: Node = slo if slo is not None else own[0]
        layers = _layers(nodes, edges)
        hit = {*below, *(end for _, end in promised if end != slo)}
        said = f"{len(above)} upstream and {len(hit)} downstream of it are drawn."
        return _drawn(
            layers,
            edges,
            self._name,
            self.state,
            centre,
            href,
            uid=uid,
            title=title,
            text=said,
            more=more,
        )

    def _name(self, node: Node) -> str:
        return self.names.get(node) or (node if isinstance(node, str) else "/".join(node))

    def _promised(self, jobs: Sequence[JobKey], own: str | None) -> tuple[list[tuple[Node, Node]], int]:
        """Edges from jobs to the SLOs that they are of, the own one first, and how many SLOs were left out."""
        found: list[tuple[Node, Node]] = []
        kept: list[str] = [] if own is None else [own]
        left_out = set()
        for job in jobs:
            for slo_id in self.slos.get(job, ()):
                if slo_id not in kept:
                    if len(kept) > WIDEST:
                        left_out.add(slo_id)
                        continue
                    kept.append(slo_id)
                found.append((job, slo_id))
        return found, len(left_out)


def _near(own: Sequence[JobKey], following: Callable[[JobKey], Sequence[JobKey]]) -> tuple[list[JobKey], int]:
    """What lies within a few steps, the nearest first, and how many more there are."""
    seen, kept, layer = set(own), [], list(own)
    more, steps = 0, 0
    while layer and more <= MOST_COUNTED:
        steps += 1
        after = [
            one for one in dict.fromkeys(one for job in layer for one in following(job)) if one not in seen
        ]
        seen.update(after)
        near = after[:WIDEST] if steps <= STEPS else []
        kept += near
        more += len(after) - len(near)
        layer = after
    return kept, more


def _reduced(edges: Sequence[tuple[Node, Node]]) -> list[tuple[Node, Node]]:
    """Without those that a longer way says, too."""
    after: dict[Node, set[Node]] = defaultdict(set)
    for upper, lower in edges:
        after[upper].add(lower)

    def reaches(start: Node, end: Node) -> bool:
        left, seen = [one for one in after[start] if one != end], set()
        while left:
            node = left.pop()
            if node == end:
                return True
            if node not in seen:
                seen.add(node)
                left += after.get(node, ())
        return False

    return [(upper, lower) for upper, lower in dict.fromkeys(edges) if not reaches(upper, lower)]


def _layers(nodes: Sequence[Node], edges: Sequence[tuple[Node, Node]]) -> list[list[Node]]:
    """Nodes by the longest way to them, so that every edge leads to the right; those that belong together level."""
    rank = dict.fromkeys(nodes, 0)
    for _ in nodes:
        moved = False
        for upper, lower in edges:
            if rank[lower] <= rank[upper]:
                rank[lower] = rank[upper] + 1
                moved = True
        if not moved:
            break
    below: dict[Node, list[Node]] = defaultdict(list)
    for upper, lower in edges:
        below[upper].append(lower)
    # What waits for nobody stands beside what waits for it.
    for node in sorted(nodes, key=lambda node: -rank[node]):
        if below[node]:
            rank[node] = min(rank[lower] for lower in below[node]) - 1
    layers: list[list[Node]] = [[] for _ in range(max(rank.values()) + 1)]
    for node in nodes:
        layers[rank[node]].append(node)
    place: dict[Node, float] = {}
    above: dict[Node, list[Node]] = defaultdict(list)
    for upper, lower in edges:
        above[lower].append(upper)
    for layer in layers:
        layer.sort(key=lambda node: fmean([place[one] for one in above[node]] or [0.0]))
        place |= {node: float(number) for number, node in enumerate(layer)}
    return [layer for layer in layers if layer]


def _drawn(
    layers: Sequence[Sequence[Node]],
    edges: Sequence[tuple[Node, Node]],
    name: Callable[[Node], str],
    state: Mapping[Node, str],
    centre: Node,
    href: Callable[[Node], str | None],
    *,
    uid: str,
    title: str,
    text: str,
    more: Sequence[str],
) -> str:
    texts = {
        node: _broken(SIGNS.get(state.get(node, ""), "") + name(node)) for layer in layers for node in layer
    }
    heights = [sum(_height(texts[node]) + AIR for node in layer) - AIR for layer in layers]
    tallest = max(heights)
    boxes: dict[Node, tuple[int, int, int]] = {}
    for number, (layer, height) in enumerate(zip(layers, heights, strict=True)):
        y = (tallest - height) // 2 + 2
        for node in layer:
            boxes[node] = (number * (WIDTH + GAP) + 2, y, _height(texts[node]))
            y += boxes[node][2] + AIR
    lines = ""
    for upper, lower in edges:
        x, y, height = boxes[upper]
        to_x, to_y, to_height = boxes[lower]
        start, end = y + height // 2, to_y + to_height // 2
        far = to_x - x - WIDTH
        lines += f"M{x + WIDTH} {start}c{GAP // 2} 0 {far - GAP // 2} {end - start} {far} {end - start}"
    body = f'<path class="edge" d="{lines}"/>'
    for layer in layers:
        for node in layer:
            body += _box(
                node, boxes[node], texts[node], state.get(node, ""), href(node), is_centre=node == centre
            )
    width, height = len(layers) * (WIDTH + GAP) - GAP + 4, tallest + 4
    if more:
        height += LINE + AIR
        body += f'<text y="{height - 6}">And {escape(", ".join(more))}.</text>'
    return (
        f'<svg class="graph" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="group"'
        f' aria-labelledby="{uid}-t {uid}-d"><title id="{uid}-t">{escape(title)}</title>'
        f'<desc id="{uid}-d">{escape(text)}</desc>{body}</svg>'
    )


def _box(
    node: Node,
    box: tuple[int, int, int],
    texts: Sequence[str],
    state: str,
    href: str | None,
    *,
    is_centre: bool,
) -> str:
    x, y, height = box
    kind = " ".join(
        each for each in ("slo" if isinstance(node, str) else "", state, "here" if is_centre else "") if each
    )
    name = f' class="{kind}"' if kind else ""
    lines = "".join(
        f'<text y="{LINE * number + 19}">{escape(line)}</text>' for number, line in enumerate(texts)
    )
    inner = f'<rect width="{WIDTH}" height="{height}"/>{lines}'
    at = f' transform="translate({x} {y})"'
    if href is None or is_centre:
        return f"<g{name}{at}>{inner}</g>"
    return f'<a href="{escape(href)}"{name}{at}>{inner}</a>'


def _height(texts: Sequence[str]) -> int:
    return LINE * len(texts) + 12


@cache
def _broken(text: str) -> tuple[str, ...]:
    """A text in lines that fit into a box: broken between words, and within those that are too long."""
    lines, line, width = [], "", 0.0
    for word in text.split():
        size = _wide(word)
        if line and width + size + 0.6 > LETTERS:
            lines.append(line)
            line, width = "", 0.0
        while size > LETTERS:
            end = len(word)
            while _wide(word[:end]) > LETTERS:
                end -= 1
            lines.append(word[:end])
            word = word[end:]  # noqa: PLW2901 - the rest of it
            size = _wide(word)
        line, width = f"{line} {word}" if line else word, width + size + (0.6 if line else 0)
    return tuple([*lines, line] if line else lines or [""])


def _wide(text: str) -> float:
    """About how wide a text is, in usual letters; rather too wide than too narrow."""
    return sum(
        2.1
        if unicodedata.east_asian_width(sign) in "WF"
        else 1.5
        if sign in "mwMW@%—"
        else 1.3
        if sign.isupper()
        else 0.6
        if sign in " iljtfI.,:;|'!-/()[]"
        else 1.05
        for sign in text
    )


def node_href(node: Node, links: Links) -> str | None:
    """The page of a job or an SLO, where there is one."""
    page = slo_page(node) if isinstance(node, str) else job_page("/".join(node))
    return links(page) if page in links.pages else None
