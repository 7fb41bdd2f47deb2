"""Runs beside one another: what differs, how well they do, and how sure that is."""
