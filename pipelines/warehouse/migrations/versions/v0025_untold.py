"""Who has not been told of what is open, and since when."""

from pipelines.warehouse.migrations import run

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    run("""
set local role operate;
create table ops.untold (
    route text collate "C" not null,
    incident_id bigint not null,
    since timestamptz not null,
    primary key (route, incident_id)
);
comment on table ops.untold is
    'Open incidents of which a route that should hear of them has heard neither by themselves nor by their root, and since '
    'when: that lasts for a while only, whatever becomes of their group.';
reset role;
""")
