"""`hypsae run` as an entry point for `ray job submit -- python jobs/run.py --config FILE`."""

import sys

from hypsae_ray.cli import entry

if __name__ == "__main__":
    entry(["run", *sys.argv[1:]])
