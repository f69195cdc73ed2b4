{#-
  Statuses to runs, one row per (application_id, job_id, business_date, run_key).
  Statuses without a run_id make runs by themselves: each START opens one that lasts to the next START (run_key ~1,
  ~2, …; ~0 is what came before the first START); what else stands at the instant of a START closes the run before.
-#}
{% macro runs_of(statuses) -%}
    select
        application_id,
        job_id,
        business_date,
        run_key,
        min(run_id) as run_id,
        min(status_at) as first_status_at,
        max(status_at) as last_status_at,
        min(status_at) filter (where status_code = 'START') as first_start_at,
        min(status_at) filter (where status_code = 'SUCCEED') as first_success_at,
        max(status_at) filter (where status_code = 'SUCCEED') as last_success_at,
        min(status_at) filter (where status_code = 'FAIL') as first_fail_at,
        max(status_at) filter (where status_code = 'FAIL') as last_fail_at,
        min(status_at) filter (where status_code = 'SUCCEED' and is_ahead) as first_ahead_success_at,
        max(status_at) filter (where is_ahead) as last_ahead_at,
        (array_agg(status_code order by status_at desc, {{ status_rank("status_code") }} desc))[
            1
        ] as last_status,
        (
            array_agg(host_id order by status_at desc, {{ status_rank("status_code") }} desc) filter (
                where host_id is not null
            )
        )[1] as host_id,
        array_agg(status_at) as status_ats
    from
        (
            select
                *,
                case
                    when run_id is null
                    then
                        '~' || count(*) filter (where status_code = 'START') over (
                            partition by application_id, job_id, business_date, run_id
                            order by status_at, status_code = 'START'
                        )
                    -- a sender's own id never meets one of ours
                    when run_id like '~%'
                    then '~' || run_id
                    else run_id
                end as run_key
            from {{ statuses }}
        ) as statuses_with_run
    group by application_id, job_id, business_date, run_key
{%- endmacro %}

{#- What became of each run, by its first SUCCEED, else by its last status. -#}
{% macro run_results(runs) -%}
    select
        *,
        case
            when first_success_at is null or first_start_at <= first_success_at then first_start_at
        end as started_at,
        case
            when first_success_at is not null
            then first_success_at
            when last_status = 'FAIL'
            then last_fail_at
        end as ended_at,
        case when first_success_at is not null then 'SUCCEED' else last_status end as final_status
    from {{ runs }}
{%- endmacro %}
