{#-
  Two materialisations of the generated KPI models (pipelines/kpi/compile.py); neither is part of a tick's dbt run.

  kpi_state   A table of states by base bucket and members, empty when made: the engine fills it by the compiled query, for the
              touched buckets only.
  kpi_values  Nothing in the database: the compiled query gives the values of the periods in `kpi_period`, a table of the
              engine's transaction.
-#}
{% materialization kpi_state, adapter = "postgres" %}
    {%- set relation = this.incorporate(type="table") -%}
    {%- do drop_relation_if_exists(load_cached_relation(this)) %}
    {%- call statement("main") %}
        create table {{ relation }} as {{ sql }} with no data
    {%- endcall %}
    {%- call statement("index") %} create index on {{ relation }} (bucket_at)
    {%- endcall %}
    {%- do adapter.commit() %}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}


{% materialization kpi_values, adapter = "postgres" %}
    {%- call noop_statement("main", "COMPILED") %} {%- endcall %} {{ return({"relations": []}) }}
{% endmaterialization %}
