{#-
  Where SLOs without `effective_from` start: the first business date that opens it, by the rule of control.opens_slo, and
  the lone ones before, which open nothing. Of `versions` with an open start, one row for each that has a date at all.
  `seen`: relations that together hold the jobs' dates that have a visible status, up to `high` and `as_of`.
-#}
{% macro open_starts(versions, seen, high, as_of) -%}
    {%- set following_of -%}
        control.opens_slo(
            slo_id, load_id, entry_no, business_date, following, {{ high }}, {{ high }}, {{ as_of }}
        )
    {%- endset -%}
    with recursive
        begun as (
            select version.slo_id, version.load_id, version.entry_no, first_date.business_date
            from {{ versions }} as version
            cross join lateral({{ next_business_date("version", "'-infinity'::date", seen) }}) as first_date
            where version.is_open_start and first_date.business_date is not null
        ),

        candidate as (
            select *, {{ following_of }} as is_opening
            from
                (
                    select begun.*, after.business_date as following
                    from begun
                    cross join
                        lateral({{ next_business_date("begun", "begun.business_date", seen) }}) as after
                ) as first_of_all
            union all
            select *, {{ following_of }}
            from
                (
                    select
                        before.slo_id,
                        before.load_id,
                        before.entry_no,
                        before.following as business_date,
                        after.business_date as following
                    from candidate as before
                    cross join lateral({{ next_business_date("before", "before.following", seen) }}) as after
                    where not before.is_opening and before.following is not null
                ) as next_one
        )

    select
        slo_id,
        load_id,
        entry_no,
        min(business_date) filter (where is_opening) as start_date,
        coalesce(
            array_agg(business_date order by business_date) filter (where not is_opening), '{}'
        ) as lone_dates
    from candidate
    group by slo_id, load_id, entry_no
{%- endmacro %}

{#-
  The first business date of a version's jobs after `after`, null without one: a look at an index for each job and
  relation.
-#}
{% macro next_business_date(version, after, seen) -%}
    select
        min(
            least(
                {%- for relation in seen %}
                    (
                        select seen.business_date
                        from {{ relation }} as seen
                        where
                            seen.application_id = slo_job.application_id
                            and seen.job_id = slo_job.job_id
                            and seen.business_date > {{ after }}
                        order by seen.business_date
                        limit 1
                    ){{ "," if not loop.last }}
                {%- endfor %}
            )
        ) as business_date
    from {{ source("catalog", "slo_job") }} as slo_job
    where
        slo_job.slo_id = {{ version }}.slo_id
        and slo_job.load_id = {{ version }}.load_id
        and slo_job.entry_no = {{ version }}.entry_no
{%- endmacro %}

{#- Jobs' dates that have a visible status now: those of the scope, and those before that nothing took away. -#}
{% macro seen_now() -%}
    {%- set before -%}
        {{
            published(
                "job_run",
                {"application_id": 'text collate "C"', "job_id": 'text collate "C"', "business_date": "date"},
            )
        }}
    {%- endset -%}
    {%- set visible -%}
        (select application_id, job_id, business_date from {{ ref("scope_job_date") }} where is_visible)
    {%- endset -%}
    {%- set kept -%}
        (
            select before.application_id, before.job_id, before.business_date
            from {{ before }} as before
            where
                not exists (
                    select
                    from {{ ref("scope_job_date") }} as gone
                    where
                        gone.application_id = before.application_id
                        and gone.job_id = before.job_id
                        and gone.business_date = before.business_date
                        and not gone.is_visible
                )
        )
    {%- endset -%}
    {{ return([visible, kept]) }}
{%- endmacro %}

{#- Where SLOs started as the last tick left it. -#}
{% macro starts_before() -%}
    {{
        published(
            "slo_start",
            {
                "slo_id": 'text collate "C"',
                "load_id": "bigint",
                "entry_no": "integer",
                "start_date": "date",
            },
        )
    }}
{%- endmacro %}
