"""Where to look: the attention mechanisms, one file each."""
