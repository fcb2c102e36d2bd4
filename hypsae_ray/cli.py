"""`hypsae`: the command line.

Exit code 0 done, 2 bad config or input, 3 a partial result, 130 interrupted, 143 terminated, 1 anything else.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hypsae_ray.errors import ConfigError, HypsaeError, PartialResultError

if TYPE_CHECKING:
    from hypsae_ray.config import AnnotateJob

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
_ENDINGS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
Do = Callable[[argparse.Namespace, list[str]], None]
GOES_ON = "the same command goes on from here"


def main(argv: Sequence[str] | None = None, interrupts: Sequence[int] = ()) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the arguments; None: those of the program.
        interrupts: signals that came so far, Ctrl-C or SIGTERM; an error that follows one is not reported.
    """
    try:
        options, rest = _parser().parse_known_args(argv)
        if rest and not options.overrides:
            raise ConfigError(f"unknown arguments: {' '.join(rest)}")
        options.do(options, rest)
        return 0
    except BaseException as error:
        stopped = signal.Signals(interrupts[0]) if interrupts else stop_signal(error)
        if stopped is not None:
            print(f"hypsae: {_ENDINGS[stopped]}; {GOES_ON}", file=sys.stderr)
            return 128 + stopped
        if not isinstance(error, HypsaeError):
            raise
        print(f"hypsae: {error}", file=sys.stderr)
        return error.exit_code


def stop_signal(error: BaseException | None) -> signal.Signals | None:
    """Return the signal that an error comes from, Ctrl-C or SIGTERM; None if it comes from none.

    Where it meets a thread that waits for a lock, another error may arrive here, raised while this one
    was handled ("release unlocked lock").
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return signal.SIGINT
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:
            return signal.SIGTERM
        error = error.__cause__ or error.__context__
    return None


def entry(argv: Sequence[str] | None = None) -> NoReturn:
    """Run as a program.

    SIGTERM, which `ray job stop`, Kubernetes and Slurm send, leaves all in order as Ctrl-C does. Both are
    remembered: what arrives here may be the end of Ray's processes, to which a terminal sends Ctrl-C too, or
    a SystemExit of Ray's, which waits in its core and forgets the signal.
    """
    interrupts: list[int] = []

    def interrupt(number: int, _: object) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    def terminate(number: int, _: object) -> None:
        interrupts.append(number)
        sys.exit(number)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, terminate)
    sys.exit(main(argv, interrupts))


class _Once(argparse.Action):
    """Store a value, and refuse a second one where argparse would let the last one win."""

    def __call__(self, _parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        there = getattr(namespace, self.dest)
        if there != self.default:
            raise ConfigError(f"{option_string} is given twice, as {there!r} and {values!r}: take one out")
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register("action", None, _Once)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="hypsae", description="Tested hypotheses from texts with a target.")
    commands = parser.add_subparsers(dest="command", required=True)

    init = _add(commands, "init", _init, "look at a data file, and write a config for it")
    init.add_argument("data", metavar="FILE", help="file, glob or folder of JSONL, CSV or Parquet")
    init.add_argument("--out", metavar="FILE", help="the config (default: named after the data, here)")
    for column in ("text", "target", "group"):
        init.add_argument(f"--{column}", metavar="COLUMN", help=f"column of the {column} (default: found)")

    _add(commands, "config", _config, "print all fields of a config, documented, as YAML")

    overrides = "Any field of the config can be overridden: --select.n 8 --llm.engine keywords"
    run = _add(commands, "run", _run, "run all stages that are not done yet", overrides)
    run.add_argument("--config", required=True, metavar="FILE", help="YAML file")
    run.add_argument("--out", metavar="DIR", help="run folder or URI (default: runs/<name of the config>)")
    run.add_argument("--until", metavar="STAGE", help="last stage to run")
    _add_prices(run)

    inspect = _add(commands, "inspect", _inspect, "show neurons of a run")
    inspect.add_argument("run", help="run folder or URI")
    which = "selected, random:N, or numbers such as 3,17 (default: selected)"
    inspect.add_argument("--neurons", default="selected", help=which)
    inspect.add_argument("--examples", type=int, default=3, help="top texts per neuron (default: 3)")
    inspect.add_argument("--seed", type=int, default=0, help="seed of random:N (default: 0)")

    about = "have a model say why holdout texts have their labels, the doubtful ones first"
    llm = "Fields of llm can be overridden: --llm.model NAME (default: the model that labelled)"
    explain = _add(commands, "explain", _explain, about, llm)
    explain.add_argument("run", help="run folder or URI")
    explain.add_argument("--hypothesis", required=True, type=int, help="its hypothesis_id")
    explain.add_argument("--n", type=int, default=20, help="texts (default: 20)")
    explain.add_argument("--seed", type=int, default=0, help="seed of the choice among equals (default: 0)")

    _add_gold(commands)

    plot = _add(commands, "plot", _plot, "draw the effects of a run's hypotheses into a file")
    plot.add_argument("run", help="run folder or URI")
    plot.add_argument("--out", required=True, metavar="FILE", help="the figure: .svg, .png or .pdf")
    plot.add_argument("--keywords", action="store_true", help="draw the keyword baseline, not the LLM's")
    plot.add_argument("--most", type=int, default=20, help="hypotheses drawn at the most (default: 20)")

    _add_pages(commands)

    demo = _add(commands, "demo-data", _demo_data, "write made-up reviews with planted concepts")
    demo.add_argument("folder", help="where the files go")
    demo.add_argument("--train", type=int, default=2000, help="training reviews (default: 2000)")
    demo.add_argument("--holdout", type=int, default=600, help="holdout reviews (default: 600)")
    demo.add_argument("--seed", type=int, default=0, help="seed (default: 0)")
    demo.add_argument("--pairs", action="store_true", help="pairs of reviews, and which has more stars")

    about = "compare a run of the demo with what was planted"
    recovery = _add(commands, "demo-recovery", _demo_recovery, about)
    recovery.add_argument("run", help="run folder or URI")
    recovery.add_argument("truth", help="folder that demo-data wrote")
    _add_labelling(commands)
    return parser


def _add(commands: Any, name: str, do: Do, about: str, overrides: str = "") -> argparse.ArgumentParser:
    """Add a command; `overrides` says which fields of the config its arguments may set."""
    command = commands.add_parser(name, help=about, epilog=overrides or None, allow_abbrev=not overrides)
    command.set_defaults(do=do, overrides=overrides)
    return command


def _add_pages(commands: Any) -> None:
    overrides = "Fields of report can be overridden: --report.texts none"
    about = "write the result files of a finished run again, or a page that compares two runs"
    report = _add(commands, "report", _report, about, overrides)
    report.add_argument("runs", nargs="+", metavar="RUN", help="run folder or URI, or two of them")
    page = "the page of two runs (default: comparison.html in the first one)"
    report.add_argument("--out", metavar="FILE", help=page)

    about = (
        "write texts, labels, activations and the map of a run's holdout as Parquet, for Embedding Atlas too"
    )
    export = _add(commands, "export", _export, about, overrides)
    export.add_argument("run", help="run folder or URI")
    export.add_argument("--out", metavar="FILE", help="the file (default: export.parquet in the run folder)")


def _add_gold(commands: Any) -> None:
    gold = _add(commands, "gold", _gold_sample, "have people label texts, to correct coefficients by that")
    about = "draw texts of a finished run, into a CSV file that people fill in"
    draw = _add(
        gold.add_subparsers(dest="what", metavar="sample", required=True), "sample", _gold_sample, about
    )
    draw.add_argument("run", help="run folder or URI")
    draw.add_argument("--n", type=int, default=200, help="texts, about (default: 200)")
    numbers = "hypothesis_id of those to label (default: all that have a sentence and labels)"
    draw.add_argument("--hypotheses", type=int, nargs="+", metavar="NUMBER", help=numbers)
    draw.add_argument("--out", metavar="FILE", default="gold.csv", help="the file (default: gold.csv)")


def _add_labelling(commands: Any) -> None:
    overrides = "Fields of llm, label and annotate can be overridden: --llm.model NAME --annotate.mask FILE"
    annotate = _add(commands, "annotate", _annotate, "label texts for hypotheses of any origin", overrides)
    plan = _add(commands, "plan", _plan, "say what labelling will take", overrides)
    for command, required in ((annotate, True), (plan, False)):
        command.add_argument("--config", metavar="FILE", help="YAML file: sections llm, label, annotate")
        columns = "CSV, Parquet or JSONL with a column interpretation or hypothesis"
        command.add_argument("--hypotheses", required=required, metavar="FILE", help=columns)
        command.add_argument("--data", required=required, metavar="GLOB", help="the texts")
        command.add_argument("--text", default="text", help="column of the text (default: text)")
        command.add_argument("--id", help="column of an id to carry along")
        command.add_argument("--encoding", help="of the texts, such as cp1252 (default: found)")
        command.add_argument("--delimiter", help="of the texts, if they are CSV (default: found)")
        command.add_argument("--out", required=required, metavar="URI", help="folder of the result")
        _add_prices(command)
    _add_evaluate(commands)
    _add_replicate(commands)
    status = _add(commands, "status", _status, "show how far the labelling in a folder is")
    status.add_argument("run", help="run folder or URI")


def _add_evaluate(commands: Any) -> None:
    overrides = "Fields of evaluate, and how data are read, can be overridden: --data.on_bad_rows drop"
    about = "test annotated hypotheses against a column of the data"
    evaluate = _add(commands, "evaluate", _evaluate, about, overrides)
    evaluate.add_argument("--annotations", required=True, metavar="OUT", help="folder or URI of annotate")
    evaluate.add_argument("--data", required=True, metavar="GLOB", help="the rows that annotate read")
    evaluate.add_argument("--target", required=True, metavar="COLUMN", help="column of the target")
    tasks = "regression, classification, count or multiclass (default: found)"
    evaluate.add_argument("--task", help=tasks)
    evaluate.add_argument("--group", metavar="COLUMN", help="rows that share its value belong together")
    evaluate.add_argument("--weight", metavar="COLUMN", help="column of weights above 0")
    evaluate.add_argument("--covariates", nargs="+", metavar="COLUMN", help="columns to hold fixed")
    evaluate.add_argument("--fixed-effects", nargs="+", metavar="COLUMN", help="columns of levels to absorb")
    evaluate.add_argument("--out", metavar="FILE", help="the whole table: .csv, .parquet or .jsonl")


def _add_replicate(commands: Any) -> None:
    overrides = "Fields of llm, label, annotate, evaluate, and how data are read, can be overridden"
    about = "test the hypotheses of a finished run on other texts, and compare the effects"
    replicate = _add(commands, "replicate", _replicate, about, overrides)
    replicate.add_argument("run", help="run folder or URI")
    replicate.add_argument("--data", required=True, metavar="GLOB", help="the other texts")
    for column in ("text", "target", "id", "group", "weight"):
        replicate.add_argument(
            f"--{column}", metavar="COLUMN", help=f"column of the {column} (default: the run's)"
        )
    replicate.add_argument("--covariates", nargs="+", metavar="COLUMN", help="(default: the run's)")
    replicate.add_argument("--task", help="regression, classification or count (default: the run's)")
    replicate.add_argument("--out", metavar="DIR", help="folder or URI (default: in the run folder)")


def _add_prices(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rate", metavar="PAIRS", help="pairs per second of one replica, for the plan")
    command.add_argument("--price-per-hour", metavar="PRICE", help="price of one replica, for the plan")


def _overrides(options: argparse.Namespace, rest: list[str]) -> dict[str, str]:
    """Return the fields of the config that the command line sets."""
    prices = {"annotate.rate": options.rate, "annotate.price_per_hour": options.price_per_hour}
    return {**{name: value for name, value in prices.items() if value is not None}, **parse_overrides(rest)}


def _init(options: argparse.Namespace, _: list[str]) -> None:
    from hypsae_ray.commands.first_config import write_config

    known = {name: getattr(options, name) for name in ("text", "target", "group")}
    path, text = write_config(options.data, options.out, **known)
    print(f"{text}\nwritten to {path}; look it over, then: hypsae run --config {path}")


def _config(_options: argparse.Namespace, _: list[str]) -> None:
    from hypsae_ray.config.documented import documented_defaults

    print(documented_defaults(), end="")


def _run(options: argparse.Namespace, rest: list[str]) -> None:
    from hypsae_ray.commands import runner
    from hypsae_ray.config import loading
    from hypsae_ray.run_log import own_console
    from hypsae_ray.store.artifacts import Folder

    sys.path.append(str(Path.cwd()))  # where the module of a select.function may lie
    config = loading.load(options.config, _overrides(options, rest))
    out = options.out or default_out(options.config)
    with own_console(Folder.at(out)) as console:
        run = runner.run(config, out, until=options.until, show=console.show, console=console)
        run.require_measured()


def _annotate(options: argparse.Namespace, rest: list[str]) -> None:
    from hypsae_ray.cluster.session import Session
    from hypsae_ray.commands import annotation
    from hypsae_ray.run_log import own_console
    from hypsae_ray.store.artifacts import Folder

    config, folder = _job(options, rest), Folder.at(options.out)
    with own_console(folder) as console:
        with Session(folder, console.say) as session:
            manifest = annotation.run(config, options.out, session, console.say, console.track)
        written = annotation.folder_of(folder, manifest.hash)
        console.show(f"{annotation.summary(manifest)}\nannotations, and hypotheses.csv: {written.path}")


def _job(options: argparse.Namespace, rest: list[str]) -> "AnnotateJob":
    from hypsae_ray.config import loading

    names = ("hypotheses", "data", "text", "id", "encoding", "delimiter")
    fields = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return loading.load_job(options.config, fields, _overrides(options, rest))


def _evaluate(options: argparse.Namespace, rest: list[str]) -> None:
    from hypsae_ray.api.evaluation import evaluate_hypotheses
    from hypsae_ray.commands import evaluation
    from hypsae_ray.console import Console
    from hypsae_ray.report.terminal import evaluation_text
    from hypsae_ray.report.words import nothing_measured

    if options.out:
        evaluation.require_format(options.out)
    named = ("target", "task", "group", "weight", "covariates")
    data = {name: getattr(options, name) for name in named if getattr(options, name) is not None}
    fields = {"data": {"train": options.data, **data}, "fixed_effects": options.fixed_effects or ()}
    job = evaluation.plan(options.annotations, fields, parse_overrides(rest))
    rows = evaluation.read(job, Console().say)
    settings = job.config.evaluate.model_dump(exclude={"covariates", "absorb_group"})  # rows follow these
    found = evaluate_hypotheses(rows.labels, **rows.arguments, **settings)
    found.notes.extend(rows.notes)
    if options.out:
        evaluation.write(found.table, options.out)
    print(evaluation_text(found))
    if nothing := nothing_measured(found.metrics):
        raise PartialResultError(nothing)


def _replicate(options: argparse.Namespace, rest: list[str]) -> None:
    from hypsae_ray.api.evaluation import evaluate_hypotheses
    from hypsae_ray.cluster.session import Session
    from hypsae_ray.commands import replication
    from hypsae_ray.config.loading import COLUMNS
    from hypsae_ray.console import Console
    from hypsae_ray.run_log import own_console
    from hypsae_ray.store.artifacts import Folder

    columns = {name: getattr(options, name) for name in COLUMNS if getattr(options, name) is not None}
    texts = (options.data, columns, parse_overrides(rest))
    planned = replication.plan(options.run, *texts, Console().say, options.out)
    folder = Folder.at(planned.out)
    with own_console(folder) as console, Session(folder, console.say) as session:
        console.show(replication.run(planned, session, console, evaluate_hypotheses))


def _plan(options: argparse.Namespace, rest: list[str]) -> None:
    from hypsae_ray.commands import annotation, trade
    from hypsae_ray.config import loading
    from hypsae_ray.stages.texts import read_hypotheses
    from hypsae_ray.store.artifacts import Folder

    known = None
    if options.hypotheses and options.data:
        config = _job(options, rest)
        questions = read_hypotheses(config.hypotheses)
    elif options.config:
        run = loading.load(options.config, _overrides(options, rest))
        config = annotation.job_of(run)
        out = options.out or default_out(options.config)
        questions, known = annotation.questions_of(out, run), trade.known(run, Folder.at(out))
    else:
        raise ConfigError("plan: give --config of a run, or --hypotheses and --data")
    if options.out:
        config = annotation.with_measured_rate(config, options.out)
    print(annotation.plan(config, questions, known))


def _status(options: argparse.Namespace, _: list[str]) -> None:
    from hypsae_ray.commands.annotation import status

    print(status(options.run))


def default_out(config: str) -> str:
    """Return the run folder of a config file that names none."""
    return str(Path("runs") / Path(config).stem)


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
        value = value if has_value else words.pop(0)
        if name in overrides:
            raise ConfigError(f"--{name} is given twice, as {overrides[name]!r} and {value!r}: take one out")
        overrides[name] = value
    return overrides


def _inspect(options: argparse.Namespace, _: list[str]) -> None:
    from hypsae_ray.commands.inspection import describe_neurons

    print(describe_neurons(options.run, options.neurons, options.examples, options.seed))


def _explain(options: argparse.Namespace, rest: list[str]) -> None:
    from hypsae_ray.cluster.session import Session
    from hypsae_ray.commands import explanation
    from hypsae_ray.run_log import own_console

    audit = explanation.plan(
        options.run, options.hypothesis, options.n, parse_overrides(rest), seed=options.seed
    )
    with own_console(audit.folder) as console, Session(audit.folder, console.say) as session:
        table = explanation.run(audit, session, console)
        console.show(explanation.describe(audit, table))


def _gold_sample(options: argparse.Namespace, _: list[str]) -> None:
    from hypsae_ray.commands import gold

    drawn = gold.sample(options.run, options.n, options.hypotheses, options.out)
    print(gold.describe(drawn, options.run))


def _report(options: argparse.Namespace, rest: list[str]) -> None:
    from hypsae_ray.commands import comparison, rewriting

    match options.runs:
        case [run]:
            if options.out:
                raise ConfigError("--out is for the page of two runs; the report of one stays in its folder")
            print(rewriting.rewrite(run, parse_overrides(rest)))
        case [first, second]:
            print(comparison.compare(first, second, options.out, parse_overrides(rest)))
        case _:
            raise ConfigError(f"report: expected one run or two, and got {len(options.runs)}")


def _export(options: argparse.Namespace, rest: list[str]) -> None:
    from hypsae_ray.commands.export import export
    from hypsae_ray.console import Console

    print(export(options.run, options.out, parse_overrides(rest), Console().say))


def _plot(options: argparse.Namespace, _: list[str]) -> None:
    from hypsae_ray.report.plots import plot_run

    plot_run(options.run, options.out, keywords=options.keywords, most=options.most)
    print(f"figure: {options.out}")


def _demo_data(options: argparse.Namespace, _: list[str]) -> None:
    import numpy as np

    from hypsae_ray.demo import grammar
    from hypsae_ray.store.artifacts import explained

    demo = grammar.generate(options.train, options.holdout, options.seed)
    with explained(options.folder, "written"):
        if options.pairs:
            grammar.write_pairs(demo, options.folder, np.random.default_rng([options.seed, 1]))
        else:
            grammar.write(demo, options.folder)
    what = "reviews, two a pair," if options.pairs else "reviews"
    print(f"{len(demo.train)} training and {len(demo.holdout)} holdout {what} in {options.folder}")


def _demo_recovery(options: argparse.Namespace, _: list[str]) -> None:
    from hypsae_ray.demo.recovery import add_recovery

    print(f"{add_recovery(options.run, options.truth)}\n\nreport: {options.run}/report.html")


if __name__ == "__main__":
    entry()
