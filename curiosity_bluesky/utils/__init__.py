"""Small helpers without a room of their own: checks, display, hosts, permissions, files."""

# pyright: reportUnsupportedDunderAll=false
__all__ = [
    "display",
    "hdf5",
    "hosts",
    "lazy",
    "lengths",
    "masked",
    "permissions",
    "run_end",
    "validation",
    "wording",
]
