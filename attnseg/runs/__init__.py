"""A run's life: its identity, folder, ledger and checkpoints."""
