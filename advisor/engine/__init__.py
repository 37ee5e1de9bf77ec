"""What every command shares: processes, their tasks, the record, the clock."""
