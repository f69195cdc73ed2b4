"""KPIs: definitions, compiled to dbt models, and the engine that keeps their values."""
