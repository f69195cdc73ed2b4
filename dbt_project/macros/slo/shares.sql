{#-
  What shares and budgets count: of the SLOs in `scope` that stand, the occurrences that were due by `as_of`, of the last
  `dates` business dates that have any. Never a scan: for each SLO the newest entries of an index.
  Columns: slo_id, objective, timezone, business_date, slot, expected_end_at, is_miss, late_by, date_rank (1: the newest).
-#}
{% macro counted_occurrences(scope, performance, dates, high, as_of) -%}
    {#- what ended before it is due is not due yet -#}
    {%- set is_counted -%}
        performance.expected_end_at < {{ as_of }}
        and performance.outcome in ('on_time', 'late', 'overdue', 'missed')
    {%- endset %}
    select
        scope.slo_id,
        version.objective,
        version.timezone,
        counted.business_date,
        counted.slot,
        counted.expected_end_at,
        counted.outcome <> 'on_time' as is_miss,
        counted.late_by,
        counted.date_rank::integer as date_rank
    from {{ scope }} as scope
    cross join
        lateral(
            select is_retired, objective, timezone
            from {{ source("catalog", "slo_version") }} as version
            where version.slo_id = scope.slo_id and version.load_id <= {{ high }}
            order by load_id desc, applies_from desc, entry_no desc
            limit 1
        ) as version
    cross join
        lateral(
            -- by itself, because only a limit keeps the planner from reading all dates of an SLO
            select min(business_date) as first_date
            from
                (
                    select distinct performance.business_date
                    from {{ performance }} as performance
                    where performance.slo_id = scope.slo_id and {{ is_counted }}
                    order by performance.business_date desc
                    limit {{ dates }}
                ) as newest
        ) as within
    cross join
        lateral(
            select
                business_date,
                slot,
                expected_end_at,
                outcome,
                late_by,
                dense_rank() over (order by business_date desc) as date_rank
            from {{ performance }} as performance
            where
                performance.slo_id = scope.slo_id
                and performance.business_date >= within.first_date
                and {{ is_counted }}
        ) as counted
    where not version.is_retired
{%- endmacro %}

{#- How many of an SLO's occurrences that fell due from `first_date` on are left out, because they are waived. -#}
{% macro waived_since(slo_id, first_date, performance, as_of) -%}
    (
        select count(*)::integer
        from {{ performance }} as waived
        where
            waived.slo_id = {{ slo_id }}
            and waived.business_date >= {{ first_date }}
            and waived.is_waived
            and waived.expected_end_at < {{ as_of }}
    )
{%- endmacro %}

{#- One end of Wilson's 95 % interval of the share `hits` of `total`: `sign` is + or -. -#}
{% macro wilson(hits, total, sign) -%}
    {%- set z = "1.959963984540054" -%}
    round(
        (
            {{ hits }}::numeric / {{ total }} + {{ z }} * {{ z }} / (2 * {{ total }}) {{ sign }}
            {{ z }} * sqrt(
                {{ hits }}::numeric / {{ total }} * (1 - {{ hits }}::numeric / {{ total }}) / {{ total }}
                + {{ z }} * {{ z }} / (4 * {{ total }}::numeric * {{ total }})
            )
        )
        / (1 + {{ z }} * {{ z }} / {{ total }}),
        6
    )
{%- endmacro %}
