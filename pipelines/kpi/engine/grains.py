"""SQL of the periods of each grain: what lies between two, which one is around an instant, and their rows."""

from __future__ import annotations

from pipelines.kpi.grains import step_of

FORMATS = {
    "day": "to_char({0}, 'YYYY-MM-DD')",
    "week": "to_char({0}, 'IYYY-\"W\"IW')",
    "month": "to_char({0}, 'YYYY-MM')",
    "quarter": "to_char({0}, 'YYYY-\"Q\"Q')",
    "year": "to_char({0}, 'YYYY')",
}


def series(grain: str, zone: str, first: str, last: str) -> str:
    """SQL of the starts of periods from one to another: set of instants for hours, else of local timestamps."""
    if grain == "hour":
        return f"kpi.hours({first}, {last}, {zone})"
    return f"generate_series({first}, {last}, {step_of(grain)})"


def current(grain: str, zone: str, at: str) -> str:
    """SQL of the start of the period around an instant: an instant for hours, else a local timestamp."""
    if grain == "hour":
        return f"kpi.hour_start({at}, {zone})"
    return f"date_trunc('{grain}', kpi.local_time({at}, {zone}))"


def period_rows(grain: str, zone: str, starts: str) -> str:
    """SQL of rows of `kpi_period` for the starts `s` that a query gives (an instant for hours, else local).

    `offset 0`, here and in such a query: or conditions, with all their arithmetic of zones, would be moved to where
    they are judged for each row of a state and not once for each period.
    """
    starts = f"{starts} offset 0"
    if grain == "hour":
        offset = f"(s at time zone {zone}) - (s at time zone 'UTC')"
        sign = f"case when {offset} < interval '0' then '-' else '+' end"
        size = f"case when {offset} < interval '0' then -({offset}) else {offset} end"
        # Local mean times of long ago had seconds.
        form = f"case when extract(second from {offset}) = 0 then 'HH24:MI' else 'HH24:MI:SS' end"
        date = f"kpi.local_time(s, {zone})::date"
        return (
            f"select 'hour', s, kpi.hour_end(s, {zone}), {date}, {date},"
            f" to_char(s at time zone {zone}, 'YYYY-MM-DD\"T\"HH24') || {sign} || to_char({size}, {form})"
            f" from ({starts}) as starts"
        )
    end = f"(s + {step_of(grain)})::date"
    # A day that a zone skipped, at the date line, is none.
    return (
        f"select * from (select '{grain}', kpi.day_start(s::date, {zone}) as begins,"
        f" kpi.day_start({end}, {zone}) as ends, s::date, {end} - 1, {FORMATS[grain].format('s')}"
        f" from ({starts}) as starts offset 0) as period where begins < ends"
    )
