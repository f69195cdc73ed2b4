"""The engine's part of a tick: states first, then the values that they bear on, each in a savepoint."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg

from pipelines.kpi.engine.clocks import note_clocks
from pipelines.kpi.engine.journal import journal_definitions
from pipelines.kpi.engine.periods import begun_grains
from pipelines.kpi.engine.states import refresh_state
from pipelines.kpi.engine.touched import take_log
from pipelines.kpi.engine.values import refresh_values
from pipelines.kpi.engine.work import Model, TickWindow, Work
from pipelines.logs import get_logger
from pipelines.subject import Publication

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


log = get_logger(__name__)
_NOT_THE_MODELS = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.InsufficientResources,
    psycopg.errors.AdminShutdown,
)


def refresh(connection: Connection, is_rebuild: bool) -> list[Publication]:
    """Bring states and values up to date, within the caller's transaction; what fails stops nothing but itself."""
    models = [
        Model(str(name), str(kind), spec, bool(needs_full), query_is_made=bool(is_made))
        for name, kind, spec, needs_full, is_made in connection.execute(
            "select name, kind, spec, needs_full, query <> '' from kpi.model order by kind, name"
        )
    ]
    kpis = connection.execute("select kpi_id, model, needs_full, is_gone from kpi.kpi").fetchall()
    if not models and not kpis:
        return []
    row = connection.execute(
        # Instants as text: Python has none for -infinity.
        "select tick.as_of::text, engine.as_of::text, tick.high from control.tick cross join kpi.engine"
    ).fetchone()
    if row is None:
        return []
    window = TickWindow(str(row[0]), str(row[1]), int(row[2]), is_rebuild)
    # Compiling such queries takes longer than most of them.
    connection.execute("set local jit = off")
    journal_definitions(connection, window)
    touched, emptied = take_log(connection)
    publications: list[Publication] = []
    failed: dict[str, str] = {}
    for model in models:
        if model.kind == "state" and not model.query_is_made:
            failed[model.name] = "it could not be made"
        elif model.kind == "state":
            model.needs_full |= is_rebuild or bool(emptied & set(model.spec["clocks"]))
            if model.needs_full or touched & set(model.spec["clocks"]):
                problem = _guarded(connection, model.name, refresh_state, model, publications=publications)
                failed |= {model.name: problem} if problem else {}
    begun = begun_grains(connection, models, window)
    for model in models:
        if model.kind != "values" or not model.query_is_made:
            continue
        mine = [
            (str(kpi_id), bool(is_new))
            for kpi_id, name, is_new, is_gone in kpis
            if name == model.name and not is_gone
        ]
        clocks = {each for piece in model.spec["pieces"] for each in piece["clocks"]}
        broken = [piece["state"] for piece in model.spec["pieces"] if piece["state"] in failed]
        if broken:
            _failed(connection, model.name, f"{broken[0]}: {failed[broken[0]]}")
            continue
        is_full = model.needs_full or is_rebuild or bool(emptied & clocks)
        work = Work(
            changed=[kpi_id for kpi_id, is_new in mine if is_new or is_full],
            others=[kpi_id for kpi_id, is_new in mine if not (is_new or is_full)],
            has_begun=any((model.spec["timezone"], grain) in begun for grain in model.spec["opened_by_time"]),
        )
        if mine and (work.changed or touched & clocks or work.has_begun):
            _guarded(connection, model.name, refresh_values, model, work, window, publications=publications)
    if any(is_gone for *_, is_gone in kpis):
        connection.execute(
            "delete from kpi.period_value where kpi_id in (select kpi_id from kpi.kpi where is_gone)"
        )
        connection.execute("delete from kpi.kpi where is_gone")
    is_new = is_rebuild or any(is_full for _, _, is_full, _ in kpis)
    note_clocks(connection, has_slos_changed=is_new or any(name.startswith("marts.slo") for name in touched))
    connection.execute("update kpi.engine set as_of = tick.as_of from control.tick")
    return publications


def _guarded(
    connection: Connection, name: str, work: Any, *arguments: Any, publications: list[Publication]
) -> str | None:
    """Do it in a savepoint; where it fails, nothing of it remains but the problem, and the next tick does all of it."""
    started = time.monotonic()
    try:
        with connection.transaction():
            counts = work(connection, *arguments)
    except psycopg.Error as error:
        # What is wrong with the server, or with this tick as a whole, is nothing of the model's.
        if connection.broken or isinstance(error, _NOT_THE_MODELS):
            raise
        problem = str(error).strip()
        _failed(connection, name, problem)
        return problem
    connection.execute("update kpi.model set problem = null where name = %s and problem is not null", [name])
    if counts is not None:
        publications.append(Publication(name, counts[0], counts[1], time.monotonic() - started))
    return None


def _failed(connection: Connection, name: str, problem: str) -> None:
    """Note that a model could not be computed; it is tried again by every tick, as a whole."""
    told = connection.execute(
        "update kpi.model set needs_full = true, problem = %(problem)s where name = %(name)s"
        " and (not needs_full or problem is distinct from %(problem)s)",
        {"problem": problem, "name": name},
    ).rowcount
    if told:
        log.warning("a KPI model could not be computed", model=name, problem=problem)
    connection.execute("update kpi.kpi set needs_full = true where model = %s", [name])
