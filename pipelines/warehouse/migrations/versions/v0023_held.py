"""What is held back in a storm, until the route's next digest."""

from pipelines.warehouse.migrations import run

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    run("""
set local role operate;
create table ops.held (
    route text collate "C" not null,
    incident_id bigint not null,
    event text not null check (event in ('opened', 'repeated', 'escalated', 'resolved', 'back_on_track')),
    primary key (route, incident_id)
);
comment on table ops.held is
    'What each route is told in its next digest, while more comes than anybody reads one by one; empty otherwise.';
reset role;
""")
