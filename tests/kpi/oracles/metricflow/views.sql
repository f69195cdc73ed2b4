-- What metricflow.yml reads. Times in New York, without a zone, for MetricFlow knows no zones.
create schema metricflow;
create view metricflow.days as
select day
from generate_series(timestamp '2026-01-01', timestamptz '{as_of}' at time zone 'America/New_York', interval '1 day') as day;
create view metricflow.occurrences as
select *, extract(epoch from late_by) as late_seconds from marts.slo_performance;
create view metricflow.runs as
select
    application_id, job_id, business_date, run_key, final_status, extract(epoch from duration) as seconds,
    first_status_at at time zone 'America/New_York' as first_status_at
from marts.job_run;
create view metricflow.expenses as select * from copies.finance_expenses;
create view metricflow.accounts as
select *, (created_at at time zone 'America/New_York')::date as created_on from copies.users_accounts;
