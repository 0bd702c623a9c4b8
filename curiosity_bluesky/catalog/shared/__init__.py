"""A catalogue that several machines share: Tiled on PostgreSQL, arrays in files."""
