"""``python -m curiosity_bluesky.cli``."""

from curiosity_bluesky.cli import main

if __name__ == "__main__":
    main()
