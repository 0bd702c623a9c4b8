"""Synthetic images: wallpaper groups, textures, and pairs of views of one structure."""
