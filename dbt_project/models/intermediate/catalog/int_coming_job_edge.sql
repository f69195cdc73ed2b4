{{ config(materialized="view", schema="intermediate") }} {{ standing_edges(tick("high")) }}
