"""The statistics, pure. Start reading at `evaluate.py`, which calls all others in order.

| question | where |
|---|---|
| What is tested, in which order, and what do the columns of the table mean? | `evaluate`, `analysis` |
| Which test chose `separation_pval`: Welch, cluster-robust, or one of `exact`? | `separation` |
| Fisher, permutations, sign flips for small cells | `exact` |
| Which model and which standard errors chose `regression_pval`? | `analysis.method_of` |
| The joint model: columns, fixed effects; why is a column left out? | `regression/design`, `collinear` |
| Its fit: OLS from streamed sums | `regression/joint`, `linear` |
| Logit and Poisson, separation, Firth's penalty, average marginal effects | `glm`, `likelihood` |
| HC3, cluster-robust errors, effective groups; p-values, intervals | `covariance`, `estimates` |
| How are p-values adjusted, and which intervals match? | `multiplicity` |
| How well do hypotheses predict the target; with which intervals? | `prediction/cross_fit`, `measures` |
| How well do embeddings and neurons; where is signal lost? | `features`, `chain` |
| Is there any signal at all? | `signal` |
| Which hypotheses say the same? | `redundancy` |
| Does a stronger activation mean more? | `dose` |
| What is wrong with these numbers? | `notes` |
| What are the rows, in memory or streamed? | `sample` |
"""
