"""Loss weights, frozen parts and learning rates as pure functions of the epoch."""
