{{ config(meta={"scope": "scope_occurrence", "scope_keys": ["slo_id", "business_date"]}) }}

{{ slot_runs(ref("int_occurrence"), ref("int_job_run")) }}
