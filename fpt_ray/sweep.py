"""``python -m fpt_ray.sweep FILE`` is ``fpt-ray run FILE``."""

import sys

from fpt_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
