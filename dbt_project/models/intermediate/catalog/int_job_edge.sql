{{ config(materialized="view", schema="intermediate") }}

with standing as (select * from {{ ref("stg_job") }} where not is_retired) {{ edges_of("standing") }}
