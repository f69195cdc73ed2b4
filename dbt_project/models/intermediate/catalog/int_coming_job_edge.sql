{{ config(materialized="view", schema="intermediate") }}

with
    newest as ({{ jobs_of(tick("high")) }}),

    standing as (
        select application_id, job_id, spec -> 'depends_on' as depends_on from newest where not is_retired
    )

    {{ edges_of("standing") }}
