{{
    config(
        indexes=[
            {"columns": ["outcome", "expected_end_at"]},
            {"columns": ["business_date"]},
            {"columns": ["slo_id", "expected_end_at"]},
            {"columns": ["gives_up_at"]},
        ],
        meta={"scope": "scope_occurrence", "scope_keys": ["slo_id", "business_date"]},
    )
}}

{{
    slo_verdicts(
        ref("int_occurrence"),
        ref("slo_job_performance"),
        tick("as_of"),
        "select * from " ~ ref("int_coming_job_edge"),
        upstream_in_marts(ref("slo_job_performance"), ref("job_run")),
    )
}}
