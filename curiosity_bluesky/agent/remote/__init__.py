"""The agent as another process: client and server, and the protocol between them, over 0MQ."""
