"""OpenLineage: events as they came, and which statuses follow from them."""

from pipelines.warehouse.migrations import run

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    run("""
set local role ingest;

create table raw.openlineage_event (
    load_id bigint not null,
    seq integer not null,
    line_no bigint not null,
    event_date date not null,
    digest text collate "C" not null,
    kind text not null check (kind in ('run', 'job', 'dataset')),
    state text collate "C",
    event_at timestamptz not null,
    namespace text collate "C",
    job_id text collate "C",
    application_id text collate "C",
    run_id text collate "C",
    parent_run_id text collate "C",
    root_run_id text collate "C",
    nominal_at timestamptz,
    tag_date date,
    is_streaming boolean not null,
    edges jsonb not null,
    document text not null
) partition by range (event_date);
comment on table raw.openlineage_event is
    'OpenLineage events, whole, with what statuses and the graph of jobs follow from. Every copy; digest is the sha256 of '
    'the event with its keys in order.';
create index openlineage_event_load on raw.openlineage_event (load_id);
create index openlineage_event_digest on raw.openlineage_event (digest);
create index openlineage_event_run on raw.openlineage_event (run_id);
create index openlineage_event_parent on raw.openlineage_event (parent_run_id) where parent_run_id is not null;
create index openlineage_event_root on raw.openlineage_event (root_run_id) where root_run_id is not null;
create table raw.openlineage_event_before_1990 partition of raw.openlineage_event
    for values from (minvalue) to ('1990-01-01');
create table raw.openlineage_event_from_2100 partition of raw.openlineage_event
    for values from ('2100-01-01') to (maxvalue);

create table raw.openlineage_status (
    load_id bigint not null,
    seq integer,
    run_id text collate "C" not null,
    namespace text collate "C" not null,
    job_id text collate "C" not null,
    application_id text collate "C" not null,
    status_code text collate "C" not null,
    status_at timestamptz not null,
    business_date date not null,
    business_date_rule text not null check (business_date_rule in ('tag', 'nominal_time', 'parent', 'root', 'cut_off'))
);
create index openlineage_status_run on raw.openlineage_status (run_id);
create index openlineage_status_row on raw.openlineage_status (load_id, seq);
comment on table raw.openlineage_status is
    'Journal: which job status (load_id, seq) followed from which run of OpenLineage, and how its business date was found; '
    'seq is null where the status broke its contract. What does not follow any more, by what came later, stands in raw.unload.';
reset role;
""")
