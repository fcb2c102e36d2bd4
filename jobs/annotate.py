"""`hypsae annotate` as an entry point: `ray job submit -- python jobs/annotate.py --hypotheses FILE ...`."""

import sys

from hypsae_ray.cli import entry

if __name__ == "__main__":
    entry(["annotate", *sys.argv[1:]])
