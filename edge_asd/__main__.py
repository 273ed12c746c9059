"""``python -m edge_asd`` is ``edge-asd``."""

from edge_asd.cli import main

if __name__ == "__main__":
    main()
