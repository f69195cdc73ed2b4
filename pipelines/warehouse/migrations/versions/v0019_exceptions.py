"""Exceptions to what is promised, and when an occurrence is given up."""

from pipelines.warehouse.migrations import run

revision = "0019"
down_revision = "0018"

CATALOG = """
set local role ingest;

create table catalog.exception_version (
    exception_id text collate "C" not null,
    load_id bigint not null,
    origin text not null check (origin in ('catalog', 'command')),
    is_retired boolean not null,
    slo_id text collate "C",
    application_id text collate "C",
    from_date date not null,
    to_date date not null check (to_date >= from_date),
    slot text collate "C",
    due_minutes integer,
    reason text not null,
    excepted_by text,
    primary key (exception_id, load_id),
    check (num_nonnulls(slo_id, application_id) = 1)
);
create index exception_version_load on catalog.exception_version (load_id);
comment on table catalog.exception_version is
    'Journal: business dates, both included, for which an SLO, or all SLOs of an application, promise something else; '
    'of the slot, or of all. due_minutes: due later, at so many minutes after midnight of the local date of the promised '
    'due time; null: waived. Of an exception the version of the highest load stands, until one that is retired. '
    'origin: it stood in the files of the catalog, or a command wrote it.';

alter table catalog.slo_version add column gives_up_after interval;
comment on column catalog.slo_version.gives_up_after is
    'How long after its due time an occurrence is given up; null: when the next business date falls due, at most 7 days '
    'after.';

alter table catalog.promise add column next_due_at timestamptz;
comment on column catalog.promise.next_due_at is
    'When the first occurrence of a later business date of the version falls due, of those due after this one; null '
    'where none is for weeks.';
-- The last business date that is planned gets its own when the plan goes on.
with first_due as (
    select slo_id, load_id, entry_no, business_date, min(expected_end_at) as due_at
    from catalog.promise group by slo_id, load_id, entry_no, business_date
),
followed as (
    select *, lead(due_at) over (
        partition by slo_id, load_id, entry_no order by business_date
    ) as following_at
    from first_due
)
update catalog.promise set next_due_at = case
    when followed.following_at > promise.expected_end_at then followed.following_at
    else (
        select min(later.expected_end_at) from catalog.promise as later
        where (later.slo_id, later.load_id, later.entry_no) = (promise.slo_id, promise.load_id, promise.entry_no)
            and later.business_date between promise.business_date + 1 and promise.business_date + 14
        group by later.business_date
        having min(later.expected_end_at) > promise.expected_end_at
        order by later.business_date limit 1
    )
end
from followed
where (followed.slo_id, followed.load_id, followed.entry_no, followed.business_date)
    = (promise.slo_id, promise.load_id, promise.entry_no, promise.business_date)
    and followed.following_at is not null;

reset role;
"""

OPERATIONS = """
set local role operate;
alter table ops.evaluation add column missed_before timestamptz not null default '-infinity';
comment on column ops.evaluation.missed_before is
    'Incidents of what was given up by then end without a word: an upgrade is no news.';
reset role;
update ops.evaluation set missed_before = (select published_as_of from control.tick);
"""


def upgrade() -> None:
    for statements in (CATALOG, OPERATIONS):
        run(statements)
