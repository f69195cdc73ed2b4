"""`duemark sql` as an analyst meets it: what there is to ask, what was meant, how durations look."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from pipelines.cli import main
from pipelines.warehouse.settings import Settings
from tests.docs.conftest import Ask, page

Run = Callable[..., Result]


@pytest.fixture
def run(demonstration: Ask, empty: Settings) -> Run:
    def sql(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["sql", *arguments], env=dict(empty.as_env()))

    return sql


def test_alone_it_lists_every_mart_by_subject(run: Run) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    documented = set(
        re.findall(r"^### (\w+)$", page("docs/marts.md").partition("\n### Incidents")[0], re.MULTILINE)
    )
    listed = dict(re.findall(r"^  (\w+)  +(\S.*)$", done.stdout, re.MULTILINE))
    assert set(listed) == documented
    assert listed["slo_late"] == "What is late, or will be"
    assert re.findall(r"^(\w+):$", done.stdout, re.MULTILINE)[:2] == ["slo", "catalog"]
    assert "ops.incident, ops.open_incident" in " ".join(done.stdout.split())
    assert not re.search(r"^   ", done.stdout, re.MULTILINE), "each has a line"
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_list_for_other_tools(run: Run) -> None:
    rows = json.loads(run("--format", "json").stdout)
    assert {
        "subject": "catalog",
        "mart": "job_dependency",
        "answers": "What waits for what, over any number of steps",
    } in rows
    assert run("--format", "csv").stdout.splitlines()[0] == "subject,mart,answers"


@pytest.mark.parametrize("query", ["", "  ", ";", "/* nothing */"])
def test_an_empty_question_is_refused(run: Run, query: str) -> None:
    done = run(query)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "duemark: The question is empty.",
        '  Ask one: duemark sql "select * from slo_late"; `duemark sql` alone lists the marts.',
    ]


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("select * from slo_lat", "Did you mean `slo_late`?"),
        ("select * from marts.SLO_Performence", "Did you mean `slo_performance`?"),
        ("select * from incident", "Did you mean `ops.incident`?"),
        ("select * from ops.incidents", "Did you mean `ops.incident`?"),
        ("select late from slo_late", "Did you mean `late_by`?"),
        ("select owners from slo_late", 'Perhaps you meant to reference the column "slo_late.owner".'),
        ("select zzz from tick", "Columns of tick: as_of, high, is_rebuild_due, published_at"),
        ("select * from nothing_like_it", "`duemark sql` alone lists the marts; the first `duemark tick` makes them."),
    ],
)  # fmt: skip
def test_what_was_meant(run: Run, query: str, meant: str) -> None:
    done = run(query)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[1].strip() == meant


def test_a_name_in_a_schema_that_no_analyst_reads_is_not_guessed(run: Run) -> None:
    done = run("select * from raw.job_status")
    assert (done.exit_code, "id you mean" in done.stderr) == (2, False)


def test_durations_are_shown_to_the_second_and_exported_whole(run: Run) -> None:
    query = "select interval '1 day 01:02:03.456789' as one, array[interval '-00:00:01.5'] as many, 0.25 as number"
    assert run(query).stdout.splitlines()[2].split() == ["1", "day", "01:02:03", "{-00:00:01}", "0.25"]
    assert run(query, "--format", "csv").stdout.splitlines()[1] == "1 day 01:02:03.456789,{-00:00:01.5},0.25"
    assert json.loads(run(query, "--format", "json").stdout)[0]["one"] == "1 day 01:02:03.456789"
