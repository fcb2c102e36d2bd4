"""The joint model of all hypotheses.

| question | where |
|---|---|
| What are its columns; how are fixed effects absorbed; why is a column left out? | `design` |
| OLS from streamed sums | `linear` |
| Logit and Poisson, separation, Firth's penalty, average marginal effects | `glm`, `likelihood` |
| HC3 and cluster-robust covariances, effective groups | `covariance` |
| p-values and intervals of estimates | `estimates` |
"""
