"""What must last: SQLite, one writer; and the journal of what the core saw."""
