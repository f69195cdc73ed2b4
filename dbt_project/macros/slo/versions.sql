{#-
  Versions of SLOs loaded up to `high`, with the business dates for which each stands: [applies_from, applies_before).
  A version gives way to any later load, and within a load to any later entry, from where that one applies.
-#}
{% macro standing_versions(high) -%}
    select
        slo_version.*,
        coalesce(
            min(applies_from) over (
                partition by slo_id
                order by load_id desc, applies_from desc, entry_no desc
                rows between unbounded preceding and 1 preceding
            ),
            'infinity'::date
        ) as applies_before
    from {{ source("catalog", "slo_version") }} as slo_version
    where load_id <= {{ high }}
{%- endmacro %}

{#- A condition: the version is the one that promises for the date. Where an open start lies is said elsewhere. -#}
{% macro stands_on(version, business_date) -%}
    {{ business_date }} >= {{ version }}.applies_from
    and {{ business_date }} < {{ version }}.applies_before
    and {{ business_date }} <= coalesce({{ version }}.effective_to, 'infinity'::date)
    and not {{ version }}.is_retired
{%- endmacro %}
