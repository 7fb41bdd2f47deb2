"""Many runs by one command: a grid or a search, resumable, on any of Hydra's launchers."""
