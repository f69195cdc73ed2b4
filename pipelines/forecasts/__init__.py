"""When will it be there? Forecasts of ends, replayed over the past and scored. Needs numpy, and no dbt."""
