"""What labelling jobs count, for a cluster's Prometheus.

Ray shows it next to its own metrics, on the metrics endpoint of the node where the driver runs:

    ray_hypsae_shards_total   outcome: done, there (another job had written it), failed (one try of it)
    ray_hypsae_answers_total  status: ok, cut, unsure, failed ..., the names of `schema.Status`
    ray_hypsae_tokens_total   kind: prompt, cached (of the prompts', read from the prefix cache), generated
    ray_hypsae_errors_total   kind: the name of the error that a shard failed with; lost: its process died
    ray_hypsae_seconds_total  kind: engine (it worked), shard (all of it: texts read, asked, answers written)

All have the labels run (the run folder's name) and labeller (the name of its folder in `answers/`). The
driver sends them every 10 s and when it ends (Ray's metrics_report_interval_ms), so a job costs the
same whether anyone looks or not.
"""

from collections.abc import Mapping

from ray.util.metrics import Counter

JOB = ("run", "labeller")
COUNTERS = {
    "shards": ("outcome", "Shards of texts that labelling jobs are done with, or that failed."),
    "answers": ("status", "Answers, one per pair of text and question."),
    "tokens": ("kind", "Tokens that the answers took; cached ones are prompt tokens too."),
    "errors": ("kind", "Failures of shards, each of which is tried again, up to annotate.tries times."),
    # A gauge of Ray is there for two reports after it was set: shards that take longer would leave gaps.
    "seconds": ("kind", "Time that shards took, and that engines worked on them, added up over replicas."),
}


class Metrics:
    """The counters of all jobs of this process."""

    def __init__(self) -> None:
        self._counters = {
            name: (label, Counter(f"hypsae_{name}", text, (*JOB, label)))
            for name, (label, text) in COUNTERS.items()
        }

    def publish(self, job: Mapping[str, str], counts: Mapping[str, Mapping[str, float]]) -> None:
        """Add counts, by counter and label."""
        for name, by_label in counts.items():
            label, counter = self._counters[name]
            for value, count in by_label.items():
                if count:
                    counter.inc(count, {**job, label: value})
