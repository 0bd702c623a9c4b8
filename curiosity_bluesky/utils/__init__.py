"""Small helpers without a room of their own: checks, display, hosts, permissions, files."""
