"""Every message of the catalog: file, line, key, what is wrong, and the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent

import pytest

from pipelines.catalog.read import CatalogError, read_catalog

Write = Callable[..., Path]
Told = tuple[str, int, str, str, str]


def told(folder: Path) -> list[Told]:
    """What is told of a catalog, with files relative to it."""
    with pytest.raises(CatalogError) as caught:
        read_catalog(folder)
    return [
        (
            Path(problem.file).relative_to(folder).as_posix(),
            problem.line,
            problem.key,
            problem.message,
            problem.hint,
        )
        for problem in caught.value.problems
    ]


def only(folder: Path) -> Told:
    problems = told(folder)
    assert len(problems) == 1, problems
    return problems[0]


def slo(lines: str) -> dict[str, str]:
    """A file with one SLO; `lines` begin on line 5 of it."""
    return {
        "slos/one.yml": "slos:\n  - id: one\n    application: overdrafts\n    calendar: every_day\n"
        + indent(dedent(lines), "    ")
    }


def calendar(lines: str) -> dict[str, str]:
    """A file with one calendar; `lines` begin on line 3 of it."""
    return {"calendars/one.yml": "calendars:\n  - id: one\n" + indent(dedent(lines), "    ")}


SLO_KEYS = [
    *("id", "name", "description", "runbook", "application", "calendar", "timezone", "objective"),
    *("warn_before", "gives_up_after", "every", "jobs", "effective_from", "effective_to"),
]
CLOCK = 'write "HH:MM" in quotes, hours 0 to 47: "03:00", or "27:00" for 03:00 the next day'
DURATION = "write a whole number and a unit: 90s, 10m, 2h or 1d, at most 366d"
DATE = "write YYYY-MM-DD, without a time: 2026-07-04"
ZONE = "expected an IANA zone, such as America/New_York or UTC"
TWO_DAYS = "job: charge}, {job: deposits/summarize, day_offset: 1"
JOB = 'jobs: [{job: charge, end: "03:00"}]\n'


# Files


def test_folder_missing(tmp_path: Path) -> None:
    assert told_of_missing(tmp_path / "nowhere") == (
        (tmp_path / "nowhere").as_posix(),
        1,
        "",
        "there is no catalog folder here",
        "create it, with folders applications, calendars, jobs and slos, or set DUEMARK_CATALOG",
    )


def told_of_missing(folder: Path) -> Told:
    with pytest.raises(CatalogError) as caught:
        read_catalog(folder)
    (problem,) = caught.value.problems
    return problem.file, problem.line, problem.key, problem.message, problem.hint


def test_folder_misspelled(write: Write) -> None:
    folder = write({"slo/x.yml": "slos: []\n"})
    assert only(folder) == ("slo", 1, "", "nothing reads this folder", "did you mean `slos`?")


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        (
            "slos:\n  - id: [a\n",
            3,
            "not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
            "check the indentation, brackets and quotes of this line and the one before",
        ),
        (
            "slos:\n\t- id: a\n",
            2,
            "not valid YAML: while scanning for the next token, found character '\\t' that cannot start any token",
            "indent with spaces, not with tabs",
        ),
        (
            "slos:\n  - id: a\n    name: one: two\n",
            3,
            "not valid YAML: mapping values are not allowed here",
            "check the indentation of this line, and put text with a colon in it in quotes",
        ),
        (
            "slos: []\n---\nslos: []\n",
            2,
            "not valid YAML: expected a single document in the stream, but found another document",
            "one file holds one document: remove the `---` between them, or make two files",
        ),
        (
            "slos:\n  - *daily\n",
            2,
            "not valid YAML: found undefined alias 'daily'",
            "an alias (*name) needs an anchor (&name) before it; put text that begins with * in quotes",
        ),
        ("slos:\n  - \x07\n", 2, "a character that YAML does not allow: U+0007", "remove it"),
    ],
)
def test_syntax(write: Write, text: str, line: int, message: str, hint: str) -> None:
    assert only(write({"slos/odd.yml": text})) == ("slos/odd.yml", line, "", message, hint)


def test_nested_too_deeply(write: Write) -> None:
    folder = write({"slos/odd.yml": "slos: " + "[" * 5000 + "]" * 5000})
    assert only(folder)[3:] == ("lists or mappings nested too deeply", "a catalog needs five levels")


def test_not_utf8(write: Write) -> None:
    folder = write()
    (folder / "slos/odd.yml").write_bytes(b"slos:\n  - id: caf\xe9\n")
    assert only(folder) == ("slos/odd.yml", 2, "", "the file is not UTF-8 text", "save it as UTF-8")


def test_unreadable_file_hides_no_other(write: Write) -> None:
    folder = write(
        {
            "jobs/broken.yml": "jobs: [\n",
            **slo(JOB.replace("charge", "in-the-broken-file") + "colour: red\n"),
        }
    )
    assert [(problem[:3]) for problem in told(folder)] == [
        ("jobs/broken.yml", 2, ""),
        ("slos/one.yml", 6, "slos[0].colour"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "key", "message", "hint"),
    [
        (
            "- id: a\n",
            1,
            "",
            "expected the key `slos`",
            "a file in slos/ holds a list: `slos:` and below it `- …` for each",
        ),
        (
            "slos:\n  id: a\n",
            1,
            "slos",
            "expected a list",
            "a file in slos/ holds a list: `slos:` and below it `- …` for each",
        ),
        ("slos: []\njobs: []\n", 2, "jobs", "unknown key `jobs`", "move it to jobs/"),
        (
            "slo: []\n",
            1,
            "slo",
            "unknown key `slo`",
            "a file in slos/ holds a list: `slos:` and below it `- …` for each",
        ),
        (
            "slos:\n  - overdrafts\n",
            2,
            "slos[0]",
            "expected keys and values, found the text overdrafts",
            f"known keys: {', '.join(SLO_KEYS)}",
        ),
        ("slos:\n  - 7: a\n", 2, "slos[0]", "7 is no name of a key", "keys are text"),
    ],
)
def test_shape(write: Write, text: str, line: int, key: str, message: str, hint: str) -> None:
    problems = told(write({"slos/odd.yml": text}))
    assert ("slos/odd.yml", line, key, message, hint) in problems


def test_key_twice(write: Write) -> None:
    folder = write(slo("name: a\n" + JOB + "name: b\n"))
    assert only(folder) == (
        "slos/one.yml",
        7,
        "slos[0].name",
        "the key `name` stands twice, first on line 5",
        "keep one of them; YAML would silently drop the other",
    )


def test_tag_and_self_reference(write: Write) -> None:
    folder = write({"slos/odd.yml": "slos:\n  - &a [*a]\n  - !secret x\n"})
    assert [problem for problem in told(folder) if "expected" not in problem[3]] == [
        ("slos/odd.yml", 2, "slos[0][0]", "this value holds itself", "write it out in place of the alias"),
        ("slos/odd.yml", 3, "slos[1]", "the tag !secret is not supported", "write a plain value"),
    ]


@pytest.mark.parametrize("escape", ["\\0", "\\ud800"])
def test_escapes_that_no_text_holds(write: Write, escape: str) -> None:
    folder = write(slo(f'{JOB}name: "a{escape}b"\n'))
    assert only(folder)[1:] == (6, "slos[0].name", "a character that text cannot hold", "remove the escape")


# Keys and values


@pytest.mark.parametrize(
    ("lines", "line", "key", "message", "hint"),
    [
        (JOB + "calender: x\n", 6, "calender", "unknown key `calender`", "did you mean `calendar`?"),
        (
            JOB + "x: 1\n",
            6,
            "x",
            "unknown key `x`",
            f"known keys: {', '.join(sorted(SLO_KEYS)[:12])}, …",
        ),
        (
            'jobs:\n  - job: charge\n    end: "03:00"\n    ends: "03:00"\n',
            8,
            "jobs[0].ends",
            "unknown key `ends`",
            "did you mean `end`?",
        ),
        (
            'every: {minutes: 30, from: "06:00", to: "18:00", until: "19:00", due_after: 10m}\njobs: [{job: charge}]\n',
            5,
            "every.until",
            "unknown key `until`",
            "known keys: day_offset, due_after, early_tolerance, from, minutes, to",
        ),
        (
            "name: x\n",
            2,
            "jobs",
            "`jobs` is missing",
            "add `jobs`: the jobs that must be complete, at least one",
        ),
        (
            "jobs:\n",
            5,
            "jobs",
            "`jobs` is missing",
            "add `jobs`: the jobs that must be complete, at least one",
        ),
        ("jobs: []\n", 5, "jobs", "an SLO without a job", "name the jobs that must be complete"),
        ("jobs: charge\n", 5, "jobs", "expected a list, found the text charge", "write `jobs: [charge]`"),
        (
            "jobs: [charge]\n",
            5,
            "jobs[0]",
            "expected keys and values, found the text charge",
            "known keys: job, start, end, day_offset, due_weekday",
        ),
        (JOB + "name: 2026\n", 6, "name", "expected text, found 2026", 'put it in quotes: "2026"'),
        (JOB + "name: [a]\n", 6, "name", "expected text, found a list", "write one text"),
        (
            JOB + "timezone: America/New_Yrok\n",
            6,
            "timezone",
            '"America/New_Yrok" is no time zone',
            f"did you mean `America/New_York`? {ZONE}",
        ),
        (
            JOB + "timezone: america/new_york\n",
            6,
            "timezone",
            '"america/new_york" is no time zone',
            f"did you mean `America/New_York`? {ZONE}",
        ),
        (JOB + "timezone: '-05:00'\n", 6, "timezone", '"-05:00" is no time zone', ZONE),
        (JOB + "warn_before: 30\n", 6, "warn_before", "30 has no unit of time", DURATION),
        (JOB + "warn_before: 1h30m\n", 6, "warn_before", '"1h30m" is no duration', DURATION),
        (JOB + "warn_before: 367d\n", 6, "warn_before", '"367d" is no duration', DURATION),
        (
            JOB + "objective: 95\n",
            6,
            "objective",
            "95: input should be less than or equal to 1",
            "expected: share of occurrences to be on time, such as 0.95",
        ),
        (
            JOB + "objective: 0\n",
            6,
            "objective",
            "0: input should be greater than 0",
            "expected: share of occurrences to be on time, such as 0.95",
        ),
        (
            JOB + "objective: 95%\n",
            6,
            "objective",
            'expected a number, found the text "95%"',
            "expected: share of occurrences to be on time, such as 0.95",
        ),
        (JOB + "effective_from: 2026-02-30\n", 6, "effective_from", '"2026-02-30" is no date', DATE),
        (
            JOB + "effective_from: 2026-02-03 10:00:00\n",
            6,
            "effective_from",
            "2026-02-03 10:00:00 is no date",
            DATE,
        ),
        (JOB + "effective_from: 2026\n", 6, "effective_from", "2026 is no date", DATE),
        (
            JOB + "effective_from: 2026-03-02\neffective_to: 2026-03-01\n",
            7,
            "effective_to",
            "2026-03-01 is before the effective_from 2026-03-02",
            "`effective_to` is the last date on which the entry applies",
        ),
        (
            "jobs: [{job: charge}]\n",
            5,
            "jobs[0].end",
            "the job `charge` has no end",
            'say when it is due: end: "05:00", or give the SLO windows with `every`',
        ),
        ('jobs: [{job: charge, end: "3pm"}]\n', 5, "jobs[0].end", '"3pm" is no time of day', CLOCK),
        ('jobs: [{job: charge, end: "48:00"}]\n', 5, "jobs[0].end", '"48:00" is no time of day', CLOCK),
        ('jobs: [{job: charge, end: "03:60"}]\n', 5, "jobs[0].end", '"03:60" is no time of day', CLOCK),
        ("jobs: [{job: charge, end: 300}]\n", 5, "jobs[0].end", "300 is a number, not a time of day", CLOCK),
        (
            'jobs: [{job: charge, start: "05:00", end: "03:00"}]\n',
            5,
            "jobs[0].end",
            "the end 03:00 is before the start 05:00",
            'both are of one date; past midnight write "27:00"',
        ),
        (
            'jobs: [{job: charge, start: "47:00", end: "30:00"}]\n',
            5,
            "jobs[0].end",
            "the end 30:00 is before the start 47:00",
            "both are of one date; write hours past 24 for the next",
        ),
        (
            'jobs: [{job: charge, end: "03:00", day_offset: -1}]\n',
            5,
            "jobs[0].day_offset",
            "-1: input should be greater than or equal to 0",
            "expected: days after the business date, default 0",
        ),
        (
            'jobs: [{job: charge, end: "03:00", day_offset: 1.5}]\n',
            5,
            "jobs[0].day_offset",
            "expected a whole number, found 1.5",
            "expected: days after the business date, default 0",
        ),
        (
            'jobs: [{job: charge, end: "03:00", due_weekday: friday}]\n',
            5,
            "jobs[0].due_weekday",
            "unknown value friday",
            "did you mean `fri`?",
        ),
        (
            'jobs: [{job: charge, end: "03:00", due_weekday: fri, day_offset: 1}]\n',
            5,
            "jobs[0].due_weekday",
            "both `day_offset` and `due_weekday`",
            "keep the one that is meant",
        ),
    ],
)
def test_slo(write: Write, lines: str, line: int, key: str, message: str, hint: str) -> None:
    assert only(write(slo(lines))) == ("slos/one.yml", line, f"slos[0].{key}", message, hint)


@pytest.mark.parametrize(
    ("every", "job", "key", "message", "hint"),
    [
        ('minutes: 0, from: "06:00", to: "18:00", due_after: 10m', "job: charge", "every.minutes",
         "0: input should be greater than or equal to 1", "expected: minutes between windows, 1 to 1440"),
        ('minutes: 1441, from: "06:00", to: "18:00", due_after: 10m', "job: charge", "every.minutes",
         "1441: input should be less than or equal to 1440", "expected: minutes between windows, 1 to 1440"),
        ('minutes: half, from: "06:00", to: "18:00", due_after: 10m', "job: charge", "every.minutes",
         "expected a whole number, found the text half", "expected: minutes between windows, 1 to 1440"),
        ('minutes: 30, from: "18:00", to: "06:00", due_after: 10m', "job: charge", "every.to",
         "`to` 06:00 is before `from` 18:00",
         "`to` is when the last window begins; past midnight write hours past 24"),
        ('minutes: 30, from: "06:00", to: "18:00"', "job: charge", "every.due_after", "`due_after` is missing",
         "add `due_after`: from the begin of a window until it is due, such as 10m"),
        ('minutes: 30, to: "18:00", due_after: 10m', "job: charge", "every.from", "`from` is missing",
         'add `from`: when the first window begins, "HH:MM"'),
        ('minutes: 30, from: "06:00", to: "18:00", due_after: 0m', "job: charge", "every.due_after",
         "due as soon as it begins", "give the run some time, such as 10m"),
        ('minutes: 30, from: "06:00", to: "18:00", due_after: 10m, early_tolerance: 30m', "job: charge",
         "every.early_tolerance", "a tolerance of 30m reaches the window before",
         "keep it below the 30m between windows"),
        ('minutes: 30, from: "06:00", to: "18:00", due_after: 10m', 'job: charge, start: "06:00"', "jobs[0].start",
         "both `every` and the job's `start`",
         "the windows say when the job is due: remove `start`, or remove `every`"),
        ('minutes: 30, from: "06:00", to: "18:00", due_after: 10m', 'job: charge, end: "06:00"', "jobs[0].end",
         "both `every` and the job's `end`",
         "the windows say when the job is due: remove `end`, or remove `every`"),
        ('minutes: 30, from: "06:00", to: "18:00", due_after: 10m', "job: charge, due_weekday: fri",
         "jobs[0].due_weekday", "both `every` and the job's `due_weekday`",
         "the windows say when the job is due: remove `due_weekday`, or remove `every`"),
        ('minutes: 30, from: "06:00", to: "18:00", due_after: 10m', TWO_DAYS, "jobs[1].day_offset",
         "jobs with windows on different days",
         "give all its jobs one `day_offset`, best in `every`, or make two SLOs"),
    ],
)  # fmt: skip
def test_windows(write: Write, every: str, job: str, key: str, message: str, hint: str) -> None:
    line = 5 if key.startswith("every") else 6
    folder = write(slo(f"every: {{{every}}}\njobs: [{{{job}}}]\n"))
    assert only(folder) == ("slos/one.yml", line, f"slos[0].{key}", message, hint)


def test_unquoted_time(write: Write) -> None:
    # YAML 1.2 reads it as text; only a file that asks for YAML 1.1 makes the number 750 of 12:30.
    text = slo("jobs: [{job: charge, start: 03:00, end: 12:30}]\n")["slos/one.yml"]
    catalog = read_catalog(write({"slos/one.yml": text}))
    assert catalog.slos["one"][0].jobs[0].end == 750
    assert only(write({"slos/one.yml": f"%YAML 1.1\n---\n{text}"})) == (
        "slos/one.yml",
        7,
        "slos[0].jobs[0].end",
        "750 is a number, not a time of day",
        CLOCK,
    )


@pytest.mark.parametrize(
    ("lines", "line", "key", "message", "hint"),
    [
        ("name: x\n", 2, "weekdays", "`weekdays` is missing",
         "add `weekdays`: a list of mon, tue, wed, thu, fri, sat, sun"),
        ("weekdays: [mon, tues]\n", 3, "weekdays[1]", "unknown value tues", "did you mean `tue`?"),
        ("weekdays: [mon, x]\n", 3, "weekdays[1]", "unknown value x",
         "expected one of: fri, mon, sat, sun, thu, tue, wed"),
        ("weekdays: mon\n", 3, "weekdays", "expected a list, found the text mon", "write `weekdays: [mon]`"),
        ("weekdays: []\n", 3, "weekdays", "a calendar without dates", "name weekdays, or dates in `include`"),
        ("weekdays: [mon]\ninclude: [2026-13-01]\n", 4, "include[0]", '"2026-13-01" is no date', DATE),
        ("weekdays: [mon]\nholidays: US\n", 4, "holidays", "expected keys and values, found the text US",
         "known keys: country, subdivision, categories, market, financial"),
        ("weekdays: [mon]\nholidays: {}\n", 4, "holidays", "no country and no market",
         "write {country: US} or {market: NYSE}, or remove `holidays`"),
        ("weekdays: [mon]\nholidays: {market: NYSE, subdivision: NY}\n", 4, "holidays.subdivision",
         "`subdivision` without a country", "add `country`, such as US"),
        ("weekdays: [mon]\nholidays: {market: NYSE, financial: {market: NYSE}}\n", 4, "holidays.financial",
         "the market is named twice", "keep `market` or `financial`"),
        ("weekdays: [mon]\nholidays: {market: NYSE}\nfinancial: {market: NYSE}\n", 5, "financial",
         "the market is named twice", "keep the one in `holidays`"),
        ("weekdays: [mon]\nholidays: {country: US, categories: []}\n", 4, "holidays.categories",
         "no category of holidays", "name one, such as public"),
        ("weekdays: [mon]\nholidays: {country: us}\n", 4, "holidays.country",
         "no holiday list for the country `us`", "did you mean `US`?"),
        ("weekdays: [mon]\nholidays: {country: US, subdivision: ny}\n", 4, "holidays.subdivision",
         "US has no subdivision `ny`", "did you mean `NY`?"),
        ("weekdays: [mon]\nholidays: {country: SG, subdivision: X}\n", 4, "holidays.subdivision",
         "SG has no subdivision `X`", "SG has one list: remove it"),
        ("weekdays: [mon]\nholidays: {country: US, categories: [public, publik]}\n", 4, "holidays.categories[1]",
         "US has no category `publik`", "did you mean `public`?"),
        ("weekdays: [mon]\nholidays: {market: NYSEE}\n", 4, "holidays.market",
         "no holiday list for the market `NYSEE`", "did you mean `NYSE`?"),
        ("weekdays: [mon]\nholidays: {financial: {market: nyse}}\n", 4, "holidays.financial.market",
         "no holiday list for the market `nyse`", "did you mean `NYSE`?"),
        ("weekdays: [mon]\nfinancial: {market: nyse}\n", 4, "financial.market",
         "no holiday list for the market `nyse`", "did you mean `NYSE`?"),
    ],
)  # fmt: skip
def test_calendar(write: Write, lines: str, line: int, key: str, message: str, hint: str) -> None:
    assert only(write(calendar(lines))) == ("calendars/one.yml", line, f"calendars[0].{key}", message, hint)


@pytest.mark.parametrize(
    ("line", "shown", "message", "hint"),
    [
        ("id: a/b", 2, '"a/b" has a slash', "application ids have none: `application/job` is split at its first slash"),
        ("id: ''", 2, "an id of 0 characters", "ids have 1 to 200 characters"),
        (f"id: {'é' * 201}", 2, "an id of 201 characters", "ids have 1 to 200 characters"),
        ("id: 'a '", 2, '"a " has white space at an end, or a control character',
         "write the id exactly as the scheduler reports it, in one line"),
        ("id: 7", 2, "expected text, found 7", 'put it in quotes: "7"'),
        ("id: true", 2, "expected text, found True", 'put it in quotes: "True"'),
    ],
)  # fmt: skip
def test_application_id(write: Write, line: str, shown: int, message: str, hint: str) -> None:
    folder = write({"applications/one.yml": f"applications:\n  - {line}\n    timezone: UTC\n"})
    assert only(folder) == ("applications/one.yml", shown, "applications[0].id", message, hint)


@pytest.mark.parametrize(
    "code", ["00AD", "200B", "200D", "2028", "2029", "202E", "2060", "2066", "3164", "FEFF"]
)
@pytest.mark.parametrize("kind", ["applications", "calendars", "jobs", "slos"])
def test_characters_of_an_id_that_nobody_sees(write: Write, kind: str, code: str) -> None:
    rest = {
        "applications": "timezone: UTC",
        "calendars": "weekdays: [mon]",
        "jobs": "application: overdrafts",
        "slos": "application: overdrafts, calendar: every_day, " + JOB.strip(),
    }
    for written in (f"a{chr(int(code, 16))}b", f'"a\\u{code}b"'):
        file, line, key, message, hint = only(
            write({f"{kind}/odd.yml": f"{kind}:\n  - {{id: {written}, {rest[kind]}}}\n"})
        )
        assert (file, line, key) == (f"{kind}/odd.yml", 2, f"{kind}[0].id")
        assert f"a character that nobody sees: U+{code}" in message
        assert hint == "remove it; ids that differ in such a character alone look the same"


def test_what_is_told_can_be_printed(write: Write) -> None:
    folder = write({"jobs/odd.yml": 'jobs:\n  - {id: "a\\u202Eb", application: overdrafts}\n'})
    with pytest.raises(CatalogError) as caught:
        read_catalog(folder)
    assert '"a\\u202eb" has a character that nobody sees: U+202E RIGHT-TO-LEFT OVERRIDE' in str(caught.value)
    assert "\u202e" not in str(caught.value)


def test_longest_ids_are_taken(write: Write) -> None:
    longest = "é" * 200
    folder = write(
        {
            "applications/long.yml": f"applications: [{{id: {longest}, timezone: UTC}}]\n",
            "jobs/long.yml": f"jobs: [{{id: {longest}, application: {longest}}}]\n",
            **slo(f'jobs: [{{job: {longest}/{longest}, end: "03:00"}}]\n'),
        }
    )
    assert read_catalog(folder).slo_jobs(read_catalog(folder).slos["one"][0]) == ((longest, longest),)


def test_too_long_a_reference(write: Write) -> None:
    problem = only(write(slo(f'jobs: [{{job: {"x" * 402}, end: "03:00"}}]\n')))
    assert problem[2:] == ("slos[0].jobs[0].job", "a text of 402 characters", "at most 401 characters")


def test_restartable(write: Write) -> None:
    folder = write(
        {"jobs/one.yml": "jobs:\n  - id: one\n    application: deposits\n    restartable: maybe\n"}
    )
    assert only(folder) == (
        "jobs/one.yml",
        4,
        "jobs[0].restartable",
        "expected true or false, found the text maybe",
        "write true or false",
    )


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        ("wiki.example.org/x", '"wiki.example.org/x" is no web address', "write it whole: https://wiki"),
        ("ftp://wiki/x", '"ftp://wiki/x" is no web address', "write it whole: https://wiki"),
        ("https:///x", '"https:///x" is no web address', "write it whole: https://wiki"),
        ("https://[wiki", '"https://[wiki" is no web address', "write it whole: https://wiki"),
        ("https://wiki/a b", '"https://wiki/a b" is no web address', "write it whole: https://wiki"),
        (
            "https://me:secret@wiki/x",
            '"https://…@wiki/x" has a name or a password in it',
            "remove what stands before the @",
        ),
    ],
)
def test_a_runbook_is_a_web_address(write: Write, address: str, message: str, hint: str) -> None:
    text = json.dumps(address)
    job = {"jobs/one.yml": f"jobs:\n  - {{id: one, application: deposits, runbook: {text}}}\n"}
    found = told(write(job | slo(f'runbook: {text}\njobs: [{{job: charge, end: "03:00"}}]\n')))
    assert [one[2:4] for one in found] == [("jobs[0].runbook", message), ("slos[0].runbook", message)]
    assert all(one[4].startswith(hint) for one in found)


@pytest.mark.parametrize(
    ("package", "key", "message", "hint"),
    [
        ("kind: zip, title: A, url: //h/", "kind", "unknown value zip", "did you mean `zim`?"),
        ("kind: files, title: A, url: 'http://h/'", "url", '"http://h/" is no address',
         "write it without a scheme: //host/…"),
        ("kind: zim, title: A, url: //h/x", "url", "the address does not name the archive",
         "write //host/viewer#NAME or //host/content/NAME"),
        ("kind: app, title: A, url: //h/", "ident", "an app without `ident`",
         "say which application it is: ident: edupi"),
    ],
)  # fmt: skip
def test_package(write: Write, package: str, key: str, message: str, hint: str) -> None:
    folder = write({"packages/p.yml": f"packages:\n  - {{{package}}}\n"})
    assert only(folder) == ("packages/p.yml", 2, f"packages[0].{key}", message, hint)


# References


@pytest.mark.parametrize(
    ("lines", "key", "message", "hint"),
    [
        ("jobs: [{job: chrage, end: '03:00'}]\n", "jobs[0].job", "there is no job `chrage` in `overdrafts`",
         "did you mean `charge`?"),
        ("jobs: [{job: summarize, end: '03:00'}]\n", "jobs[0].job", "there is no job `summarize` in `overdrafts`",
         "did you mean `deposits/summarize`?"),
        ("jobs: [{job: xyz, end: '03:00'}]\n", "jobs[0].job", "there is no job `xyz` in `overdrafts`",
         "known: charge; or declare it in jobs/"),
        ("jobs: [{job: deposits/sumarize, end: '03:00'}]\n", "jobs[0].job", "there is no job `deposits/sumarize`",
         "did you mean `deposits/summarize`?"),
        ("jobs: [{job: deposit/summarize, end: '03:00'}]\n", "jobs[0].job",
         "there is no job `deposit/summarize`, and no application `deposit`",
         "did you mean `deposits/summarize`?"),
        ("jobs: [{job: charge, end: '03:00'}, {job: overdrafts/charge, end: '04:00'}]\n", "jobs[1].job",
         "the job `overdrafts/charge` stands twice", "an SLO names a job once; for two due times make two SLOs"),
    ],
)  # fmt: skip
def test_job_of_slo(write: Write, lines: str, key: str, message: str, hint: str) -> None:
    assert only(write(slo(lines))) == ("slos/one.yml", 5, f"slos[0].{key}", message, hint)


def test_unknown_application_and_calendar(write: Write) -> None:
    folder = write(
        {
            "jobs/one.yml": "jobs:\n  - id: one\n    application: overdraft\n    depends_on: [charge]\n",
            "slos/one.yml": "slos:\n  - id: one\n    application: cards\n    calendar: everyday\n    " + JOB,
        }
    )
    # Its jobs are not told as well: where to look for them is the one fault.
    assert told(folder) == [
        (
            "jobs/one.yml",
            3,
            "jobs[0].application",
            "there is no application `overdraft`",
            "did you mean `overdrafts`?",
        ),
        (
            "slos/one.yml",
            3,
            "slos[0].application",
            "there is no application `cards`",
            "known applications: deposits, overdrafts",
        ),
        (
            "slos/one.yml",
            4,
            "slos[0].calendar",
            "there is no calendar `everyday`",
            "did you mean `every_day`?",
        ),
    ]


def test_nothing_there_to_refer_to(write: Write) -> None:
    folder = write(slo(JOB), sound=False)
    assert [problem[2:] for problem in told(folder)] == [
        ("slos[0].application", "there is no application `overdrafts`", "declare it in applications/"),
        ("slos[0].calendar", "there is no calendar `every_day`", "declare it in calendars/"),
    ]


def test_unknown_upstream(write: Write) -> None:
    folder = write(
        {"jobs/one.yml": "jobs:\n  - id: one\n    application: deposits\n    depends_on: [summarise]\n"}
    )
    assert only(folder) == (
        "jobs/one.yml",
        4,
        "jobs[0].depends_on[0]",
        "there is no job `summarise` in `deposits`",
        "did you mean `summarize`?",
    )


def test_invalid_things_are_still_there(write: Write) -> None:
    # The calendar has a fault of its own; that an SLO names it is none.
    folder = write({**calendar("weekdays: [mun]\n"), **slo(JOB)})
    (folder / "slos/one.yml").write_text((folder / "slos/one.yml").read_text().replace("every_day", "one"))
    assert only(folder)[:3] == ("calendars/one.yml", 3, "calendars[0].weekdays[0]")


def test_streaming(write: Write) -> None:
    folder = write(
        {
            "jobs/one.yml": "jobs:\n  - {id: prices, application: overdrafts, streaming: true}\n",
            **slo("jobs: [{job: prices, end: '03:00'}]\n"),
        }
    )
    assert only(folder) == (
        "slos/one.yml",
        5,
        "slos[0].jobs[0].job",
        "the job `prices` is streaming",
        "a streaming job never completes, so no SLO can wait for it: remove it here",
    )


def test_declared_twice(write: Write) -> None:
    folder = write(
        {
            "applications/z.yml": "applications:\n  - {id: deposits, timezone: UTC}\n",
            "calendars/z.yml": "calendars:\n  - {id: every_day, weekdays: [mon]}\n",
            "jobs/z.yml": "jobs:\n  - {id: charge, application: deposits}\n  - {id: charge, application: overdrafts}\n",
            "packages/z.yml": "packages:\n" + "  - {kind: files, title: A, url: //h/}\n" * 2,
        }
    )
    again = "remove one of them, or give it another id"
    at = folder.as_posix()
    assert told(folder) == [
        ("applications/z.yml", 2, "applications[0].id",
         f"the application `deposits` is declared twice, first in {at}/applications/bank.yml:4", again),
        ("calendars/z.yml", 2, "calendars[0].id",
         f"the calendar `every_day` is declared twice, first in {at}/calendars/bank.yml:2", again),
        ("jobs/z.yml", 3, "jobs[1].id",
         f"the job `overdrafts/charge` is declared twice, first in {at}/jobs/bank.yml:2", again),
        ("packages/z.yml", 3, "packages[1].url",
         f"the package `//h/` is declared twice, first in {at}/packages/z.yml:2", again),
    ]  # fmt: skip


def test_slo_entries_of_one_date(write: Write) -> None:
    entry = '  - {id: a, application: overdrafts, calendar: every_day, jobs: [{job: charge, end: "03:00"}]'
    dated = f"{entry}, effective_from: 2026-03-02}}\n"
    folder = write({"slos/a.yml": f"slos:\n{entry}}}\n{dated}{entry}}}\n{dated}"})
    at = f"{folder.as_posix()}/slos/a.yml"
    later = "give the later one a later `effective_from`"
    assert told(folder) == [
        ("slos/a.yml", 4, "slos[2].id",
         f"the SLO `a` without `effective_from` is declared twice, first in {at}:2", later),
        ("slos/a.yml", 5, "slos[3].effective_from",
         f"the SLO `a` from 2026-03-02 is declared twice, first in {at}:3", later),
    ]  # fmt: skip


def test_namespace_of_two(write: Write) -> None:
    folder = write(
        {
            "applications/n.yml": """\
                applications:
                  - {id: a, timezone: UTC, namespaces: [prod]}
                  - {id: b, timezone: UTC, namespaces: [test, prod]}
                """
        }
    )
    assert only(folder) == (
        "applications/n.yml",
        3,
        "applications[1].namespaces[1]",
        "the namespace `prod` already means the application `a`",
        "an OpenLineage namespace leads to one application",
    )


def test_namespaces_with_rules(write: Write) -> None:
    rule = "business_date: {shift: previous_business_day, calendar"
    folder = write(
        {
            "applications/n.yml": f"""\
                applications:
                  - id: a
                    timezone: UTC
                    namespaces:
                      - {{name: one, {rule}: every_da}}}}
                      - {{name: one, {rule}: every_day}}}}
                      - {{name: two, business_date: {{shift: previous_business_day}}}}
                      - {{name: three, business_date: {{calendar: every_day, cut_off: 6}}}}
                  - {{id: b, timezone: UTC, namespaces: [{{name: one, {rule}: every_day, cut_off: "06:00"}}}}]}}
                """
        }
    )
    words = "\n".join(str(problem) for problem in told(folder))
    for said in (
        "no calendar says what a business day is",
        "6 is a number, not a time of day",
    ):
        assert said in words
    text = (folder / "applications/n.yml").read_text("utf-8")
    kept = [line for line in text.splitlines(keepends=True) if "two" not in line and "three" not in line]
    (folder / "applications/n.yml").write_text("".join(kept), "utf-8")
    assert [(line, path, message) for _, line, path, message, _ in told(folder)] == [
        (5, "applications[0].namespaces[0].business_date.calendar", "there is no calendar `every_da`"),
        (6, "applications[0].namespaces[1]", "the namespace `one` stands here twice"),
        (7, "applications[1].namespaces[0]", "the namespace `one` already means the application `a`"),
    ]


def test_cycles(write: Write) -> None:
    folder = write(
        {
            "jobs/c.yml": """\
                jobs:
                  - id: c
                    application: deposits
                    depends_on: [summarize, a]
                  - {id: b, application: deposits, depends_on: [deposits/c]}
                  - {id: a, application: deposits, depends_on: [b]}
                  - {id: after, application: deposits, depends_on: [a, after]}
                """
        }
    )
    hint = "an arrow points to what the job waits for; remove one of them"
    assert told(folder) == [
        (
            "jobs/c.yml",
            6,
            "jobs[2].depends_on[0]",
            "jobs wait for each other: deposits/a → deposits/b → deposits/c → deposits/a",
            hint,
        ),
        (
            "jobs/c.yml",
            7,
            "jobs[3].depends_on[1]",
            "jobs wait for each other: deposits/after → deposits/after",
            hint,
        ),
    ]


def test_all_at_once_and_in_order(write: Write) -> None:
    folder = write(
        {
            "applications/bank.yml": """\
                applications:
                  - id: overdrafts
                    timezone: Mars/Olympus
                    colour: red
                  - timezone: UTC
                """,
            **slo("timezone: Here\njobs: [{job: nothing, end: soon}, {job: charge}]\nobjective: 2\n"),
        }
    )
    with pytest.raises(CatalogError) as caught:
        read_catalog(folder)
    assert [(Path(one.file).name, one.line, one.key) for one in caught.value.problems] == [
        ("bank.yml", 3, "applications[0].timezone"),
        ("bank.yml", 4, "applications[0].colour"),
        ("bank.yml", 5, "applications[1].id"),
        ("bank.yml", 5, "jobs[1].application"),
        ("one.yml", 5, "slos[0].timezone"),
        ("one.yml", 6, "slos[0].jobs[0].end"),
        ("one.yml", 7, "slos[0].objective"),
    ]
    message = str(caught.value)
    assert message.startswith("the catalog has 7 problems:\n")
    assert (
        f"  {folder.as_posix()}/applications/bank.yml:4: applications[0].colour: unknown key `colour`\n"
        in message
    )


def test_line_of_what_an_anchor_brought(write: Write) -> None:
    folder = write(
        {
            "slos/one.yml": """\
                slos:
                  - &base
                    id: one
                    application: overdrafts
                    calendar: every_day
                    warn_before: soon
                    jobs: [{job: charge, end: "03:00"}]
                  - <<: *base
                    id: two
                """
        }
    )
    assert [(problem[1], problem[2]) for problem in told(folder)] == [
        (6, "slos[0].warn_before"),
        (6, "slos[1].warn_before"),
    ]


@pytest.mark.parametrize(
    ("sender", "key", "message", "hint"),
    [
        ("{id: a}", "applications", "a sender without an application",
         'name those that it reports for, or ["*"] for all; or leave out the role sender'),
        ("{id: a, applications: [b], feeds: []}", "feeds", "a sender without a feed",
         "name what it sends: [job_status]"),
        ("{id: a, roles: []}", "roles", "a client without a role", "name one: sender, analyst, on_call, admin"),
        ("{id: a, roles: [boss]}", "roles[0]", "unknown value boss",
         "expected one of: admin, analyst, on_call, sender"),
        ("{id: a, applications: [bb]}", "applications[0]", "there is no application `bb`", "did you mean `b`?"),
        ("{id: a, applications: [b], feeds: [job_statu]}", "feeds[0]", "there is no feed `job_statu`",
         "did you mean `job_status`?"),
        ("{id: a, applications: [c]}", "applications[0]", "the application `c` does not name this sender",
         "add `a` to `senders` of the application, or remove it here"),
    ],
)  # fmt: skip
def test_sender(write: Write, sender: str, key: str, message: str, hint: str) -> None:
    applications = "applications:\n  - {id: b, timezone: UTC}\n  - {id: c, timezone: UTC, senders: [d]}\n"
    folder = write({"applications/one.yml": applications, "senders/one.yml": f"senders:\n  - {sender}\n"})
    assert only(folder) == ("senders/one.yml", 2, f"senders[0].{key}", message, hint)


def test_a_sender_that_an_application_names_names_it(write: Write) -> None:
    applications = "applications:\n  - {id: b, timezone: UTC, senders: [a]}\n  - {id: c, timezone: UTC}\n"
    senders = "senders:\n  - {id: a, applications: [c]}\n"
    assert only(write({"applications/one.yml": applications, "senders/one.yml": senders})) == (
        "applications/one.yml", 2, "applications[0].senders[0]", "the sender `a` does not name this application",
        "add `b` to its `applications` in senders/, or remove it here",
    )  # fmt: skip
    everything = senders.replace("[c]", '["*"]')
    read_catalog(write({"applications/one.yml": applications, "senders/one.yml": everything}))
