{{ config(materialized="view") }}

with recursive
    edge as materialized(
        select edge.application_id, edge.job_id, edge.upstream_application_id, edge.upstream_job_id
        from {{ ref("int_job_edge") }} as edge
    ),

    way as (
        select application_id, job_id, upstream_application_id, upstream_job_id, 1 as distance
        from edge
        union
        select
            way.application_id,
            way.job_id,
            edge.upstream_application_id,
            edge.upstream_job_id,
            way.distance + 1
        from way
        inner join
            edge on way.upstream_application_id = edge.application_id and way.upstream_job_id = edge.job_id
    )

select application_id, job_id, upstream_application_id, upstream_job_id, min(distance)::integer as distance
from way
group by application_id, job_id, upstream_application_id, upstream_job_id
