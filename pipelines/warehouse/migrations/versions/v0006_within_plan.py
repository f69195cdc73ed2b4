"""A question about a moment for which no promises were made yet is refused, not answered in part."""

from pipelines.warehouse.migrations import run

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run("""
set local role transform;
create function control.within_plan(as_of timestamptz) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    -- a tick sees to promises for four weeks past its own moment
    reach timestamptz := (select greatest(tick.published_as_of, tick.as_of) + interval '27 days' from control.tick);
begin
    if as_of > reach then
        raise exception 'Promises are made up to %, and % is past that.', reach, as_of
            using hint = 'Ask again when a tick has come nearer to it; an answer in part would change later.';
    end if;
    return as_of;
end $$;
comment on function control.within_plan is 'The moment itself, if promises reach past it; else an error.';
reset role;
""")
