"""What was purged, hour by hour; hours and days of zones whose clocks change oddly."""

from pipelines.warehouse.migrations import run

revision = "0017"
down_revision = "0016"

PURGED = """
set local role transform;

create table control.purged_hour (
    relation text collate "C" not null,
    part text collate "C" not null,
    hour_at timestamptz not null,
    load_id bigint not null,
    primary key (relation, part, hour_at)
);
comment on table control.purged_hour is
    'Hours whose rows were taken out of a mart because they were old, each noted in the transaction that did so. part: the indicator; '
    'empty: all. load_id: the last load that was counted there; what comes later is too late.';
create index purged_hour_hour on control.purged_hour (relation, hour_at);
reset role;
"""

# Before, a date alone said what was purged. Of what is in raw, that is these hours; of periods that raw has nothing of any
# more, the first hour stands for all.
BEFORE = """
set local role transform;
do $before$
declare
    sealed timestamptz := (select max(sealed_before) from kpi.clock where relation = 'marts.indicator_record');
    looked_at bigint := (select published_high from control.tick);
begin
    if sealed is null or sealed = '-infinity' then
        return;
    end if;
    insert into control.purged_hour
    select distinct 'marts.indicator_record', indicator_id::text, date_trunc('hour', minute_at, 'UTC'), looked_at
    from raw.metric_input
    inner join catalog.indicator_version on spec -> 'inputs' ? metric_input.input
    where date_trunc('hour', minute_at, 'UTC') < sealed and metric_input.load_id <= looked_at;
    insert into control.purged_hour
    select distinct 'marts.indicator_record', '', period_start, looked_at
    from kpi.period_value
    inner join kpi.kpi using (kpi_id)
    where kpi.spec -> 'clocks' ? 'marts.indicator_record:hour_at' and period_start < sealed
        and not exists (
            select from raw.metric_input
            where minute_at >= period_start and minute_at < least(period_end, sealed) and load_id <= looked_at
        );
end $before$;
alter table kpi.clock drop column sealed_before;
comment on table kpi.clock is
    'Tables that KPIs read, by time column. read_at: the newest successful read of their feeds began then; open_from: the earliest '
    'occurrence that is not due.';
reset role;
"""

NUMBERS = """
set local role transform;
create function kpi.middle_one(three double precision[]) returns numeric
language sql stable parallel safe
return case
    when abs(three[1]) < 'Infinity' and abs(three[3]) < 'Infinity' then three[2]::numeric
    when three is not null then 'NaN'
end;
comment on function kpi.middle_one is 'The second of three numbers in order; NaN where any that lie between them is no number.';
reset role;
"""

# Bodies that are parsed here, so that who reads a mart needs no right to the schema. None is immutable: zones change.
CLOCKS = """
create function kpi.clock_change(low timestamptz, high timestamptz, zone text) returns timestamptz
language plpgsql stable strict parallel safe as $$
declare
    middle timestamptz;
    until interval;
begin
    -- Clocks change at whole seconds.
    low := date_trunc('second', low);
    high := date_trunc('second', high);
    until := (low at time zone zone) - (low at time zone 'UTC');
    while high - low > interval '1 second' loop
        middle := date_trunc('second', low + (high - low) / 2);
        if (middle at time zone zone) - (middle at time zone 'UTC') = until then
            low := middle;
        else
            high := middle;
        end if;
    end loop;
    return high;
end $$;
comment on function kpi.clock_change is 'When the clocks of a zone changed in (low, high]; there is one change there.';

create function kpi.local_time(moment timestamptz, zone text) returns timestamp
language sql stable parallel safe
return case
    when (moment at time zone zone) - ((moment - interval '25 hours') at time zone zone) >= interval '25 hours'
    then moment at time zone zone
    else greatest(
        moment at time zone zone,
        date_trunc('day', (kpi.clock_change(moment - interval '25 hours', moment, zone) - interval '1 microsecond')
            at time zone zone)
    )
end;
comment on function kpi.local_time is 'What clocks of a zone show; its date never goes back, also where clocks are put back over midnight.';

create or replace function kpi.day_start(day date, zone text) returns timestamptz
language sql stable parallel safe
return case
    when (((day::timestamp + interval '2 days') at time zone 'UTC') at time zone zone)
        - (((day::timestamp - interval '2 days') at time zone 'UTC') at time zone zone) = interval '4 days'
    then day::timestamp at time zone zone
    -- by the clock before the change; where that did not come to midnight, by the clock after it
    when kpi.clock_change((day::timestamp - interval '2 days') at time zone 'UTC',
            (day::timestamp + interval '2 days') at time zone 'UTC', zone)
        > (day::timestamp - ((((day::timestamp - interval '2 days') at time zone 'UTC') at time zone zone)
            - (day::timestamp - interval '2 days'))) at time zone 'UTC'
    then (day::timestamp - ((((day::timestamp - interval '2 days') at time zone 'UTC') at time zone zone)
        - (day::timestamp - interval '2 days'))) at time zone 'UTC'
    else greatest(
        (day::timestamp - ((((day::timestamp + interval '2 days') at time zone 'UTC') at time zone zone)
            - (day::timestamp + interval '2 days'))) at time zone 'UTC',
        kpi.clock_change((day::timestamp - interval '2 days') at time zone 'UTC',
            (day::timestamp + interval '2 days') at time zone 'UTC', zone)
    )
end;
comment on function kpi.day_start is
    'The first instant of a local date in a zone; of a date that the zone skipped, the first of the next one.';

create function kpi.hour_start(moment timestamptz, zone text) returns timestamptz
language sql stable parallel safe
return case
    when (moment at time zone zone) - ((moment - interval '1 hour') at time zone zone) = interval '1 hour'
    then date_trunc('hour', moment, zone)
    else greatest(
        date_trunc('hour', moment, zone), kpi.clock_change(moment - interval '1 hour', moment, zone)
    )
end;
comment on function kpi.hour_start is
    'Where the hour around an instant begins that clocks of a zone show: at its full hour, or where they were changed within it.';

create function kpi.hour_end(moment timestamptz, zone text) returns timestamptz
language sql stable parallel safe
return case
    when ((date_trunc('hour', moment, zone) + interval '1 hour' - interval '1 microsecond') at time zone zone)
            - (moment at time zone zone)
        = date_trunc('hour', moment, zone) + interval '1 hour' - interval '1 microsecond' - moment
    then date_trunc('hour', moment, zone) + interval '1 hour'
    else kpi.clock_change(moment, date_trunc('hour', moment, zone) + interval '59 minutes 59 seconds', zone)
end;
comment on function kpi.hour_end is 'Where the hour around an instant ends.';

create function kpi.hours(first timestamptz, last timestamptz, zone text) returns setof timestamptz
language plpgsql stable strict parallel safe as $$
begin
    while first <= last loop
        return next first;
        first := kpi.hour_end(first, zone);
    end loop;
end $$;
comment on function kpi.hours is 'Where each hour of a zone begins, from the one that begins at `first` to `last`.';

reset role;
"""


def upgrade() -> None:
    for statements in (PURGED, BEFORE, NUMBERS, CLOCKS):
        run(statements)
