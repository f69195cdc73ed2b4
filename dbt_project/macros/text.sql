{#- The texts of an array as people list them: `a, b and c`; null of an empty one. -#}
{% macro and_list(texts) -%}
    (
        case
            when cardinality({{ texts }}) > 1
            then array_to_string(trim_array({{ texts }}, 1), ', ') || ' and '
            else ''
        end
        || ({{ texts }})[cardinality({{ texts }})]
    )
{%- endmacro %}
