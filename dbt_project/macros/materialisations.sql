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
{#-
  dbt alone would leave such a model half done: a table without rows, or with those of before. Duemark says that it is Duemark which runs
  dbt; anybody else is told what does the whole.
-#}
{% macro done_by_ticks() %}
    {%- if env_var("DUEMARK_DBT_RUNS_FOR", "") != "duemark" -%}
        {%- do exceptions.raise_compiler_error(
            this.name
            ~ " was left as it is: its rows are exchanged by ticks, together with those of all marts. Run `duemark tick`, or to compute every row again `duemark tick --rebuild`."
        ) -%}
    {%- endif -%}
{% endmacro %}


{% materialization work, adapter = "postgres" %}
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
    {%- call statement("analyse") %}analyze {{ relation }}
    {%- endcall %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do adapter.commit() %}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}


{% materialization scoped, adapter = "postgres" %}
    {%- do done_by_ticks() -%}
    {%- set relation = this.incorporate(type="table") -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- if existing is none or should_full_refresh() %}
        {%- do drop_relation_if_exists(existing) %}
        {%- call statement("main") %}
            create table {{ relation }}
            {{ get_assert_columns_equivalent(sql) }}
            {{ get_table_columns_and_constraints() }}
        {%- endcall %}
        {%- set texts = (
            model.columns.values()
            | selectattr("data_type", "equalto", "text")
            | map(attribute="name")
            | list
        ) %}
        {%- if texts %}
            {#- As raw and catalog have it, whatever the database's own is: order by code point, and the same index for both. #}
            {%- call statement("collate") %}
                alter table {{ relation }}
                {% for name in texts %}
                    alter {{ adapter.quote(name) }} type text collate "C"{{ "," if not loop.last }}
                {% endfor %}
            {%- endcall %}
        {%- endif %}
        {%- do create_indexes(relation) %}
        {%- do apply_grants(relation, config.get("grants"), should_revoke=False) %}
        {%- do persist_docs(relation, model) %}
        {%- do adapter.commit() %}
    {%- else %} {%- call noop_statement("main", "COMPILED") %} {%- endcall %}
    {%- endif %}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}


{#-
  A function that returns rows, from a query with $1, $2, … for its arguments; made by deploy. It runs with the rights of
  its owner, so that analysts may call it who cannot read raw. meta: `arguments` and planner `settings`, SQL text each,
  and `rows`, about how many there are.
-#}
{% materialization table_function, adapter = "postgres" %}
    {%- set signature = this ~ "(" ~ config.get("meta").arguments | join(", ") ~ ")" -%}
    {%- call statement("drop") %}
        do $drop$
        declare found regprocedure;
        begin
            for found in select oid from pg_proc where pronamespace = '{{ this.schema }}'::regnamespace and proname = '{{ this.identifier }}'
            loop execute 'drop function ' || found; end loop;
        end $drop$
    {%- endcall %}
    {%- call statement("main") %}
        create function {{ signature }}
        returns table (
        {%- for column in model.columns.values() %}
            {{ adapter.quote(column.name) }} {{ column.data_type }}{{ "," if not loop.last }}
        {%- endfor %}
        )
        language sql stable security definer
        set search_path = pg_catalog, pg_temp
        {%- for setting in config.get("meta").get("settings", []) %}
        set {{ setting }}
        {%- endfor %}
        rows {{ config.get("meta").get("rows", 1000) }}
        as $body${{ sql }}$body$
    {%- endcall %}
    {%- do adapter.commit() %}
    {{ return({"relations": []}) }}
{% endmaterialization %}
