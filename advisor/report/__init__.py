"""Results for people: the only place that rounds and that uses people's units."""
