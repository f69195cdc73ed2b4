"""What the command line does with incidents: list, acknowledge, silence, replay. Functions give values and texts."""

from __future__ import annotations

import csv
import getpass
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Literal

from psycopg import sql
from psycopg.rows import dict_row

from pipelines.console import safe_line
from pipelines.errors import DuemarkError, nearest
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.evaluate import Line
from sensors.oncall.incidents.facts import Facts, Known
from sensors.oncall.incidents.model import Event, Incident, known_kinds
from sensors.oncall.incidents.notices import Silence
from sensors.oncall.incidents.store import read_incidents, read_silences
from sensors.oncall.incidents.texts import Telling, facts_of

if TYPE_CHECKING:
    import psycopg

    from sensors.oncall.incidents.judge import Judged
    from sensors.oncall.incidents.replay import Replay

Format = Literal["table", "csv", "json"]
Row = dict[str, Any]
# A tick is judged within ten seconds; one that nobody judges for so long, nobody does.
PATIENCE = timedelta(minutes=5)


# Incidents


def incidents(
    settings: Settings,
    *,
    show: Literal["open", "all"] = "open",
    kind: str | None = None,
    application: str | None = None,
    slo: str | None = None,
    limit: int | None = None,
) -> list[Row]:
    """Incidents, the open ones by severity and age, or all from the newest on; the first `limit` of them.

    Raises DuemarkError for a kind, application or SLO that there is not, and never was.

    Each is a dict: incident_id, state (open, acknowledged, grouped, silenced, resolved), severity, title, kind,
    subject, occurrence, application_id, began_at, opened_at, acknowledged_by, resolved_at, resolution,
    grouped_under, grouped (how many are under it), message.
    """
    _refuse_unknown(settings, kind=kind, application=application, slo=slo)
    with connect(settings, "analyst") as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            """
            select
                incident_id,
                case
                    when resolved_at is not null then 'resolved'
                    when cause_incident_id is not null then 'grouped'
                    when acknowledged_at is not null then 'acknowledged'
                    when exists (
                        select from ops.silence
                        where starts_at <= %(now)s and ends_at > %(now)s
                            and (silence.application_id is null or silence.application_id = incident.application_id)
                            and (silence.slo_id is null or silence.slo_id = incident.slo_id)
                            and (silence.kind is null or silence.kind = incident.kind)
                    ) then 'silenced'
                    else 'open'
                end as state,
                severity, title, kind, subject, occurrence, application_id, began_at, opened_at, acknowledged_by,
                resolved_at, resolution, cause_incident_id as grouped_under,
                (
                    select count(*)::integer from ops.incident as child
                    where child.cause_incident_id = incident.incident_id and child.resolved_at is null
                ) as grouped,
                message
            from ops.incident
            where (not %(open)s or resolved_at is null)
                and (%(kind)s::text is null or kind = %(kind)s)
                and (%(application)s::text is null or application_id = %(application)s)
                and (%(slo)s::text is null or slo_id = %(slo)s)
            order by
                case when %(open)s then array_position(array['critical', 'warning', 'info'], severity) end,
                case when %(open)s then incident_id else -incident_id end
            limit %(limit)s
            """,
            {
                "open": show == "open",
                "now": datetime.now(UTC),
                "kind": kind,
                "application": application,
                "slo": slo,
                "limit": limit,
            },
        )
        return cursor.fetchall()


def not_judged(settings: Settings) -> str:
    """Why a list of incidents says nothing of how things stand, and the way out; empty where it does."""
    with connect(settings, "operate") as connection:
        row = connection.execute(
            """
            select
                tick.published_at is not null, evaluation.evaluated_at is not null,
                tick.published_at is distinct from evaluation.published_at
                    and tick.published_at < clock_timestamp() - %(patience)s
            from control.tick as tick, ops.evaluation as evaluation
            """,
            {"patience": PATIENCE},
        ).fetchone()
    has_tick, is_judged, is_behind = row or (False, False, False)
    if not has_tick:
        return "There was no tick yet, so nothing could be judged: `duemark up`, or `duemark tick && duemark judge`."
    if not is_judged:
        return (
            "Nobody has judged the marts yet: `duemark judge` does so once, `duemark up` every ten seconds."
        )
    if is_behind:
        return (
            "Nobody has judged the last tick: this is as of the one before. `duemark judge`, or `duemark up`."
        )
    return ""


# The story of one


@dataclass(frozen=True)
class Story:
    """All that is known of one incident.

    `said`: what a message would say now. `events`: dicts of at, event, to (route), delivery, and what was said.
    `cause`: what it is grouped under; `grouped`: what is open under it. `silences`: those that cover it.
    """

    incident: Incident
    said: str
    events: list[Row]
    cause: Incident | None
    grouped: list[Incident]
    silences: list[Silence]

    def as_dict(self) -> Row:
        """For JSON."""
        one = self.incident
        return facts_of(one) | {
            "severity": one.severity,
            "title": one.title,
            "said": self.said,
            "acknowledged_at": one.acknowledged_at,
            "acknowledged_by": one.acknowledged_by,
            "acknowledged_with": one.acknowledged_with_id,
            "resolved_at": one.resolved_at,
            "cause": None
            if self.cause is None
            else {"incident_id": self.cause.incident_id, "title": self.cause.title},
            "grouped": [{"incident_id": each.incident_id, "title": each.title} for each in self.grouped],
            "silences": [silence_row(each) for each in self.silences],
            "events": self.events,
        }

    def as_text(self, width: int | None = None) -> str:
        """For people."""
        one = self.incident
        state = f"resolved ({one.resolution})" if one.resolved_at is not None else "open"
        lines = [f"{one.incident_id}  {one.title}", f"{one.severity}, {state}", "", self.said, ""]
        lines += [
            f"Silenced until {_short(each.ends_at)} by {each.created_by}: {each.reason}"
            for each in self.silences
        ]
        return "\n".join(lines).rstrip("\n") + "\n\n" + render(self.events, width=width)


def story(settings: Settings, incident_id: int, *, now: datetime | None = None) -> Story:
    """The whole story of one incident: what it is of, who was told what and when, who took it on, how it ended.

    Raises:
        DuemarkError: there is no such incident.
    """
    with connect(settings, "operate") as connection, connection.cursor() as cursor:
        found = read_incidents(cursor, "incident_id = %s", [incident_id])
        if not found:
            raise DuemarkError(
                f"There is no incident {incident_id}.", "`duemark incidents --all` lists them."
            )
        (one,) = found
        cause = read_incidents(cursor, "incident_id = %s", [one.cause_id])
        grouped = read_incidents(cursor, "cause_incident_id = %s and resolved_at is null", [incident_id])
        event: Event = "opened" if one.resolved_at is None else "resolved"
        facts = Known(cursor).facts(found).get(incident_id, Facts())
        telling = Telling(one, event, facts, grouped, cause[0] if cause else None, site=settings.url)
        silences = [each for each in read_silences(cursor) if each.covers(one, now or datetime.now(UTC))]
        return Story(one, telling.body, _events(cursor, one), telling.root, grouped, silences)


def _events(cursor: psycopg.Cursor[Any], one: Incident) -> list[Row]:
    rows = cursor.execute(
        """
        select
            told_at, notice.event, notice.route,
            case
                when undeliverable_at is not null then 'undeliverable'
                when delivered_at is not null
                    then 'delivered ' || to_char(delivered_at at time zone 'UTC', 'HH24:MI"Z"')
                when attempts > 0 then format('refused %%s times: %%s', attempts, last_error)
                else 'waits'
            end,
            title, body
        from ops.notice inner join ops.alert_outbox using (outbox_id)
        where incident_id = %s
        order by outbox_id
        """,
        [one.incident_id],
    ).fetchall()
    events = [_event(one.opened_at, "found", said=f"it holds since {_short(one.began_at)}")]
    if one.acknowledged_at is not None:
        along = f", along with {one.acknowledged_with_id}" if one.acknowledged_with_id else ""
        events.append(_event(one.acknowledged_at, "acknowledged", said=f"by {one.acknowledged_by}{along}"))
    if one.resolved_at is not None:
        events.append(_event(one.resolved_at, "over", said=f"{one.resolution}: {one.message}"))
    # What happened before who was told of it.
    for at, event, route, delivery, title, body in rows:
        changed = next((line for line in body.splitlines() if line.startswith("Changed: ")), "")
        events.append(_event(at, event, route, delivery, changed or title))
    return sorted(events, key=lambda event: event["at"])


def _event(at: datetime, event: str, to: str = "", delivery: str = "", said: str = "") -> Row:
    return {"at": at, "event": event, "to": to, "delivery": delivery, "said": said}


def _refuse_unknown(
    settings: Settings, *, kind: str | None, application: str | None, slo: str | None
) -> None:
    """A misspelled name would match nothing, and nobody would know."""
    if kind is not None and kind not in (known := known_kinds()):
        raise DuemarkError(f"There is no kind of incident {kind!r}.", nearest(kind, known, "the kinds are"))
    with connect(settings, "operate") as connection, connection.cursor() as cursor:
        for what, name, table in (
            ("application", application, "application_version"),
            ("SLO", slo, "slo_version"),
        ):
            if name is not None:
                ids = _ids(cursor, what, table)
                # Before the first load of a catalog nothing is known.
                if ids and name not in ids:
                    hint = nearest(name, ids, f"the {what}s are")
                    raise DuemarkError(f"There is no {what} {name!r}.", hint)


def _ids(cursor: psycopg.Cursor[Any], what: str, table: str) -> set[str]:
    """Names that the catalog has or had, and those that incidents tell of."""
    column = sql.Identifier("application_id" if what == "application" else "slo_id")
    query = sql.SQL("select {0} from {1} union all select {0} from ops.incident where {0} is not null")
    cursor.execute(query.format(column, sql.Identifier("catalog", table)))
    return {str(row[0]) for row in cursor}


def acknowledge(
    settings: Settings, incident_id: int, *, by: str | None = None, now: datetime | None = None
) -> Row:
    """Note that somebody has taken an open incident on; it is not repeated or escalated any more.

    What is grouped under it and was told, by itself or in a message of this one, is acknowledged along with it, as long
    as it stays in the group. What joins later is told. Returns its row. Idempotent: who was first stays.

    Raises:
        DuemarkError: there is no such incident, or it is over.
    """
    who = by or getpass.getuser()
    with connect(settings, "operate") as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            """
            update ops.incident as one set
                acknowledged_at = %(now)s, acknowledged_by = %(who)s,
                acknowledged_with_id = nullif(%(id)s::bigint, incident_id)
            where resolved_at is null and (
                incident_id = %(id)s and (acknowledged_at is null or acknowledged_with_id is not null)
                or cause_incident_id = %(id)s and acknowledged_at is null
                and exists (
                    select from ops.notice inner join ops.alert_outbox as message using (outbox_id)
                    where notice.incident_id = one.incident_id and message.undeliverable_at is null
                )
            )
            """,
            {"id": incident_id, "who": who, "now": now or datetime.now(UTC)},
        )
        row = cursor.execute("select * from ops.incident where incident_id = %s", [incident_id]).fetchone()
        if row is None:
            raise DuemarkError(
                f"There is no incident {incident_id}.", "`duemark incidents` lists what is open."
            )
        if row["resolved_at"] is not None:
            raise DuemarkError(
                f"Incident {incident_id} is over ({row['resolution']}, {row['resolved_at']:%Y-%m-%d %H:%M} UTC).",
                "There is nothing to acknowledge.",
            )
        return row


# Silences


def silence(
    settings: Settings,
    *,
    reason: str,
    application: str | None = None,
    slo: str | None = None,
    kind: str | None = None,
    everything: bool = False,
    start: datetime | None = None,
    end: datetime | None = None,
    duration: timedelta | None = None,
    by: str | None = None,
    now: datetime | None = None,
) -> Silence:
    """Keep what matches from being told, from `start` (default: now) to `end`, or for `duration`.

    All that is given has to match. Incidents are kept all the same, and what is still open at the end is told then.

    Raises:
        DuemarkError: nothing to match (and not `everything`), a name that there is not, no end, an end in the past,
            no reason.
    """
    moment = now or datetime.now(UTC)
    begins = start or moment
    if not everything and application is None and slo is None and kind is None:
        raise DuemarkError(
            "A silence needs something to match.",
            "Name an application, an SLO or a kind, or say that it is for all.",
        )
    if not reason.strip():
        raise DuemarkError(
            "A silence needs a reason.", "Say why, for whoever wonders why nobody was notified."
        )
    if (end is None) == (duration is None):
        raise DuemarkError("A silence needs one end.", "Give until when, or for how long, such as 2h.")
    ends = end if end is not None else begins + (duration or timedelta())
    if begins.tzinfo is None or ends.tzinfo is None:
        raise DuemarkError("The moments of a silence need an offset.", "Write 2026-03-02T18:00:00Z.")
    if ends <= begins or ends <= moment:
        raise DuemarkError(
            f"The silence would be over at {ends.isoformat()}.", "Give an end that is yet to come."
        )
    _refuse_unknown(settings, kind=kind, application=application, slo=slo)
    with connect(settings, "operate") as connection, connection.cursor() as cursor:
        cursor.execute(
            "insert into ops.silence (application_id, slo_id, kind, starts_at, ends_at, reason, created_by, created_at)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s) returning silence_id",
            [application, slo, kind, begins, ends, reason.strip(), by or getpass.getuser(), moment],
        )
        row = cursor.fetchone()
        return read_silences(cursor, "silence_id = %(id)s", {"id": row[0] if row else None})[0]


def silences(settings: Settings, *, now: datetime | None = None) -> list[Silence]:
    """Silences that last, or are yet to begin."""
    with connect(settings, "operate") as connection, connection.cursor() as cursor:
        return read_silences(cursor, "ends_at > %(now)s", {"now": now or datetime.now(UTC)})


def end_silence(settings: Settings, silence_id: int, *, now: datetime | None = None) -> Silence:
    """End a silence now; one that has not begun ends as it begins.

    Raises:
        DuemarkError: there is no such silence, or it is over.
    """
    moment = now or datetime.now(UTC)
    with connect(settings, "operate") as connection, connection.cursor() as cursor:
        cursor.execute(
            "update ops.silence set ends_at = greatest(%(now)s, starts_at + interval '1 microsecond')"
            " where silence_id = %(id)s and ends_at > %(now)s",
            {"id": silence_id, "now": moment},
        )
        if not cursor.rowcount:
            raise DuemarkError(
                f"There is no silence {silence_id} that lasts.",
                "`duemark silence` shows those that do.",
            )
        return read_silences(cursor, "silence_id = %(id)s", {"id": silence_id})[0]


def silence_row(one: Silence) -> Row:
    """A silence as a dict, for `render`."""
    return {
        "silence_id": one.silence_id,
        "application_id": one.application_id,
        "slo_id": one.slo_id,
        "kind": one.kind,
        "starts_at": one.starts_at,
        "ends_at": one.ends_at,
        "reason": one.reason,
        "created_by": one.created_by,
    }


# Replay


def replay_days(settings: Settings, first: date, last: date) -> Replay:
    """What the rules would have sent from the begin of `first` to the end of `last`, both UTC dates.

    Raises:
        DuemarkError: `last` is before `first`, or the routes have problems.
    """
    from sensors.oncall.incidents.replay import replay

    end = datetime.combine(last, time(), UTC) + timedelta(days=1)
    return replay(settings, datetime.combine(first, time(), UTC), end)


def replay_rows(result: Replay, *, detail: bool = False) -> list[Row]:
    """Counts by route and event, or with `detail` every message in its order, as dicts for `render`."""
    if detail:
        return [
            {
                "at": one.at,
                "route": one.route,
                "event": one.event,
                "severity": one.severity,
                "kinds": " ".join(one.kinds),
                "title": one.title,
            }
            for one in result.sent
        ]
    days = max(1.0, (result.end - result.start) / timedelta(days=1))
    return [
        {"route": route, "event": event, "messages": count, "per_day": round(count / days, 2)}
        for (route, event), count in sorted(result.counts().items())
    ]


def replayed_risks(result: Replay) -> str:
    """How many warnings there would have been, and how many were right, as a sentence."""
    warned, right = result.risks
    return (
        f"At risk by the forecasts as they were made 120, 60, 30 and 10 minutes before the due time: {warned}"
        f" occurrences; {right} of them were missed."
    )


# A look


def render_lines(lines: Sequence[Line], output: Format = "table", *, is_safe: bool = False) -> str:
    """What a look told, one line an incident and route; a CSV has its header even when nobody was told."""
    if output == "csv" and not lines:
        return ",".join(Line._fields) + "\n"
    return render([one._asdict() for one in lines], output, is_safe=is_safe)


def judged(done: Judged) -> str:
    """What a look did, in words for people."""
    summary, sent = done.summary, done.delivery
    if summary.as_of is None:
        said = ["nothing was judged: there was no tick yet, `duemark tick` does one"]
    else:
        as_of = summary.as_of.isoformat()
        did = f"{summary.opened} opened, {summary.resolved} closed, {summary.messages} messages"
        said = [f"judged the marts as of {as_of}: {did}"]
    said.append(f"{sent.delivered} delivered, {sent.failed} refused, {sent.pending} waiting")
    said += [f"the routes that were stored before stand: {problem}" for problem in summary.problems]
    return "\n".join(said)


# Output


# What a table of incidents shows; CSV and JSON have everything.
INCIDENT_COLUMNS = (
    "incident_id",
    "state",
    "severity",
    "title",
    "began_at",
    "acknowledged_by",
    "resolution",
    "grouped_under",
    "message",
)
_LONG = frozenset({"title", "message", "reason", "said", "delivery"})


def render(
    rows: Sequence[Row],
    output: Format = "table",
    *,
    columns: Sequence[str] = (),
    width: int | None = None,
    is_safe: bool = False,
) -> str:
    """Rows as a table for people, as CSV, or as a JSON list; ends with a newline. An empty table says so.

    `columns`: those that a table shows, if they hold anything; default: all. `width` in characters.
    `is_safe`: a CSV has no formulas for a spreadsheet.
    """
    if output == "json":
        return as_json(rows)
    if output == "csv":
        lines = io.StringIO()
        if rows and is_safe:
            lines.write(safe_line(rows[0]))
            lines.writelines(safe_line(_text(value) for value in row.values()) for row in rows)
        elif rows:
            writer = csv.DictWriter(lines, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows([{name: _plain(value) for name, value in row.items()} for row in rows])
        return lines.getvalue()
    if not rows:
        return "nothing\n"
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [name for name in columns or rows[0] if any(row[name] not in {None, ""} for row in rows)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in shown:
        table.add_column(
            name.removesuffix("_id").replace("_", " "), no_wrap=name not in _LONG, overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(_short(row[name])) for name in shown))
    text = io.StringIO()
    Console(file=text, width=width or 160).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n") + "\n"


def as_json(value: object) -> str:
    """Rows, or one, as JSON."""
    return json.dumps(value, default=_plain, indent=2, ensure_ascii=False) + "\n"


def _text(value: object) -> str | None:
    return None if value is None else str(_plain(value))


def _plain(value: object) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return "" if value is None else value


def _short(value: object) -> str:
    if value is None:
        return ""
    return f"{value:%Y-%m-%d %H:%M}Z" if isinstance(value, datetime) else str(value)
