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
        upstream ->> 0 as upstream_application_id,
        upstream ->> 1 as upstream_job_id
    from {{ jobs }} as job
    cross join jsonb_array_elements(job.depends_on) as upstream
{%- endmacro %}
