"""Bad definitions and what is said of them; and what becomes of KPIs that cannot be computed."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from structlog.testing import capture_logs

from pipelines.catalog.read import CatalogError
from pipelines.copies.refresh import ensure, refresh_now
from pipelines.kpi.compile.files import compile_kpis
from pipelines.kpi.definitions.check import Checked, check, resolved
from pipelines.kpi.expressions import ALLOWED
from pipelines.kpi.model import Kpis
from pipelines.processes.status import PartStatus, report
from pipelines.warehouse.settings import Settings
from tests.docs.conftest import blocks, page
from tests.transform.support import Warehouse
from tests.transform.test_golden import CATALOG, CHARGE, HEADER

SOUND = """\
kpis:
  - id: share
    category: performance
    description: A share.
    formula:
      type: composite
      expression: good / due
      variables:
        good:
          source: {table: marts.slo_performance, aggregation: count}
          time_column: business_date
          filters: ["outcome = 'on_time'"]
          dimensions: {application: application_id}
        due:
          source: {table: marts.slo_performance, aggregation: count}
          time_column: business_date
          dimensions: {application: application_id}
    aggregations: [day, week]
    dimensions: [application]
    schedule: {timezone: America/New_York}
    thresholds: {warning: 0.95, critical: 0.9, direction: lower}
"""
DATABASES = """\
databases:
  - id: shop
    url_env: TEST_SHOP_URL
    timeout: 1s
    every: 1s
    tables:
      orders: {key: [id]}
"""
OF_OTHERS = """\
  - id: {id}
    category: custom
    description: Made of others.
    formula: {{type: composite, expression: "{expression}", variables: {{{variables}}}}}
    aggregations: [day]
    dimensions: [application]
"""
Check = Callable[..., Checked]


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Check a file `a.yml` of KPIs, beside a database that nobody can reach."""
    monkeypatch.delenv("TEST_SHOP_URL", raising=False)
    (tmp_path / "kpis").mkdir()
    (tmp_path / "databases.yml").write_text(DATABASES, "utf-8")
    settings = replace(Settings.from_env({}), home=tmp_path, catalog=tmp_path)

    def ask(text: str, *, of: Settings = settings) -> Checked:
        (tmp_path / "kpis" / "a.yml").write_text(text, "utf-8")
        return check(of)

    return ask


def said(checked: Checked) -> list[str]:
    return [str(problem)[len(str(Path(problem.file).parent)) + 1 :] for problem in checked.problems]


def cases() -> list[Any]:
    """Name, edits and what is said, of each chapter of bad_definitions.txt."""
    found = []
    text = Path(__file__).with_name("bad_definitions.txt").read_text("utf-8")
    for chapter in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        name, *lines = chapter.rstrip("\n").split("\n")
        edits: list[tuple[list[str], list[str]]] = []
        problems: list[str] = []
        for line in lines:
            if line.startswith("- "):
                if not edits or edits[-1][1]:
                    edits.append(([], []))
                edits[-1][0].append(line[2:])
            elif line.startswith("+ "):
                edits[-1][1].append(line[2:])
            elif line.startswith("    "):
                problems[-1] += "\n" + line.replace("{allowed}", ALLOWED)
            else:
                problems.append(line)
        found.append(pytest.param(edits, problems, id=name))
    return found


def spoiled(edits: Sequence[tuple[Sequence[str], Sequence[str]]]) -> str:
    text = SOUND
    for before, after in edits:
        assert "\n".join(before) in text
        text = text.replace("\n".join(before), "\n".join(after), 1)
    return text


def test_the_sound_one_is_sound(checked: Check) -> None:
    found = checked(SOUND)
    assert (said(found), found.warnings, list(found.kpis)) == ([], [], ["share"])


@pytest.mark.parametrize(("edits", "problems"), cases())
def test_all_that_is_wrong_is_said_with_its_place_and_the_way_out(
    checked: Check, edits: list[tuple[list[str], list[str]]], problems: list[str]
) -> None:
    found = checked(spoiled(edits))
    assert said(found) == problems
    assert all(problem.hint for problem in found.problems)


def test_everything_is_said_at_once(checked: Check) -> None:
    text = SOUND.replace("good / due", "good / dou + sqrt(good)").replace("[day, week]", "[day, weak]")
    text = text.replace("aggregation: count}", "aggregation: total}", 1)
    assert said(checked(text + OF_OTHERS.format(id="More", expression="x", variables="x: {kpi: share}"))) == [
        "a.yml:7:26: kpis[0].formula.expression: there is no variable `dou`\n    did you mean `due`?",
        f"a.yml:7:32: kpis[0].formula.expression: the function `sqrt` is not on the list\n    {ALLOWED}",
        (
            'a.yml:10: kpis[0].formula.variables.good.source.aggregation: unknown aggregation "total"\n'
            "    expected one of: sum, count, count_distinct, avg, min, max, median, or p1 to p99"
        ),
        "a.yml:18: kpis[0].aggregations[1]: unknown value weak\n    did you mean `week`?",
        (
            'a.yml:22: kpis[1].id: "More" is no id of this kind\n'
            "    small letters, digits, `-` and `_`, at most 60: it is part of file names and addresses"
        ),
    ]


def test_variables_as_a_list_are_judged_like_a_map(checked: Check) -> None:
    text = SOUND.replace("        good:\n  ", "        - name: good\n  ").replace(
        "due:\n  ", "- name: due\n  "
    )
    assert said(checked(text)) == []
    assert said(checked(text.replace("time_column: business_date", "time_column: at", 1)))[0].startswith(
        "a.yml:11: kpis[0].formula.variables.good.time_column: there is no column `at`\n"
    )


def test_an_id_and_a_number_belong_to_one(checked: Check) -> None:
    twice = SOUND + SOUND.partition("\n")[2]
    assert said(checked(twice)) == [
        (
            "a.yml:22: kpis[1].id: the KPI `share` is declared twice, first in "
            f"{checked(twice).problems[0].file}:2\n    remove one of them, or give it another id"
        ),
    ]
    one, other = (SOUND.replace("id: share", f"id: {name}\n    number: 2500") for name in ("one", "other"))
    (problem,) = said(checked(one + other.partition("\n")[2]))
    assert problem.startswith("a.yml:24: kpis[1].number: the number 2500 is declared twice, first in ")
    assert problem.endswith("a.yml:2\n    give one of them another number")


def test_a_cycle_is_told_once_and_what_hangs_on_it_not_at_all(checked: Check) -> None:
    links = {"a": "b", "b": "c", "c": "a", "d": "a"}
    text = "kpis:\n" + "".join(
        OF_OTHERS.format(id=one, expression="x", variables=f"x: {{kpi: {other}}}")
        for one, other in links.items()
    )
    found = checked(text)
    assert said(found) == [
        (
            "a.yml:5: kpis[0].formula.variables.x.kpi: KPIs that are made of each other: a → b → c → a\n"
            "    an arrow points to what the KPI is made of; take one of them from a source"
        ),
    ]
    assert found.kpis == {}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("x: {kpi: share, time_column: y}", "`time_column` beside `kpi`"),
        ("x: {kpi: shares}", "there is no KPI `shares`"),
        ("x: {}", "neither a source nor a KPI"),
    ],
)
def test_a_variable_that_is_a_kpi(checked: Check, other: str, message: str) -> None:
    (problem,) = said(checked(SOUND + OF_OTHERS.format(id="more", expression="x", variables=other)))
    assert message in problem


def test_what_is_wrong_with_a_kpi_is_not_told_of_those_that_use_it(checked: Check) -> None:
    text = SOUND.replace("good / due", "good / dew") + OF_OTHERS.format(
        id="more", expression="x", variables="x: {kpi: share}"
    )
    found = checked(text)
    assert len(found.problems) == 1
    assert found.kpis == {}
    regional = SOUND + OF_OTHERS.format(id="more", expression="x", variables="x: {kpi: share}").replace(
        "[application]", "[application, region]"
    )
    (problem,) = said(checked(regional))
    assert problem.startswith("a.yml:25: kpis[1].formula.variables.x.kpi: `share` does not fit here: ")


def test_variables_of_other_kpis_keep_apart(checked: Check) -> None:
    long = "a_rather_long_name_of_a_variable_"
    text = SOUND.replace("good", f"{long}this").replace("due", f"{long}that")
    text += OF_OTHERS.format(
        id="more", expression=f"{long}more - a__b * a",
        variables=f"{long}more: {{kpi: share}}, a: {{kpi: x}}, a__b: {{kpi: x}}",
    )  # fmt: skip
    text += SOUND.partition("\n")[2].replace("id: share", "id: x").replace("good", "b").replace("due", "b__b")
    found = checked(text)
    assert said(found) == []
    names = [variable.name for variable in found.kpis["more"].variables]
    assert len(set(names)) == len(names) == 6
    assert all(len(name) <= 63 for name in names)
    assert set(re.findall(r'"([^"]+)"', found.kpis["more"].expression)) == set(names)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kpi:\n  - id: a\n", "a.yml:1: kpi: unknown key `kpi`"),
        ("kpis:\n  id: a\n", "a.yml:1: kpis: expected a list"),
        ("hello\n", "a.yml:1: expected the key `kpis`"),
        ("kpis:\n  - hello\n", "a.yml:2: kpis[0]: "),
        ("kpis: [\n", "a.yml:2: not valid YAML: "),
    ],
)
def test_a_file_that_holds_no_kpis(checked: Check, text: str, problem: str) -> None:
    (found,) = said(checked(text))
    assert found.startswith(problem)


HARMLESS = {
    "comments": ("good -- all of them\n        / /* those */ due", '("good"::numeric / nullif("due", 0))'),
    "quoted": ('"good" / "due"', '("good"::numeric / nullif("due", 0))'),
    "case": ("GOOD / Due", '("good"::numeric / nullif("due", 0))'),
    "brackets": ("((good)) - (due)", '("good" - "due")'),
    "null": ("coalesce(good, due, null) - null", '(coalesce("good", "due", null) - (null)::numeric)'),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_only_what_was_understood_is_written(checked: Check, name: str) -> None:
    text, sql = HARMLESS[name]
    found = checked(SOUND.replace("expression: good / due", f"expression: |\n        {text}"))
    assert said(found) == []
    assert found.kpis["share"].expression == sql


def test_a_variable_that_is_called_like_a_word(checked: Check) -> None:
    text = SOUND.replace("        due:", "        case:")
    (problem,) = said(checked(text.replace("good / due", "good / case")))
    assert problem.endswith(
        ': this cannot be read as SQL\n    check brackets, commas and operators; write the variable `case` as "case"'
    )
    assert said(checked(text.replace("good / due", "'good / \"case\"'"))) == []


def test_texts_cannot_break_out(checked: Check) -> None:
    values = [
        "it's",
        "'; drop table raw.load; --",
        "{{ env_var('HOME') }}",
        "{% raw %}",
        "\\'",
        "größe",
        "$$",
    ]
    listed = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    as_text = SOUND.replace(
        "\"outcome = 'on_time'\"", '"' + f"outcome in ({listed})".replace("\\", "\\\\") + '"'
    )
    as_value = SOUND.replace(
        "[\"outcome = 'on_time'\"]",
        "[{column: outcome, op: in, value: [" + ", ".join(map(repr, values)) + "]}]",
    )
    for text in (as_text, as_value.replace('"it\'s"', "it's").replace("\"'; drop", "\"'; drop")):
        found = checked(text)
        assert said(found) == []
        condition = found.kpis["share"].variables[0].condition
        assert "{{" not in condition
        assert "{%" not in condition
        files = compile_kpis(Kpis(found.kpis))
        outside = re.sub(r"E?'(?:[^']|'')*'", "", "".join(files.values()))
        assert "drop table" not in outside


def test_columns_of_any_name_in_a_condition(checked: Check, tmp_path: Path) -> None:
    (tmp_path / "copies.json").write_text(
        '{"shop_orders": [["id", "bigint"], ["Größe", "text"], ["a\\"b", "text"], ["at", "date"]]}', "utf-8"
    )
    text = SOUND.replace("{table: marts.slo_performance", "{database: shop, table: orders").replace(
        "business_date", "at"
    )
    text = text.replace("application_id", "id").replace(
        "[\"outcome = 'on_time'\"]", "['\"Größe\" = ''x''', '\"a\"\"b\" is null', 'größe <> ''y''']"
    )
    found = checked(text)
    assert said(found) == []
    condition = '("Größe" = \'x\') and ("a""b" is null) and ("Größe" <> \'y\')'
    assert found.kpis["share"].variables[0].condition == condition


def documented() -> dict[str, list[Any]]:
    """KPIs and databases of the examples in docs/kpis.md."""
    found: dict[str, list[Any]] = {"kpis": [], "databases": []}
    for block in blocks(page("docs/kpis.md"), "yaml"):
        for kind, listed in YAML(typ="safe").load(block).items():
            found[kind] += listed
    return found


def test_the_examples_of_the_documentation_can_be_computed(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / "ledger.db"
    monkeypatch.setenv("LEDGER_DB_URL", f"sqlite:///{ledger}")
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute(
            "create table bookings (id integer primary key, amount numeric(12, 2), booked_on date, updated_at datetime)"
        )
        connection.execute("insert into bookings values (1, 99.5, '2026-03-02', '2026-03-02')")
    examples = documented()
    warehouse.write_catalog(examples)
    ensure(warehouse.settings)
    found = check(warehouse.settings)
    assert (said(found), found.warnings) == ([], [])
    assert list(found.kpis) == sorted(kpi["id"] for kpi in examples["kpis"])
    warehouse.tick("2026-03-03 12:00")
    assert warehouse.query("select name, problem from kpi.model where problem is not null") == []
    assert warehouse.query("select kpi_id from kpi.kpi where needs_full") == []
    assert [row["kpi_id"] for row in warehouse.query("select kpi_id from kpi.kpi order by 1")] == list(
        found.kpis
    )
    # Booked, and no run: a value that says why there is none.
    rows = warehouse.query(
        "select components, value, reason, provisional from marts.kpi_value where kpi_id = 'cost-of-a-run'"
    )
    assert [tuple(row.values()) for row in rows] == [({"runs": None, "booked": 99.5}, None, "no rows", True)]


SHOP = """\
databases:
  - id: shop
    url_env: SHOP_URL
    timeout: 5s
    tables:
      orders: {key: [id], cursor: changed_at}
"""
SAME = "declare it under a database with another id; the same URL may stand twice"
BAD_DATABASES = {
    "SHOP_URL -> postgresql://me:secret@host/shop": "3: databases[0].url_env: a URL is no name of a variable\n"
    "    the name of an environment variable, such as PAYMENTS_DB_URL; never the URL itself",
    "id: shop -> id: warehouse": "2: databases[0].id: `warehouse` is the warehouse itself\n    give it another id",
    "[id] -> []": "6: databases[0].tables.orders.key: no key\n"
    "    name the columns that tell its rows apart, such as [id]",
    "key: [id], -> ": "6: databases[0].tables.orders.key: `key` is missing\n"
    "    add `key`: the columns that tell its rows apart",
    "changed_at -> changed_at, columns: [id]": "6: databases[0].tables.orders.columns: `changed_at` is not among them\n"
    "    the key and the cursor are copied in any case: add it",
    "cursor: changed_at -> cursor: 'a b'": '6: databases[0].tables.orders.cursor: "a b" is no name of a column\n'
    "    write one column's name, no expression",
    "cursor: -> cursr:": "6: databases[0].tables.orders.cursr: unknown key `cursr`\n    did you mean `cursor`?",
    "orders: -> 'orders; drop table x':": "6: databases[0].tables.orders; drop table x:"
    ' "orders; drop table x" is no name of a table\n    write `table` or `schema.table`',
    "timeout: 5s -> timeout: 0s": "4: databases[0].timeout: a timeout of 0s\n    1s to 1h",
    "timeout: 5s -> timezone: Mars/Olympus": '4: databases[0].timezone: "Mars/Olympus" is no time zone\n'
    "    expected an IANA zone, such as America/New_York or UTC",
    "    tables: -> \n    tables:\n      Orders: {key: [id]}": "7: databases[0].tables.orders:"
    f" its copy would have the name of the copy of `Orders` of `shop`\n    {SAME}",
    "  - id: shop -> \n  - {id: sho, url_env: A, tables: {p.orders: {key: [id]}}}\n  - id: sho-p": "7: databases[1]"
    f".tables.orders: its copy would have the name of the copy of `p.orders` of `sho`\n    {SAME}",
}


@pytest.mark.parametrize("edit", BAD_DATABASES)
def test_a_database_that_is_not_sound(checked: Check, tmp_path: Path, edit: str) -> None:
    before, _, after = edit.partition(" -> ")
    assert before in SHOP
    (tmp_path / "databases.yml").write_text(SHOP.replace(before, after.removeprefix("\n")), "utf-8")
    assert said(checked("")) == [f"databases.yml:{BAD_DATABASES[edit]}"]


# What cannot be looked at, or not computed


def test_a_database_that_is_down_is_told_once_for_all_its_kpis(
    checked: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SOUND + SOUND.partition("\n")[2].replace("id: share", "id: sold").replace(
        "{table: marts.slo_performance", "{database: shop, table: orders"
    )
    text += OF_OTHERS.format(id="more", expression="x", variables="x: {kpi: sold}")
    found = checked(text)
    assert said(found) == []
    assert list(found.kpis) == ["share"]
    assert found.warnings == [
        (
            f"{tmp_path}/kpis/a.yml:30: sold, more of the database `shop`: TEST_SHOP_URL is not set\n"
            "    left out until it can be read; set TEST_SHOP_URL to its URL"
        ),
    ]
    monkeypatch.setenv("TEST_SHOP_URL", f"sqlite:///{tmp_path}/shop.db")
    (warning,) = checked(text).warnings
    assert f": there is no file {tmp_path}/shop.db\n" in warning
    settings = replace(Settings.from_env({}), home=tmp_path, catalog=tmp_path)
    with capture_logs() as logs:
        assert list(resolved(settings).kpis) == ["share"]
        assert list(resolved(settings).kpis) == ["share"]
    assert [(one["event"], one["database"], one["kpis"]) for one in logs] == [
        ("KPIs wait for a database", "shop", ["sold", "more"])
    ]


def test_definitions_with_problems_are_not_resolved(checked: Check, tmp_path: Path) -> None:
    assert checked(SOUND.replace("good / due", "good")).problems
    with pytest.raises(CatalogError, match="the variable `due` is not used"):
        resolved(replace(Settings.from_env({}), home=tmp_path, catalog=tmp_path))


def orders(path: Path, *rows: tuple[int, str, int]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "create table if not exists orders (id integer primary key, at date, amount integer)"
        )
        connection.executemany("insert into orders values (?, ?, ?)", rows)


def test_a_database_that_fails_makes_its_kpi_stale_and_no_other(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = tmp_path / "shop.db"
    monkeypatch.setenv("TEST_SHOP_URL", f"sqlite:///{shop}")

    def kpi(kpi_id: str, expression: str, column: str, at: str, **source: str) -> Mapping[str, Any]:
        total = {"source": {"aggregation": "sum", "column": column, **source}, "time_column": at}
        count = {
            "source": {"aggregation": "count", **source},
            "time_column": at,
            "filters": [f"{column} <> 0"],
        }
        formula = {"type": "composite", "expression": expression, "variables": {"total": total, "n": count}}
        return {
            "id": kpi_id, "category": "custom", "description": "x", "formula": formula, "aggregations": ["day"],
        }  # fmt: skip

    sold = kpi("sold", "total / n", "amount", "at", database="shop", table="orders")
    kept = kpi("kept", "total + n", "value", "hour_at", table="marts.indicator_record")
    database = {
        "id": "shop",
        "url_env": "TEST_SHOP_URL",
        "every": "1s",
        "tables": {"orders": {"key": ["id"]}},
    }
    warehouse.write_catalog({"kpis": [sold, kept], "databases": [database]})

    def values(kpi_id: str) -> dict[str, tuple[Any, ...]]:
        rows = warehouse.query(
            "select period, value::text as value, reason, provisional from marts.kpi_value where kpi_id = %s",
            kpi_id,
        )
        return {row["period"]: (row["value"], row["reason"], row["provisional"]) for row in rows}

    def error() -> str | None:
        rows = warehouse.query("select error from copies.state where database_id = 'shop'")
        return str(rows[0]["error"]) if rows and rows[0]["error"] else None

    # Not there from the beginning: the other one is computed all the same.
    warehouse.tick("2026-03-03 12:00")
    assert warehouse.query("select kpi_id from kpi.kpi order by kpi_id") == [{"kpi_id": "kept"}]
    assert error() == f"there is no file {shop}"

    # It comes: a day without a row that counts has no value, and says why.
    orders(shop, (1, "2026-03-01", 10), (2, "2026-03-01", 5), (3, "2026-03-02", 0))
    refresh_now(warehouse.settings)
    warehouse.tick("2026-03-03 12:01")
    assert {key: one[:2] for key, one in values("sold").items()} == {
        "2026-03-01": ("7.5000000000000000", None),
        "2026-03-02": (None, "division by zero"),
    }
    before = values("sold")

    # It goes: what was known stands, and the tick goes on.
    shop.unlink()
    refresh_now(warehouse.settings)
    warehouse.tick("2026-03-05 12:00")
    assert error() == f"there is no file {shop}"
    assert values("sold") == before

    # It comes back, changed.
    orders(shop, (1, "2026-03-01", 10), (4, "2026-03-04", 8))
    refresh_now(warehouse.settings, compare=True)
    warehouse.tick("2026-03-05 12:01")
    assert error() is None
    assert {key: one[0] for key, one in values("sold").items()} == {
        "2026-03-01": "10.0000000000000000",
        "2026-03-04": "8.0000000000000000",
    }


NAMES = (
    "grain", "period_start", "period_end", "dimensions", "value", "a0", "a1", "r0", "s", "p", "k", "v", "bucket_at",
    "kpi_id", "components", "select", "order", "d_x", "cells_0",
)  # fmt: skip


def test_dimensions_and_variables_may_have_any_name(warehouse: Warehouse) -> None:
    def variable(name: str, how: str, **more: Any) -> dict[str, Any]:
        source = {"table": "job_run", "aggregation": how} | (
            {"column": "duration"} if how == "median" else {}
        )
        return {
            "source": source,
            "time_column": "first_status_at",
            "dimensions": {name: "application_id"},
            **more,
        }

    kpis = [
        {
            "id": name.replace("_", "-"), "category": "custom", "description": "x", "aggregations": ["hour", "day"],
            "dimensions": [name],
            "formula": {
                "type": "composite",
                "expression": f'"{name}" + coalesce(middle, 0) - standing',
                "variables": {
                    name: variable(name, "count"),
                    "middle": variable(name, "median"),
                    "standing": variable(name, "count", kind="snapshot"),
                },
            },
        }
        for name in NAMES
    ]  # fmt: skip
    warehouse.write_catalog({**CATALOG, "kpis": kpis})
    warehouse.ingest(
        HEADER + CHARGE.format("START", "01:00:00", "r,h") + CHARGE.format("SUCCEED", "02:00:00", "r,h")
    )
    warehouse.tick("2026-03-04 12:00")
    assert warehouse.query("select name, problem from kpi.model where problem is not null") == []
    rows = warehouse.query(
        "select kpi_id, dimension_key, value::integer as value from marts.kpi_value where grain = 'day'"
        " and period = '2026-03-03' order by dimension_key"
    )
    members = {name: f'{{"{name}": "overdrafts"}}' for name in NAMES}
    expected = {(name.replace("_", "-"), key) for name in NAMES for key in ("", members[name])}
    assert {(row["kpi_id"], row["dimension_key"]) for row in rows} == expected
    assert {row["value"] for row in rows} == {3600}


def test_definitions_with_a_fault_are_told_and_those_before_stand(warehouse: Warehouse) -> None:
    entry = {
        "id": "runs", "category": "custom", "description": "x", "aggregations": ["day"],
        "formula": {
            "type": "simple", "expression": "n",
            "variables": {
                "n": {"source": {"table": "job_run", "aggregation": "count"}, "time_column": "business_date"}
            },
        },
    }  # fmt: skip

    def part() -> PartStatus:
        (found,) = [part for part in report(warehouse.settings).parts if part.name == "kpis"]
        return found

    warehouse.write_catalog({**CATALOG, "kpis": [entry]})
    warehouse.ingest(HEADER + CHARGE.format("START", "01:00:00", "r,h"))
    assert warehouse.tick("2026-03-03 09:00").problems == []
    assert part().is_ready
    before = warehouse.query("select * from kpi.period_value")
    assert before
    variable: dict[str, Any] = entry["formula"]["variables"]["n"]  # type: ignore[index]
    warehouse.write_catalog({
        **CATALOG, "kpis": [entry | {"formula": entry["formula"] | {"variables": {  # type: ignore[operator]
            "n": variable | {"filters": ["outcom = 'late'"]}
        }}}],
    })  # fmt: skip
    (problem,) = warehouse.tick("2026-03-03 09:01").problems
    assert "outcom" in problem.message
    assert not part().is_ready
    assert "1 problem, those before stand" in part().reason
    assert warehouse.query("select * from kpi.period_value") == before
    warehouse.write_catalog({**CATALOG, "kpis": [entry]})
    assert warehouse.tick("2026-03-03 09:02").problems == []
    assert part().is_ready
