"""`hypsae`: the command line. Exit code 0 done, 2 bad config or input, 130 interrupted, 1 anything else."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hypsae_ray.errors import ConfigError, HypsaeError

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    try:
        if rest and options.command != "run":
            raise ConfigError(f"unknown arguments: {' '.join(rest)}")
        return options.do(options, rest)
    except HypsaeError as error:
        print(f"hypsae: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("hypsae: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def entry() -> None:
    """Run as a program."""
    sys.exit(main())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hypsae", description="Tested hypotheses from texts with a target.")
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser(
        "run",
        help="run all stages that are not done yet",
        epilog="Any field of the config can be overridden: --select.n 8 --llm.engine keywords",
        allow_abbrev=False,
    )
    run.add_argument("--config", required=True, metavar="FILE", help="YAML file")
    run.add_argument("--out", metavar="DIR", help="run folder or URI (default: runs/<name of the config>)")
    run.add_argument("--until", metavar="STAGE", help="last stage to run")
    run.set_defaults(do=_run)

    inspect = commands.add_parser("inspect", help="show neurons of a run")
    inspect.add_argument("run", help="run folder or URI")
    inspect.add_argument(
        "--neurons",
        default="selected",
        help="selected, random:N, or numbers such as 3,17 (default: selected)",
    )
    inspect.add_argument("--examples", type=int, default=3, help="top texts per neuron (default: 3)")
    inspect.add_argument("--seed", type=int, default=0, help="seed of random:N (default: 0)")
    inspect.set_defaults(do=_inspect)

    demo = commands.add_parser("demo-data", help="write made-up reviews with planted concepts")
    demo.add_argument("folder", help="where the files go")
    demo.add_argument("--train", type=int, default=2000, help="training reviews (default: 2000)")
    demo.add_argument("--holdout", type=int, default=600, help="holdout reviews (default: 600)")
    demo.add_argument("--seed", type=int, default=0, help="seed (default: 0)")
    demo.set_defaults(do=_demo_data)
    return parser


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from hypsae_ray import config_file, runner

    sys.path.append(str(Path.cwd()))  # where the module of a select.function may lie
    settings = config_file.load(options.config, parse_overrides(rest))
    out = options.out or str(Path("runs") / Path(options.config).stem)
    runner.run(settings, out, until=options.until, show=print)
    return 0


def parse_overrides(words: Sequence[str]) -> dict[str, str]:
    """Read `--a.b.c VALUE` and `--a.b.c=VALUE` pairs.

    Raises:
        ConfigError: a word is not a dotted option, or an option has no value.

    >>> parse_overrides(["--select.n", "8", "--llm.engine=keywords"])
    {'select.n': '8', 'llm.engine': 'keywords'}
    """
    overrides: dict[str, str] = {}
    words = list(words)
    while words:
        name = words.pop(0)
        if not name.startswith("--"):
            raise ConfigError(f"unexpected argument {name!r}")
        name, has_value, value = name[2:].partition("=")
        if not has_value and not words:
            raise ConfigError(f"--{name}: its value is missing")
        overrides[name] = value if has_value else words.pop(0)
    return overrides


def _inspect(options: argparse.Namespace, _: list[str]) -> int:
    from hypsae_ray.inspection import describe_neurons

    print(describe_neurons(options.run, options.neurons, options.examples, options.seed))
    return 0


def _demo_data(options: argparse.Namespace, _: list[str]) -> int:
    from hypsae_ray.demo import grammar

    demo = grammar.generate(options.train, options.holdout, options.seed)
    grammar.write(demo, options.folder)
    print(f"{len(demo.train)} training and {len(demo.holdout)} holdout reviews in {options.folder}")
    return 0


if __name__ == "__main__":
    entry()
