"""The Queue Server: its processes, its manager, and runs that are driven through it."""
