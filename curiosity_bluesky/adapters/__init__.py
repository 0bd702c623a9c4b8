"""The agent behind other people's protocols: bluesky-adaptive, Queue Server."""
