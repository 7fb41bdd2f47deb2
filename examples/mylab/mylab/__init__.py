"""Parts of our own for attnseg."""
