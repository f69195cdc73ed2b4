{#-
  Which periods of a model of values are to be computed: grain, period_start, period_end, start_date, last_date, period, is_gone (before
  the first that there is). Of `spec`: timezone, grains, retention (how many of a grain are kept), fills_gaps, is_bounded (they go up to
  the tick's and no further, and open by time alone), reads (state, clocks, relation, and what kpi_begins asks for).

  Parameters of the engine: as_of and before (instants: that of the tick, and up to which time has been looked at), is_full (all periods,
  or those over what was touched and those that time has opened), kpis (the ids of those at work). What was touched stands in
  `kpi_bucket` by the name of its clock. By the name of a grain there may stand instants: the period around each is asked for.
-#}
{% macro kpi_periods(spec) %}
    {%- set zone = kpi_text(spec.timezone) -%}
    {%- set has_hours = "hour" in spec.grains -%}
    {%- set has_dates = spec.grains != ["hour"] %}
    with
        {%- for read in spec.reads %}
            touched_{{ loop.index0 }} as materialized(
                select bucket_at
                from {{ kpi_states(read.state) }}
                where %(is_full)s
                union
                select bucket_at
                from kpi_bucket
                where not %(is_full)s and bucket_at > '-infinity' and {{ kpi_is_clock([read]) }}
            ),
        {%- endfor %}
        {%- if spec.fills_gaps %} first_bucket as materialized({{ kpi_first_bucket(spec) }}), {%- endif %}
        {%- if has_hours %}
            hour as materialized({{ kpi_due(spec, "hour", kpi_hour(spec)) }}),
            hour_start as materialized(
                select distinct s
                from ({{ kpi_hour_starts(spec) }}) as starts(s)
                cross join hour
                where {{ kpi_is_kept(spec) }}
            ),
            hours as ({{ kpi_hours(zone, "select s from hour_start") }}) {{ "," if has_dates }}
        {%- endif %}
        {%- if has_dates %}
            grain as materialized({{ kpi_due(spec, "grain", kpi_grains(spec)) }}),
            start as materialized(
                select distinct grain, s, step
                from ({{ kpi_starts(spec) }}) as starts(grain, s)
                inner join grain using (grain)
                where {{ kpi_is_kept(spec) }}
            ),
            dates as ({{ kpi_dates(zone, "select grain, s, step from start") }})
        {%- endif %}
    {%- if has_hours %}
        {%- if spec.fills_gaps %} select hours.*, period_start < first as is_gone from hours cross join hour
        {%- else %} select *, false as is_gone from hours
        {%- endif %}
        {%- endif %} {{ "union all" if has_hours and has_dates }}
    {%- if has_dates %}
        {%- if spec.fills_gaps %}
            select dates.*, period_start < {{ kpi_begin_of("first", zone) }} as is_gone
            from dates
            inner join grain using (grain)
        {%- else %} select *, false as is_gone from dates
        {%- endif %}
    {%- endif %}
{% endmacro %}

{% macro kpi_is_clock(reads) -%}
    clock in (
        {%- for read in reads -%}
            {%- set is_last = loop.last -%}
            {%- for clock in read.clocks -%}
                {{ kpi_text(clock) }} {{- ", " if not (loop.last and is_last) -}}
            {%- endfor -%}
        {%- endfor -%}
    )
{%- endmacro %}

{#-
  A row for each grain but the hour, and one for the hour: newest (the start of the period around as_of), newest_before, kept_from (the start
  of the oldest that is kept; null: all are). Starts of hours are instants, others local timestamps.
-#}
{% macro kpi_grains(spec) %}
    {%- set zone = kpi_text(spec.timezone) %}
    select *, newest - (kept - 1) * step as kept_from
    from
        (
            select
                grain,
                {{ kpi_step_by("grain", spec.grains) }} as step,
                {{ kpi_local_start("grain.grain", "%(as_of)s", zone) }} as newest,
                case
                    when %(before)s > '-infinity'
                    then {{ kpi_local_start("grain.grain", "%(before)s", zone) }}
                end as newest_before,
                {% if spec.retention %}
                    case
                        grain
                        {%- for grain, count in spec.retention.items() %}
                            when {{ kpi_text(grain) }} then {{ count }}
                        {%- endfor %}
                    end
                {% else %} null::integer
                {% endif %} as kept
            from
                unnest(
                    array[
                        {%- for grain in spec.grains if grain != "hour" -%}
                            {{ kpi_text(grain) }} {{- ", " if not loop.last -}}
                        {%- endfor -%}
                    ]
                ) as grain
        ) as grain
{% endmacro %}

{% macro kpi_hour(spec) %}
    {%- set zone = kpi_text(spec.timezone) %}
    select
        *,
        {%- if spec.retention.hour %}
            kpi.hour_start(newest - {{ spec.retention.hour - 1 }} * {{ kpi_step("hour") }}, {{ zone }})
        {%- else %} null::timestamptz
        {%- endif %} as kept_from
    from
        (
            select
                'hour' as grain,
                kpi.hour_start(%(as_of)s, {{ zone }}) as newest,
                case
                    when %(before)s > '-infinity' then kpi.hour_start(%(before)s, {{ zone }})
                end as newest_before
        ) as hour
{% endmacro %}

{#-
  Of these the grains for which there is anything to do; where gaps are filled with `first`, the start of the first period that there is.
-#}
{% macro kpi_due(spec, name, grains) %}
    select
        *
        {%- if spec.fills_gaps %}
            ,
            coalesce(
                kept_from,
                least(
                    (
                        {%- if name == "hour" %}
                            select kpi.hour_start(bucket_at, {{ kpi_text(spec.timezone) }})
                        {%- else %}select date_trunc(grain.grain, day::timestamp)
                        {%- endif %}
                        from first_bucket
                    ),
                    newest
                )
            ) as first
        {%- endif %}
    from ({{ grains }}) as {{ name }}
    where
        %(is_full)s
        {%- if spec.is_bounded %} or newest is distinct from newest_before {%- endif %}
        or exists (select from kpi_bucket where clock = grain or {{ kpi_is_clock(spec.reads) }})
{% endmacro %}

{#- The first bucket that any source has, or before a purge had, a row in, and its local date; null without one. -#}
{% macro kpi_first_bucket(spec) %}
    select
        least(
            {%- for read in spec.reads -%}first_{{ loop.index0 }} {{- ", " if not loop.last -}} {%- endfor -%}
        ) as bucket_at,
        least(
            {%- for read in spec.reads -%}
                {{ kpi_day_of("first_" ~ loop.index0, kpi_zone_of(read, spec)) }}
                {{- ", " if not loop.last -}}
            {%- endfor -%}
        ) as day
    from
        (
            select
                {%- for read in spec.reads %}
                    least(
                        (select min(bucket_at) from {{ kpi_states(read.state) }}),
                        (
                            select min(hour_at)
                            from {{ source("control", "purged_hour") }}
                            where relation = {{ kpi_text(read.relation) }}
                        )
                    ) as first_{{ loop.index0 }} {{- "," if not loop.last }}
                {%- endfor %}
        ) as firsts
{% endmacro %}

{#- By which clocks a bucket has a date: one of dates is at their midnight in UTC, whatever the zone. -#}
{% macro kpi_zone_of(read, spec) -%} {{ kpi_text("UTC" if read.is_date else spec.timezone) }} {%- endmacro %}

{#- Which of the starts `s` are in bounds, whatever it was that asked for them. -#}
{% macro kpi_is_kept(spec) -%}
    s is not null and (kept_from is null or s >= kept_from)
    {%- if spec.is_bounded %} and s <= newest {%- endif %}
{%- endmacro %}

{#-
  The starts of hours. Of what was touched: the hours around it; all since, of what stands; those up to the end of the week, month or the
  like, of what came to date. (Windows of days, and dates, have no hours.)
-#}
{% macro kpi_hour_starts(spec) %}
    {%- set zone = kpi_text(spec.timezone) -%}
    {%- set start = "kpi.hour_start(bucket_at, " ~ zone ~ ")" %}
    select {{ start }}
    from kpi_bucket
    where clock = 'hour'
    {%- for read in spec.reads %}
        union all
        {%- if read.is_snapshot %}
            select kpi.hours(first, newest, {{ zone }})
            from (select min({{ start }}) as first from touched_{{ loop.index0 }}) as since
            cross join hour
        {%- elif read.to_date %}
            select s
            from
                (
                    select
                        min({{ start }}) as first,
                        {{ kpi_around_ends(read, kpi_day_of("bucket_at", zone)) }} as ends
                    from touched_{{ loop.index0 }}
                    group by 2
                ) as span
            cross join hour
            cross join kpi.hours(span.first, least({{ kpi_begin_of("ends", zone) }}, newest), {{ zone }}) as s
            where s < {{ kpi_begin_of("ends", zone) }}
        {%- else %} select {{ start }} from touched_{{ loop.index0 }}
        {%- endif %}
    {%- endfor %}
    {%- if spec.is_bounded %}
        union all
        select kpi.hours(kpi.hour_end(newest_before, {{ zone }}), newest, {{ zone }})
        from hour
        where not %(is_full)s
    {%- endif %}
    {%- if spec.fills_gaps %}
        union all
        select kpi.hours(begins, ends, {{ zone }})
        from ({{ kpi_gaps(spec, "hour") }}) as gap
    {%- endif %}
{% endmacro %}

{#- The starts of periods of the other grains, by grain; a window of days is over where its last day is that of the period, or later. -#}
{% macro kpi_starts(spec) %}
    select grain, {{ kpi_local_start("grain.grain", "bucket_at", kpi_text(spec.timezone)) }}
    from grain
    inner join kpi_bucket on clock = grain
    {%- for read in spec.reads %}
        union all
        {%- set days -%}
            (
                select distinct {{ kpi_day_of("bucket_at", kpi_zone_of(read, spec)) }} as day
                from touched_{{ loop.index0 }}
            )
        {%- endset %}
        {%- if read.is_snapshot %}
            select grain, generate_series(date_trunc(grain.grain, since.day::timestamp), newest, step)
            from grain
            cross join (select min(day) as day from {{ days }} as days) as since
        {%- elif read.days %}
            select grain, s
            from grain
            cross join {{ days }} as touched
            cross join
                generate_series(
                    date_trunc(grain.grain, touched.day::timestamp),
                    (touched.day + {{ read.days - 1 }})::timestamp,
                    step
                ) as s
            where (s + step)::date - 1 between touched.day and touched.day + {{ read.days - 1 }}
        {%- elif read.to_date %}
            select grain, s
            from grain
            cross join
                (
                    select min(day) as day, {{ kpi_around_ends(read, "day") }} as ends
                    from {{ days }} as days
                    group by 2
                ) as span
            cross join
                generate_series(date_trunc(grain.grain, span.day::timestamp), least(ends, newest), step) as s
            where s < ends
        {%- else %}
            select grain, date_trunc(grain.grain, touched.day::timestamp)
            from grain
            cross join {{ days }} as touched
        {%- endif %}
    {%- endfor %}
    {%- if spec.is_bounded %}
        union all
        select grain, generate_series(newest_before + step, newest, step)
        from grain
        where not %(is_full)s
    {%- endif %}
    {%- if spec.fills_gaps %}
        union all
        select grain, generate_series(begins, ends, step)
        from ({{ kpi_gaps(spec, "grain") }}) as gap
    {%- endif %}
{% endmacro %}

{#- Where the week, month or the like around a date ends, up to which it counts. -#}
{% macro kpi_around_ends(read, day) -%}
    date_trunc({{ kpi_text(read.to_date) }}, {{ day }}::timestamp) + {{ kpi_step(read.to_date) }}
{%- endmacro %}

{#-
  From which start to which gaps are to be filled: all, or between the first period that has a value and the first that has to be. What the
  engine fills by these models is no source of theirs in the lineage.
-#}
{% macro kpi_gaps(spec, name) %}
    select {{ name }}.*, first as begins, newest as ends
    from {{ name }}
    where %(is_full)s
    union all
    select {{ name }}.*, least(first, stands) as begins, greatest(first, stands) as ends
    from {{ name }}
    cross join
        lateral(
            select min(each.period_start) as stands_at
            from unnest(%(kpis)s) as kpi_id
            cross join
                lateral(
                    select min(period_start) as period_start
                    from kpi.period_value
                    where period_value.kpi_id = kpi_id.kpi_id and period_value.grain = {{ name }}.grain
                ) as each
        ) as value
    cross join
        lateral(
            select
                {% if name == "hour" %} stands_at
                {% else %} {{ kpi_local_start("grain.grain", "stands_at", kpi_text(spec.timezone)) }}
                {% endif %} as stands
            offset 0
        ) as standing
    where not %(is_full)s and first <> stands
{% endmacro %}

{#- Periods that are kept no longer: a delete, of the KPIs in the parameter kpis. -#}
{% macro kpi_expired(spec) %}
    {%- set zone = kpi_text(spec.timezone) %}
    delete from kpi.period_value
    where
        kpi_id = any(%(kpis)s)
        and (
            {%- for grain in spec.retention %}
                (
                    grain = {{ kpi_text(grain) }}
                    {%- if grain == "hour" %}
                        and period_start < (select kept_from from ({{ kpi_hour(spec) }}) as hour)
                    {%- else %}
                        and period_start < (
                            select {{ kpi_begin_of("kept_from", zone) }}
                            from ({{ kpi_grains(spec) }}) as grain
                            where grain.grain = {{ kpi_text(grain) }}
                        )
                    {%- endif %}
                )
                {{ "or" if not loop.last }}
            {%- endfor %}
        )
{% endmacro %}

{#-
  Which periods stay as they are, for KPIs of the parameter kpis: those that read an hour that was purged, by any window of theirs. Of the
  periods at hand, and by the parameter has_standing of those that have a value. Of `spec.sealed`, pieces with `of`: which KPIs (kpi_id)
  read which parts (none: any) of which relation by it.
-#}
{% macro kpi_sealed(spec) %}
    {%- for piece in spec.sealed %}
        select read.kpi_id, p.grain, p.period_start
        from
            (
                values
                    {%- for read in piece.of %}
                        (
                            {{ kpi_text(read.kpi_id) }},
                            {{ kpi_text(read.relation) }},
                            {% if read.parts is none %} null::text[]
                            {% else %}
                                array[
                                    {%- for part in read.parts -%}
                                        {{ kpi_text(part) }} {{- ", " if not loop.last -}}
                                    {%- endfor -%}
                                ]
                            {% endif %}
                        )
                        {{- "," if not loop.last }}
                    {%- endfor %}
            ) as read(kpi_id, relation, parts)
        inner join
            (
                select null as kpi_id, grain, period_start, period_end, start_date, last_date
                from kpi_period
                union all
                select
                    kpi_id,
                    grain,
                    period_start,
                    period_end,
                    start_date,
                    case
                        grain
                        when 'hour'
                        then start_date
                        else (start_date + {{ kpi_step_by("grain") }})::date - 1
                    end as last_date
                from kpi.period_value
                where %(has_standing)s and kpi_id = any(%(kpis)s)
            ) as p
            on coalesce(p.kpi_id, read.kpi_id) = read.kpi_id
        where
            read.kpi_id = any(%(kpis)s)
            and exists (
                select
                from {{ source("control", "purged_hour") }} as purged
                where
                    purged.relation = read.relation
                    and purged.part = any(coalesce(read.parts, array[purged.part]) || ''::text)
                    and purged.hour_at >= {{ kpi_begins(piece, spec) }}
                    and purged.hour_at < {{ kpi_ends(piece) }}
            )
            {{ "union" if not loop.last }}
    {%- endfor %}
{% endmacro %}

{#- What the periods at hand read of each source: its place among `spec.reads`, from and before which instant. -#}
{% macro kpi_needs(spec) %}
    {%- for read in spec.reads %}
        select
            {{ loop.index0 }} as piece,
            p.period_start,
            p.period_end,
            {{ kpi_begins(read, spec) }} as needs_from,
            {{ kpi_ends(read) }} as needs_before
        from kpi_period as p {{ "union all" if not loop.last }}
    {%- endfor %}
{% endmacro %}
