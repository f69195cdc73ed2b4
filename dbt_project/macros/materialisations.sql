{#-
  Two materialisations, made for ticks.

  work    A table of the tick under way: unlogged, emptied and filled by every tick, analysed. Nobody reads it but
          the tick. Config: `indexes`, as for tables.

  scoped  A mart. The model computes the rows of the keys in its scope, no others. dbt makes the table (contract,
          constraints, indexes) when it is missing or with --full-refresh, and compiles the query; the rows are
          exchanged by `pipelines.transform.publish`, for all marts in one transaction, so that marts of one tick
          become visible together: delete by scope, insert the recompute, in the order of the graph. A mart may
          therefore read another mart, and reads its new rows.
          meta: `scope` (a work model) and `scope_keys` (its key columns, which the mart has too).
-#}
{% materialization work, adapter="postgres" %}
    {%- set relation = this.incorporate(type="table") -%}
    {%- set existing = load_cached_relation(this) -%}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- if existing is none or should_full_refresh() %}
        {%- do drop_relation_if_exists(existing) %}
        {%- call statement("create") %}
            create unlogged table {{ relation }} as {{ sql }} with no data
        {%- endcall %}
        {%- do create_indexes(relation) %}
    {%- endif %}
    {%- call statement("main") %}
        truncate {{ relation }};
        insert into {{ relation }} {{ sql }}
    {%- endcall %}
    {%- call statement("analyse") %}analyze {{ relation }}{%- endcall %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do adapter.commit() %}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}


{% materialization scoped, adapter="postgres" %}
    {%- set relation = this.incorporate(type="table") -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- if existing is none or should_full_refresh() %}
        {%- do drop_relation_if_exists(existing) %}
        {%- call statement("main") %}
            create table {{ relation }}
            {{ get_assert_columns_equivalent(sql) }}
            {{ get_table_columns_and_constraints() }}
        {%- endcall %}
        {%- do create_indexes(relation) %}
        {%- do apply_grants(relation, config.get("grants"), should_revoke=False) %}
        {%- do persist_docs(relation, model) %}
        {%- do adapter.commit() %}
    {%- else %}
        {%- call noop_statement("main", "COMPILED") %}{%- endcall %}
    {%- endif %}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}
