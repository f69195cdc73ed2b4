{#- The order of statuses at one instant: START, then FAIL, then SUCCEED. -#}
{% macro status_rank(column) -%}
    case {{ column }} when 'START' then 0 when 'FAIL' then 1 else 2 end
{%- endmacro %}

{#- The status that stands last; at one instant SUCCEED after FAIL after START. -#}
{% macro last_status(status, at) -%}
    (array_agg({{ status }} order by {{ at }} desc nulls last, {{ status_rank(status) }} desc))[1]
{%- endmacro %}

{#-
  What clocks differ by (pipelines/slo/receipt.py), such as: 5 minutes. A status that lies further ahead of its receipt is
  from the future: its sender's clock is wrong.
-#}
{% macro future_status() -%} {{ env_var("DUEMARK_DBT_FUTURE_STATUS") }} {%- endmacro %}

{#- Copies with whether each came from the future of its receipt. -#}
{% macro with_receipt(copies) -%}
    select copy.*, copy.status_at > load.received_at + interval '{{ future_status() }}' as is_ahead
    from {{ copies }} as copy
    left join {{ source("raw", "load") }} as load using (load_id)
{%- endmacro %}

{#-
  Of copies of one identity the least (run_id, host_id), nulls last, is the status; it was received with the first of
  them, so it is ahead if any is.
-#}
{% macro distinct_statuses(copies) -%}
    select distinct
        on (application_id, job_id, business_date, status_at, status_code)
        application_id,
        job_id,
        business_date,
        status_code,
        status_at,
        run_id,
        host_id,
        bool_or(is_ahead) over (
            partition by application_id, job_id, business_date, status_at, status_code
        ) as is_ahead
    from ({{ with_receipt(copies) }}) as copies_with_receipt
    order by application_id, job_id, business_date, status_at, status_code, run_id, host_id
{%- endmacro %}
