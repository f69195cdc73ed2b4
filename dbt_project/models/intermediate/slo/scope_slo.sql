{{ config(indexes=[{"columns": ["slo_id"], "unique": true}]) }}

{%- set before -%}
    {{
        published(
            "slo_performance",
            {"slo_id": 'text collate "C"', "business_date": "date", "expected_end_at": "timestamptz"},
        )
    }}
{%- endset %}

with
    final as (
        -- only what is due counts: a date that merely opened changes no share
        select slo_id
        from {{ ref("scope_occurrence") }} as scope
        where
            exists (
                select
                from {{ ref("int_occurrence") }} as occurrence
                where
                    occurrence.slo_id = scope.slo_id
                    and occurrence.business_date = scope.business_date
                    and occurrence.expected_end_at < {{ tick("as_of") }}
            )
            or exists (
                select
                from {{ before }} as before
                where
                    before.slo_id = scope.slo_id
                    and before.business_date = scope.business_date
                    and before.expected_end_at < {{ tick("previous_as_of") }}
            )
        union
        -- its objective, or whether there is any
        select slo_id
        from {{ source("catalog", "slo_version") }}
        where load_id > {{ tick("low") }} and load_id <= {{ tick("high") }}
    )

select slo_id
from final
