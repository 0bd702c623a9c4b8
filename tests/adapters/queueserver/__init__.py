"""A package, so that its servers end after its last test and not with the last of all."""
