{#- The verdict in one sentence. It names instants, never elapsed minutes, so that it changes only when something happened. -#}
{% macro explanation() -%}
    case
        when is_waived
        then 'Waived' || coalesce(' by ' || excepted_by, '') || ' (' || exception_reason || '): '
        when outcome = 'on_time'
        then 'On time: '
        when outcome = 'late'
        then 'Late: '
        when outcome = 'overdue'
        then 'Overdue: '
        when outcome = 'missed'
        then 'Missed, given up at ' || {{ local_text("gives_up_at") }} || ': '
        else 'Not due yet: '
    end || case
        when progress = 'complete' and job_count = 1
        then blocking_job || ' succeeded at ' || {{ local_text("actual_end_at") }}
        when progress = 'complete'
        then
            'all '
            || job_count
            || ' jobs are complete, the last, '
            || blocking_job
            || ', at '
            || {{ local_text("actual_end_at") }}
        when progress = 'failed'
        then
            'a job failed; '
            || completed_job_count
            || ' of '
            || job_count
            || ' complete, waiting for '
            || blocking_job
        when progress = 'running'
        then completed_job_count || ' of ' || job_count || ' jobs complete, waiting for ' || blocking_job
        when job_count = 1
        then 'nothing reported, waiting for ' || blocking_job
        else 'nothing reported for any of its ' || job_count || ' jobs, waiting for ' || blocking_job
    end
    || case when is_waived then ', was due ' else ', due ' end
    || {{ local_text("expected_end_at") }}
    || ' '
    || timezone
    || case
        when expected_end_at > promised_end_at
        then
            ', put off from '
            || {{ local_text("promised_end_at") }}
            || coalesce(' by ' || excepted_by, '')
            || ' ('
            || exception_reason
            || ')'
        else ''
    end
    || {{ cause_text() }}
    || case
        when revisions > 0
        then '; revised since, last success ' || {{ local_text("last_success_at") }}
        else ''
    end
    || case
        when ahead_job is not null
        then
            '; a clock is ahead: the status of '
            || ahead_job
            || ' at '
            || {{ local_text("ahead_at") }}
            || ' was received more than {{ future_status() }} before that instant'
        else ''
    end
    || '.'
{%- endmacro %}

{% macro local_text(column) -%}
    to_char({{ column }} at time zone timezone, 'YYYY-MM-DD HH24:MI:SS')
{%- endmacro %}

{#- Who is the cause and why, with the instants that say so; nothing where there is none. -#}
{% macro cause_text() -%}
    case
        when cause_job is null
        then ''
        else
            '; cause: '
            || cause_job
            || case
                when cause_business_date <> business_date
                then ' for ' || to_char(cause_business_date, 'YYYY-MM-DD')
                else ''
            end
            || case when is_cause_upstream then ', upstream, ' else ' ' end
            || concat_ws(
                ', ',
                case
                    cause_delay
                    when 'failure'
                    then 'failed at ' || {{ local_text("cause_failed_at") }}
                    when 'never_started'
                    then 'has not started'
                    when 'late_start'
                    then 'started late at ' || {{ local_text("cause_start_at") }}
                    else
                        coalesce(
                            'took too long from ' || {{ local_text("cause_start_at") }}, 'ended too late'
                        )
                end,
                case
                    when cause_delay in ('never_started', 'late_start')
                    then 'expected at ' || {{ local_text("cause_expected_start_at") }}
                end,
                case
                    when cause_job <> blocking_job then 'succeeded at ' || {{ local_text("cause_end_at") }}
                end,
                case
                    when cause_job <> blocking_job and cause_delay in ('never_started', 'long_run')
                    then 'due ' || {{ local_text("cause_expected_end_at") }}
                end
            )
    end
{%- endmacro %}
