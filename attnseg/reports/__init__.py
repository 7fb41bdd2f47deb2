"""Pictures and pages, made from arrays and files only; matplotlib is imported when one is drawn."""
