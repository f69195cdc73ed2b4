"""The replay, its csv and its scores; `duemark backtest` over the real marts."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from click.testing import CliRunner

from bench.series import DELIVERIES, deliveries, regimes, shuffled
from pipelines.cli import main
from pipelines.forecasts import backtest
from pipelines.forecasts.backtest import HEADER, LEADS, METHOD, Replayed, records, replay, scores
from pipelines.forecasts.ends import EPOCH, Floats, Series, fit, predict
from pipelines.forecasts.naive import RULES, naive
from pipelines.forecasts.score import score
from tests.transform.support import Warehouse

MONDAY = date(2024, 1, 1).toordinal()
DAY = 86_400.0


def daily(minutes: list[float], slo: str = "s", slot: str = "00:00") -> Series:
    dates = np.arange(MONDAY, MONDAY + len(minutes))
    due = (dates - EPOCH) * DAY + 6 * 3600
    return Series(slo, slot, dates, due, due + np.array(minutes, float) * 60)


def rows(replayed: Replayed) -> dict[tuple[int, int], tuple[float, ...]]:
    f = replayed.forecast
    return {
        (int(replayed.series.date[place]), int(lead)): tuple(float(part[row]) for part in vars(f).values())
        for row, (place, lead) in enumerate(zip(replayed.place, replayed.lead, strict=True))
    }


@pytest.mark.parametrize("name", ["steady", "never ends at times", "promise moves alone", "heavy tail"])
def test_a_changed_future_moves_no_past_forecast(name: str) -> None:
    known = next(one for one in regimes(80) if one.slo_id == name)
    before = rows(replay(known))
    rng = np.random.default_rng(1)
    for place in (0, 1, 20, 55, 79):
        moment = float(known.due[place]) - 1800
        future = ~(known.end <= moment)
        # Whatever happens after the moment, also that it never does.
        late = np.maximum(known.due + rng.normal(0, 7200, len(known.end)), moment + 1)
        late[rng.random(len(late)) < 0.2] = np.nan
        after = rows(replay(replace(known, end=np.where(future, late, known.end))))
        seen = {
            key: row
            for key, row in before.items()
            if known.due[key[0] - known.date[0]] - key[1] * 60 <= moment
        }
        assert seen
        for key, row in seen.items():
            if key in after:
                assert after[key] == pytest.approx(row, abs=1e-6), key
        made_by_then = {key for key in after if known.due[key[0] - known.date[0]] - key[1] * 60 <= moment}
        assert made_by_then == set(seen)


def test_each_forecast_is_what_predict_says_at_its_moment() -> None:
    known = regimes(60)[0]
    for (day, lead), row in list(rows(replay(known)).items())[::17]:
        place = day - int(known.date[0])
        as_of = float(known.due[place]) - lead * 60
        alone = predict([fit(known, as_of)], np.array([day]), known.due[[place]], np.array([as_of]))
        assert row == pytest.approx(tuple(float(part[0]) for part in vars(alone).values()), abs=0.01)


def test_only_what_was_open_then() -> None:
    replayed = replay(daily([-90.0, -45.0, -5.0, 30.0, float("nan"), -60.0]))
    found = [(int(place), int(lead)) for place, lead in zip(replayed.place, replayed.lead, strict=True)]
    assert found == [
        (0, 120), (1, 120), (1, 60), (2, 120), (2, 60), (2, 30), (2, 10), (3, 120), (3, 60), (3, 30), (3, 10),
        (4, 120), (4, 60), (4, 30), (4, 10), (5, 120),
    ]  # fmt: skip


def test_dates_and_leads_that_were_asked_for_after_all_that_was_before() -> None:
    known = daily([-30.0 + n % 5 for n in range(40)])
    whole = rows(replay(known))
    first, last = date(2024, 1, 20), date(2024, 1, 25)
    part = rows(replay(known, (60,), first, last))
    assert list(part) == [(day, 60) for day in range(first.toordinal(), last.toordinal() + 1)]
    assert all(whole[key] == pytest.approx(row, abs=0.01) for key, row in part.items())


def test_no_forecast_is_of_after_the_marts() -> None:
    known = daily([-30.0] * 10)
    until = float(known.due[8]) - 3600
    assert replay(known, until=until).as_of.max() == until


def test_rows_are_by_slo_date_slot_and_lead() -> None:
    replays = [replay(daily([30.0] * 3, slo, slot)) for slo in ("b", "a") for slot in ("07:00", "06:30")]
    found = list(records(replays))
    keys = [(row[0], row[1], row[2], -int(row[4])) for row in found]
    assert keys == sorted(keys)
    assert len(found) == 4 * 3 * len(LEADS)
    assert found[0][:6] == ("a", "2024-01-01", "06:30", "2024-01-01T04:00:00Z", "120", "2024-01-01T06:00:00Z")
    assert found[0][-1] == "2024-01-01T06:30:00Z"


def test_an_end_that_is_not_there_is_empty() -> None:
    (row,) = records([replay(daily([float("nan")]), (60,))])
    assert row[-1] == ""


def test_naive_rules_by_hand() -> None:
    late = [float(n) for n in range(14)]
    known = daily([*late, 0.0])
    due = known.due[14]
    found = naive(known.date, known.due, known.end, 14, due - 7200)
    assert dict(zip(RULES, ((found.point - due) / 60).round(9).tolist(), strict=True)) == {
        "promise as made": 0.0,
        "mean of the last 10": 8.5,
        "mean and 2 deviations": 6.5,
        "weekday moving average": 3.5,
    }
    assert found.deviation[0] == 0
    assert found.deviation[2] == pytest.approx(np.std(late) * 60)
    # What is over is now.
    assert (naive(known.date, known.due, known.end, 14, due + 6000).point == due + 6000).all()


def test_scores_by_hand() -> None:
    hour = 3600.0
    due = np.array([10, 10, 20, 20, 30]) * hour
    end = np.array([11, 11, 19, 19, np.nan]) * hour
    p50 = np.array([10, 11, 19, 20, 29]) * hour
    found = score(
        np.array([0, 0, 1, 1, 2]), np.array([2, 1, 2, 1, 1]) * hour, due, end, p50 - hour / 2, p50, p50 + hour,
        p50 + hour, np.array([False, True, True, False, True]),
    )  # fmt: skip
    assert (found.forecasts, found.ended) == (5, 4)
    assert found.loss_p50 == pytest.approx((30 + 0 + 0 + 30) / 4)
    assert found.loss_p80 == pytest.approx((0 + 12 + 12 + 24) / 4)
    assert found.covered == 0.75
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == pytest.approx(2 / 3)
    assert found.lead == 60
    assert found.false_alarms == 1


def losing(replays: list[Replayed]) -> list[tuple[str, str]]:
    found = scores(replays)
    return [
        (slo, rule)
        for slo, rule in found
        if rule in RULES
        and not (
            found[slo, METHOD].loss_p50 < found[slo, rule].loss_p50
            and found[slo, METHOD].loss_p80 < found[slo, rule].loss_p80
        )
    ]


def coverage(replays: list[Replayed]) -> Floats:
    return np.array([one.covered for (_, method), one in scores(replays).items() if method == METHOD])


def test_real_deliveries_by_every_rule() -> None:
    if not DELIVERIES.is_file():
        pytest.skip(f"the real input {DELIVERIES} is not here")
    replays = [replay(one) for one in deliveries()]
    assert losing(replays) == []
    assert (abs(coverage(replays) - 0.8) <= 0.05).all()


def test_regimes_together_by_every_rule() -> None:
    replays = [replay(one) for one in [*regimes(200), *shuffled(regimes(200)[:2])]]
    assert [pair for pair in losing(replays) if pair[0] == "all"] == []
    assert (abs(coverage(replays) - 0.8) <= 0.08).all()


def invoke(warehouse: Warehouse, *arguments: str) -> tuple[int, str, str]:
    settings = warehouse.settings
    env = {"DUEMARK_HOME": str(settings.home)} | settings.as_env()
    done = CliRunner().invoke(main, ["backtest", *arguments], env=env)
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def filled(warehouse: Warehouse) -> Warehouse:
    """Thirty dates of a job that is due at 06:00 in Rome and ends about 05:30; the last has not ended."""
    warehouse.write_catalog(
        {
            "applications": [{"id": "a", "timezone": "Europe/Rome"}],
            "calendars": [
                {"id": "every_day", "weekdays": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}
            ],
            "jobs": [{"id": "j", "application": "a"}],
            "slos": [
                {
                    "id": "s", "application": "a", "calendar": "every_day", "effective_from": "2024-01-01",
                    "jobs": [{"job": "j", "end": "06:00"}],
                }
            ],
        }
    )  # fmt: skip
    warehouse.ingest(
        [
            {
                "application_id": "a", "job_id": "j", "status_code": "SUCCEED",
                "status_at": (datetime(2024, 1, 1, 4, 30, tzinfo=UTC) + timedelta(days=n, seconds=61 * n)).isoformat(),
                "business_date": f"2024-01-{n + 1:02}",
            }
            for n in range(29)
        ]
    )  # fmt: skip
    warehouse.tick(datetime(2024, 1, 30, 12, tzinfo=UTC))
    return warehouse


def test_the_command(filled: Warehouse) -> None:
    code, out, err = invoke(filled, "--format", "csv")
    assert (code, err) == (0, "")
    read = list(csv.DictReader(io.StringIO(out)))
    assert tuple(read[0]) == HEADER
    assert [row["business_date"] for row in read if row["lead"] == "120"] == [
        f"2024-01-{n:02}" for n in range(1, 31)
    ]
    assert [row["actual_end_at"] for row in read if row["business_date"] == "2024-01-30"] == [""] * 4
    for row in read:
        as_of, due = datetime.fromisoformat(row["as_of"]), datetime.fromisoformat(row["expected_end_at"])
        assert due - as_of == timedelta(minutes=int(row["lead"]))
        assert as_of <= datetime.fromisoformat(row["p10"]) <= datetime.fromisoformat(row["p90"])
        assert 0 <= float(row["miss_probability"]) <= 1
    code, out, _ = invoke(
        filled, "--format", "json", "--lead", "2h", "--lead", "60m", "--from", "2024-01-20", "--to", "2024-01-21",
        "--slo", "s",
    )  # fmt: skip
    found = json.loads(out)
    assert [(row["business_date"], row["lead"]) for row in found] == [
        ("2024-01-20", 120), ("2024-01-20", 60), ("2024-01-21", 120), ("2024-01-21", 60),
    ]  # fmt: skip
    code, out, _ = invoke(filled)
    assert code == 0
    assert all(rule in out for rule in (METHOD, *RULES))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--lead", "soon"), "--lead soon is no time in whole minutes."),
        (("--lead", "90s"), "--lead 90s is no time in whole minutes."),
        (("--from", "yesterday"), "--from yesterday is no date."),
        (("--from", "2024-01-02", "--to", "2024-01-01"), "--from 2024-01-02 is after --to 2024-01-01."),
        (("--slo", "nobody"), "There is no occurrence of nobody."),
    ],
)
def test_what_cannot_be_replayed_is_told(filled: Warehouse, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = invoke(filled, *arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_nothing_is_nothing(warehouse: Warehouse) -> None:
    assert invoke(warehouse, "--format", "csv") == (0, ",".join(HEADER) + "\n", "")
    assert backtest.score_table({}).endswith("(0 rows)\n")
