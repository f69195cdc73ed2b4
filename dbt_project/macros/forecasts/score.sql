{#- The naive rules by their place in `rule_points`, in the order of pipelines/forecasts/naive.py. -#}
{% macro forecast_rules() -%}
    (1, 'promise as made'),
    (2, 'mean of the last 10'),
    (3, 'mean and 2 deviations'),
    (4, 'weekday moving average')
{%- endmacro %}

{#- Deviations of a normal distribution below which 80 and 90 % lie. -#}
{% macro forecast_deviations(level) -%} {{ {"p80": 0.8416, "p90": 1.2816}[level] }} {%- endmacro %}

{#- Mean pinball loss of a quantile in minutes, over what has ended. Exact until it is rounded: no order changes it. -#}
{% macro pinball_loss(level, quantile, ended_at) -%}
    round(
        avg(
            greatest(
                {{ level }} * extract(epoch from {{ ended_at }} - {{ quantile }}),
                ({{ level }} - 1) * extract(epoch from {{ ended_at }} - {{ quantile }})
            )
            / 60
        ),
        6
    )::double precision
{%- endmacro %}
