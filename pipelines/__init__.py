"""What Duemark computes, a folder per subject; `definitions.py` puts it together for Dagster."""
