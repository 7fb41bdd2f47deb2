"""Models out of attnseg: graphs that run without it, checked against the model they came from."""
