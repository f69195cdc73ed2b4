{{
    config(
        indexes=[{"columns": ["hour_at"]}],
        meta={"scope": "scope_indicator_hour", "scope_keys": ["hour_at"]},
    )
}}

with
    record as (
        {% for indicator in indicators() %}
            {%- set query -%} {{ indicator_values(indicator, ref("int_metric_minute")) }} {%- endset %}
            select {{ indicator.id }} as indicator_id, hour_at, dimension, value
            from
                {% if model.resource_type == "model" %}
                    control.indicator_values(
                        {{ indicator.id }}, {{ indicator.load_id }}, $query$ {{ query }} $query$
                    )
                {% else %} ({{ query }}) as computed
                {% endif %}
                {{ "union all" if not loop.last }}
        {% else %}
            -- none is registered
            select 0 as indicator_id, hour_at, dimension, amount as value
            from {{ ref("int_metric_minute") }}
            where false
        {% endfor %}
    )

select
    record.indicator_id,
    record.hour_at,
    record.dimension,
    coalesce(record.dimension, '') as dimension_key,
    record.value,
    record.hour_at > {{ tick("as_of") }} - interval '1 hour' as provisional
from record
inner join {{ ref("scope_indicator_hour") }} as scope using (hour_at)
where
    record.value is not null
    -- what was purged does not come back with a late line, which would be all that there is of it
    and not exists (
        select
        from {{ source("control", "purged_hour") }} as purged
        where
            purged.relation = 'marts.indicator_record'
            and purged.part in (record.indicator_id::text, '')
            and record.hour_at = purged.hour_at
    )
