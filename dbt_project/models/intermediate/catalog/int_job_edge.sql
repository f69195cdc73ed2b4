{{ config(materialized="view", schema="intermediate") }} {{ edges_of(ref("stg_job")) }}
