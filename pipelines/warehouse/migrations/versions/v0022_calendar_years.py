"""Calendars, date by date."""

from pipelines.warehouse.migrations import run

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    run("""
set local role ingest;
create table catalog.calendar_year (
    calendar_id text collate "C" not null,
    year integer not null,
    load_id bigint not null,
    calendar_load_id bigint not null,
    library text,
    is_business_date boolean[] not null,
    reasons text[] not null,
    holidays text[] not null,
    primary key (calendar_id, year, load_id),
    check (cardinality(is_business_date) = cardinality(reasons) and cardinality(reasons) = cardinality(holidays))
);
comment on table catalog.calendar_year is
    'The dates of a calendar: an element for each day of the year, from 1 January on. The row of the highest load stands. '
    'calendar_load_id: the version of the calendar that it was made of; library: version of the holidays library, null '
    'without holidays; holidays: the name, null where there is none.';
reset role;
""")
