"""What the stored catalog says of namespaces: whose they are, and how their runs get a business date."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipelines.catalog.models import STORED, Application, Calendar
from pipelines.slo.lineage.runs import Rule
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[Any]

# Where everything counts, whatever its load.
NEWEST = 2**62


def stored_rules(cursor: Cursor, high: int = NEWEST) -> dict[str, Rule]:
    """The rule of every namespace that an application has, by the catalog of loads up to `high`.

    A retired application keeps its namespaces until another one has them: late events are still read as its own.
    """
    calendars = {
        str(calendar_id): Calendar.model_validate_json(json.dumps(spec), context=STORED)
        for calendar_id, spec in cursor.execute(
            "select distinct on (calendar_id) calendar_id, spec from catalog.calendar_version"
            " where load_id <= %s order by calendar_id, load_id desc",
            [high],
        )
    }
    rules: dict[str, Rule] = {}
    for spec, is_retired in cursor.execute(
        """
        select spec, is_retired from (
            select distinct on (application_id) application_id, spec, is_retired from catalog.application_version
            where load_id <= %s order by application_id, load_id desc
        ) as newest
        order by is_retired, application_id
        """,
        [high],
    ):
        application = Application.model_validate_json(json.dumps(spec), context=STORED)
        for namespace in application.namespace_rules:
            said = namespace.business_date
            rule = Rule(
                application.id,
                application.timezone,
                said.cut_off,
                said.shift if isinstance(said.shift, int) else 0,
                calendars.get(said.calendar) if said.calendar is not None else None,
            )
            if not is_retired or namespace.name not in rules:
                rules[namespace.name] = rule
    return rules


def rule_of(rules: dict[str, Rule]) -> Callable[[str], Rule]:
    """The rule of a namespace; one that no application has is taken for an application itself, in UTC."""
    return lambda namespace: rules.get(namespace) or Rule(namespace)


def stored_applications(settings: Settings) -> dict[str, str]:
    """Application by namespace, of those that stand in the stored catalog."""
    with connect(settings, "ingest") as connection, connection.cursor() as cursor:
        return {namespace: rule.application_id for namespace, rule in stored_rules(cursor).items()}
