"""Forecasts and trends: what was learned, what is expected, and forecasts as they were made."""

from pipelines.warehouse.migrations import run

revision = "0020"
down_revision = "0019"

SCHEMA = """
create schema forecast authorization transform;
comment on schema forecast is 'What forecasts have learned, and what they say; private, shown by marts.';
grant usage on schema forecast to operate;
alter default privileges for role transform in schema forecast grant select on tables to operate;
"""

TABLES = """
set local role transform;

create table forecast.series (
    slo_id text collate "C" not null,
    slot text collate "C" not null,
    state bytea not null,
    primary key (slo_id, slot)
);
comment on table forecast.series is
    'What the past ends of a slot of an SLO have taught, as `State.as_bytes` writes it: a function of slo_performance.';

create table forecast.job_past (
    application_id text collate "C" not null,
    job_id text collate "C" not null,
    past bytea not null,
    primary key (application_id, job_id)
);
comment on table forecast.job_past is
    'The last dates on which a job was complete: date, start, end, and seconds from the first FAIL to the end; a function of job_run.';

create table forecast.occurrence (
    slo_id text collate "C" not null,
    business_date date not null,
    slot text collate "C" not null,
    application_id text collate "C" not null,
    is_open boolean not null,
    expected_end_at timestamptz not null,
    p10 timestamptz not null,
    p50 timestamptz not null,
    p80 timestamptz not null,
    p90 timestamptz not null,
    p95 timestamptz not null,
    miss_probability double precision not null check (miss_probability between 0 and 1),
    slack interval,
    slack_slo text collate "C",
    method text collate "C" not null,
    rule text collate "C" not null,
    past_dates integer not null,
    later_dates integer not null,
    path text[] not null,
    primary key (slo_id, business_date, slot)
);
comment on table forecast.occurrence is
    'When each open occurrence and the next one of each SLO will end, as of the last tick; behind slo_forecast.';

create table forecast.waiting_job (
    application_id text collate "C" not null,
    job_id text collate "C" not null,
    business_date date not null,
    progress text collate "C" not null,
    started_at timestamptz,
    typical_duration interval,
    p80_duration interval,
    p50 timestamptz,
    p80 timestamptz,
    latest_start_at timestamptz,
    latest_end_at timestamptz,
    slo_id text collate "C",
    past_dates integer not null,
    primary key (application_id, job_id, business_date)
);
comment on table forecast.waiting_job is
    'Jobs that are not complete, of dates with an open occurrence, as of the last tick; behind slo_forecast_job.';

create table forecast.job_trend (
    application_id text collate "C" not null,
    job_id text collate "C" not null,
    method integer not null,
    input text not null,
    basis text not null check (basis in ('duration', 'end')),
    date_count integer not null,
    first_date date not null,
    last_date date not null,
    level float8 not null,
    slope float8 not null,
    slope_low float8 not null,
    slope_high float8 not null,
    grew_by float8 not null,
    p_value float8 not null check (p_value between 0 and 1),
    is_large boolean not null,
    shape text not null check (shape in ('line', 'ramp', 'step')),
    changed_on date not null,
    p90_end float8,
    days_until_due integer,
    primary key (application_id, job_id)
);
comment on table forecast.job_trend is
    'The trend of every job that has dates enough: minutes, and minutes a date. method: by which version of the computation; input: '
    'hash of the series that it is of.';

create table forecast.made (
    slo_id text collate "C" not null,
    business_date date not null,
    slot text collate "C" not null,
    lead_minutes integer not null,
    as_of timestamptz not null,
    expected_end_at timestamptz not null,
    p10 timestamptz not null,
    p50 timestamptz not null,
    p80 timestamptz not null,
    p90 timestamptz not null,
    miss_probability double precision not null,
    past_dates integer not null,
    rule_points timestamptz[] not null,
    rule_deviations interval[] not null,
    primary key (slo_id, business_date, slot, lead_minutes)
);
comment on table forecast.made is
    'Journal: what was forecast of an occurrence so many minutes before it was due, by what had happened by then; and what the naive '
    'rules said. Never changed.';
reset role;
"""


def upgrade() -> None:
    run(SCHEMA)
    run(TABLES)
