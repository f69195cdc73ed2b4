"""Trends of jobs: what Python computes of their durations, a row a job; the mart that shows them is a view."""

from pipelines.warehouse.migrations import run

revision = "0020"
down_revision = "0019"

SCHEMA = """
create schema if not exists forecast authorization transform;
comment on schema forecast is 'What forecasts and trends are made of; private. Marts show them.';
"""

TABLES = """
set local role transform;

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
reset role;
"""


def upgrade() -> None:
    run(SCHEMA)
    run(TABLES)
