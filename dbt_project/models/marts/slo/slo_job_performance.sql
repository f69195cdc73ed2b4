{{
    config(
        indexes=[
            {"columns": ["application_id", "job_id", "business_date"]},
            {"columns": ["application_id", "expected_end_at"]},
        ],
        meta={"scope": "scope_occurrence", "scope_keys": ["slo_id", "business_date"]},
    )
}}

{{ job_verdicts(ref("int_occurrence"), ref("slo_job_run"), ref("int_job_run")) }}
