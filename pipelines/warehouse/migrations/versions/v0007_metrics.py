"""Followed logs: how far each is read, and the facts that came of them; what packages and indicators there are."""

from pipelines.warehouse.migrations import run

revision = "0007"
down_revision = "0006"

FOLLOWING = """
set local role ingest;

create table raw.log_stream (
    stream_id bigint generated always as identity primary key,
    feed text not null,
    first_seen_at timestamptz not null default clock_timestamp()
);
create index log_stream_feed on raw.log_stream (feed);
comment on table raw.log_stream is 'One row per log that is followed, whatever its file is called by now.';

create table raw.log_read (
    log_read_id bigint generated always as identity primary key,
    feed text not null,
    path text not null,
    inode text not null,
    size_bytes bigint not null,
    modified_at timestamptz not null,
    stream_id bigint,
    is_copy boolean not null default false,
    is_drained boolean not null,
    load_id bigint,
    from_offset bigint not null,
    to_offset bigint not null check (to_offset >= from_offset),
    line_count bigint not null,
    head_length integer not null,
    head_sha256 text not null,
    tail_sha256 text not null,
    record_count bigint not null default 0,
    rejected_count bigint not null default 0,
    row_count bigint not null default 0,
    read_at timestamptz not null default clock_timestamp()
);
create index log_read_stream on raw.log_read (stream_id, log_read_id);
create index log_read_path on raw.log_read (feed, path, log_read_id);
create index log_read_load on raw.log_read (load_id);
comment on table raw.log_read is
    'Ledger of followed logs: the newest row of a stream that is no copy is its position. It is written in the transaction '
    'of what was read. Offsets and line_count are of the unpacked bytes; is_drained: read to the end of the file as '
    'size_bytes and modified_at show it; stream_id is null while a file has no whole line.';

create table raw.metric_input (
    load_id bigint not null,
    seq integer not null,
    input text collate "C" not null,
    minute_at timestamptz not null,
    dimension text collate "C",
    amount bigint not null
) partition by range (minute_at);
comment on table raw.metric_input is
    'What lines of logs say, summed per load, input, minute and dimension. Nothing of who was there.';
create index metric_input_minute on raw.metric_input (minute_at);
create index metric_input_load on raw.metric_input (load_id);
create table raw.metric_input_before_1990 partition of raw.metric_input
    for values from (minvalue) to ('1990-01-01T00:00Z');
create table raw.metric_input_from_2100 partition of raw.metric_input
    for values from ('2100-01-01T00:00Z') to (maxvalue);

create table raw.feed_read (
    feed text primary key,
    began_at timestamptz not null
);
comment on table raw.feed_read is
    'When the newest ingest that saw all of a feed''s folder began, also if nothing new was there.';

create table catalog.package_version (
    url text collate "C" not null,
    load_id bigint not null,
    is_retired boolean not null,
    spec jsonb not null,
    primary key (url, load_id)
);
create table catalog.indicator_version (
    indicator_id integer not null check (indicator_id between 1001 and 1999),
    load_id bigint not null,
    is_retired boolean not null,
    spec jsonb not null,
    primary key (indicator_id, load_id)
);
comment on table catalog.indicator_version is
    'The registered indicators: name, inputs, whether by dimension, and the SQL aggregate over an hour''s minutes.';

reset role;
"""

FAILURES = """
set local role transform;

create table control.indicator_failure (
    indicator_id integer not null,
    load_id bigint not null,
    message text not null,
    failed_at timestamptz not null default clock_timestamp(),
    primary key (indicator_id, load_id, message)
);
comment on table control.indicator_failure is
    'Indicators that could not be computed, by the load of their definition; the others went on.';

-- An indicator that fails must not stop the others, nor the tick: it has no rows, and is told of.
create function control.indicator_values(indicator_id integer, definition_load_id bigint, query text)
returns table (hour_at timestamptz, dimension text, value bigint)
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    return query execute query;
exception
    when query_canceled or serialization_failure or deadlock_detected or insufficient_resources then raise;
    when others then
        insert into control.indicator_failure (indicator_id, load_id, message)
        values (indicator_values.indicator_id, definition_load_id, sqlerrm)
        on conflict on constraint indicator_failure_pkey do update set failed_at = excluded.failed_at;
end $$;
comment on function control.indicator_values is 'The rows of an indicator''s query; none, and a failure noted, where it fails.';
reset role;
"""


def upgrade() -> None:
    for statements in (FOLLOWING, FAILURES):
        run(statements)
