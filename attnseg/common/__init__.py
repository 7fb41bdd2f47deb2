"""What every room may use: errors, files, paths, processes."""
