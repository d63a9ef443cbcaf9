"""Published studies: their rows, claims, tables, verdicts and pages."""
