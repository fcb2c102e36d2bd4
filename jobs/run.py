"""`hypsae run` as an entry point for `ray job submit -- python jobs/run.py --config FILE`."""

import sys

from hypsae_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
