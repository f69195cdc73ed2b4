{{ config(materialized="view") }}

with
    newest as (
        select distinct on (application_id) application_id, is_retired, spec
        from {{ source("catalog", "application_version") }}
        where load_id <= {{ tick("published_high") }}
        order by application_id, load_id desc
    ),

    owner as (
        -- a retired application keeps its namespaces until another one has them
        select distinct
            on (namespace) coalesce(entry ->> 'name', entry #>> '{}') as namespace, newest.application_id
        from newest
        cross join lateral jsonb_array_elements(coalesce(newest.spec -> 'namespaces', '[]')) as entry
        order by namespace, newest.is_retired, newest.application_id
    ),

    event as (
        select namespace, job_id, event_at, edges
        from {{ source("raw", "openlineage_event") }} as event
        where
            event.load_id <= {{ tick("published_high") }}
            and event.edges <> '{}'
            and {{ standing("event", tick("published_high")) }}
    ),

    link as (
        select
            event.namespace,
            event.job_id,
            side.key as way,
            pair ->> 0 as other_namespace,
            pair ->> 1 as other_name,
            max(event.event_at) as last_event_at
        from event
        cross join lateral jsonb_each(event.edges) as side
        cross join lateral jsonb_array_elements(side.value) as pair
        group by event.namespace, event.job_id, side.key, pair ->> 0, pair ->> 1
    ),

    edge as (
        select
            output.namespace as upstream_namespace,
            output.job_id as upstream_job_id,
            input.namespace,
            input.job_id,
            'dataset' as origin,
            input.other_namespace || '/' || input.other_name as dataset,
            least(output.last_event_at, input.last_event_at) as last_event_at
        from link as input
        inner join
            link as output
            on input.other_namespace = output.other_namespace
            and input.other_name = output.other_name
            and output.way = 'out'
        where input.way = 'in'
        union all
        select
            other_namespace as upstream_namespace,
            other_name as upstream_job_id,
            namespace,
            job_id,
            'dependency' as origin,
            null as dataset,
            last_event_at
        from link
        where way = 'up'
        union all
        select
            namespace as upstream_namespace,
            job_id as upstream_job_id,
            other_namespace as namespace,
            other_name as job_id,
            'dependency' as origin,
            null as dataset,
            last_event_at
        from link
        where way = 'down'
    ),

    of_application as (
        select
            coalesce(owner.application_id, edge.namespace) as application_id,
            edge.job_id,
            coalesce(upstream_owner.application_id, edge.upstream_namespace) as upstream_application_id,
            edge.upstream_job_id,
            edge.origin,
            edge.dataset,
            edge.last_event_at
        from edge
        left join owner on edge.namespace = owner.namespace
        left join owner as upstream_owner on edge.upstream_namespace = upstream_owner.namespace
    )

select
    seen.application_id,
    seen.job_id,
    seen.upstream_application_id,
    seen.upstream_job_id,
    seen.origin,
    seen.dataset,
    max(seen.last_event_at) as last_event_at,
    bool_or(declared.job_id is not null) as is_declared
from of_application as seen
left join
    {{ ref("int_job_edge") }} as declared
    on seen.application_id = declared.application_id
    and seen.job_id = declared.job_id
    and seen.upstream_application_id = declared.upstream_application_id
    and seen.upstream_job_id = declared.upstream_job_id
where (seen.application_id, seen.job_id) <> (seen.upstream_application_id, seen.upstream_job_id)
group by
    seen.application_id,
    seen.job_id,
    seen.upstream_application_id,
    seen.upstream_job_id,
    seen.origin,
    seen.dataset
