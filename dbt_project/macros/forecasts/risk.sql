{#-
  Whether an occurrence is at risk of being late, as of `as_of`. `forecast`: a row of forecast.occurrence, `version`: the
  SLO's. The numbers are those of pipelines/forecasts/risk.py.
-#}
{% macro is_at_risk(forecast, version, as_of) -%}
    (
        {{ forecast }}.is_open
        and {{ forecast }}.expected_end_at >= {{ as_of }}
        and {{ forecast }}.past_dates >= {{ env_var("DUEMARK_DBT_RISK_ENOUGH") }}
        and {{ forecast }}.miss_probability
        >= {{ risk_from(forecast ~ ".expected_end_at - " ~ as_of, version ~ ".warn_before") }}
    )
{%- endmacro %}

{#- The probability of a miss from which on one is at risk that is due after `ahead`. -#}
{% macro risk_from(ahead, warn_before) -%}
    case
        when {{ ahead }} <= {{ warn_before }}
        then {{ env_var("DUEMARK_DBT_RISK_SOON") }}
        else {{ env_var("DUEMARK_DBT_RISK_EARLY") }}
    end
{%- endmacro %}
