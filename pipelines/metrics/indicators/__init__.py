"""The indicators: what becomes of an hour's inputs."""
