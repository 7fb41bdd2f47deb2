"""Further terms, weighed by name: `loss.terms.<name>`. Ours are in the three groups."""
