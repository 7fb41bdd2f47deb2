"""One training run: the module, Lightning's trainer around it, resume, callbacks, loggers."""
