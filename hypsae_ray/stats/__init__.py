"""The statistics, pure. Start reading at `evaluate.py`, which calls all others in order.

| question | where |
|---|---|
| What is tested, in which order, and what do the columns of the table mean? | `evaluate`, `analysis` |
| Which test chose `separation_pval`: Welch, cluster-robust, or one of `exact`? | `separation` |
| Fisher, permutations, sign flips for small cells | `exact` |
| Which model and which standard errors chose `regression_pval`? | `analysis.method_of`, `regression/` |
| How are p-values adjusted, and which intervals match? | `multiplicity` |
| How well is the target predicted, and is there any signal? | `prediction/` |
| Which hypotheses say the same? | `redundancy` |
| Does a stronger activation mean more? | `dose` |
| What is wrong with these numbers? | `notes` |
| What are the rows, in memory or streamed? | `sample` |
"""
