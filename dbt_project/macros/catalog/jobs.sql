{#- Jobs as the newest catalog up to the load `high` has them. -#}
{% macro jobs_of(high) -%}
    select distinct on (application_id, job_id) *
    from {{ source("catalog", "job_version") }}
    where load_id <= {{ high }}
    order by application_id, job_id, load_id desc
{%- endmacro %}

{#- Whom each of these jobs waits for: a row for each. -#}
{% macro edges_of(jobs) -%}
    select
        job.application_id,
        job.job_id,
        (upstream ->> 0) collate "C" as upstream_application_id,
        (upstream ->> 1) collate "C" as upstream_job_id
    from {{ jobs }} as job
    cross join jsonb_array_elements(job.depends_on) as upstream
{%- endmacro %}

{#-
  The same of the newest catalog up to the load `high`, with the place of whom they wait for: steps on the longest way from
  a job that waits for nothing.
-#}
{% macro standing_edges(high) -%}
    with
        newest as ({{ jobs_of(high) }}),

        standing as (
            select application_id, job_id, upstream_rank, spec -> 'depends_on' as depends_on
            from newest
            where not is_retired
        ),

        -- by itself, or the planner would look for the ranks job by job
        edge as materialized({{ edges_of("standing") }})

    select edge.*, upstream.upstream_rank
    from edge
    inner join
        standing as upstream
        on edge.upstream_application_id = upstream.application_id
        and edge.upstream_job_id = upstream.job_id
{%- endmacro %}

{#- The two halves of application/job: ids of applications have no slash, those of jobs may. -#}
{% macro application_of(job) -%} split_part({{ job }}, '/', 1) collate "C" {%- endmacro %}

{% macro job_of(job) -%} substr({{ job }}, strpos({{ job }}, '/') + 1) collate "C" {%- endmacro %}
