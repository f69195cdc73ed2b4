{#-
  Two materialisations of the generated KPI models, for Duemark alone (see `done_by_ticks`); neither is part of a tick's dbt run.

  kpi_state   A table of states by base bucket and members, empty when made: the engine fills it by the compiled query, for the
              touched buckets only. Made by that query, so that what is wrong with it shows.
  kpi_values  Nothing in the database: the compiled statements find the periods and give their values, in the engine's
              transaction.
-#}
{% materialization kpi_state, adapter = "postgres" %}
    {%- do done_by_ticks() -%}
    {%- set relation = this.incorporate(type="table") -%}
    {%- do drop_relation_if_exists(load_cached_relation(this)) %}
    {%- call statement("main") %}
        create table {{ relation }} as {{ sql | format(touched_0="true", touched_1="true", once="") }} with no data
    {%- endcall %}
    {%- call statement("index") %} create index on {{ relation }} (bucket_at)
    {%- endcall %}
    {%- do adapter.commit() %}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}


{% materialization kpi_values, adapter = "postgres" %}
    {%- do done_by_ticks() -%}
    {%- call noop_statement("main", "COMPILED") %} {%- endcall %} {{ return({"relations": []}) }}
{% endmaterialization %}
