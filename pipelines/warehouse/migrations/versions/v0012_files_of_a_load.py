"""Several files in one load; rejections that are only counted; quarantined files that went."""

from pipelines.warehouse.migrations import run

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    run("""
set local role ingest;
alter table raw.landed_file drop constraint landed_file_status_check;
alter table raw.landed_file add constraint landed_file_status_check
    check (status in ('loaded', 'duplicate', 'quarantined', 'gone'));
alter table raw.landed_file
    -- Until now a load had one file, whose rows are numbered from 0.
    add column first_seq bigint not null default 0,
    add column rejected_kept bigint;
comment on column raw.landed_file.first_seq is
    'Of a file that was loaded: its rows are those of its load with seq from first_seq to first_seq + record_count - 1.';
comment on column raw.landed_file.rejected_kept is
    'How many of its rejected records stand in rejected_record; null: all.';
create index landed_file_quarantined on raw.landed_file (feed, path) where status = 'quarantined';
create index landed_file_load on raw.landed_file (load_id) where status = 'loaded';
alter table raw.log_read add column rejected_kept bigint;
comment on column raw.log_read.rejected_kept is
    'How many of the rejected lines stand in rejected_record; null: all.';
reset role;
""")
