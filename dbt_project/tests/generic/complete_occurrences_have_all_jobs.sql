{#- An SLO is complete only when all its jobs are. -#}
{% test complete_occurrences_have_all_jobs(model) %}
    select performance.*
    from {{ model }} as performance
    inner join {{ ref("slo_job_performance") }} as job using (slo_id, business_date, slot)
    where performance.progress = 'complete' and job.progress <> 'complete'
{% endtest %}
