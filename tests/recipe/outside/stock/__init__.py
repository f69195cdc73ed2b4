"""A subject from outside of the package, by the recipe of CONTRIBUTING: what is in stock."""
