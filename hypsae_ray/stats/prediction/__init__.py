"""How well the target is predicted, on rows that the fit left out.

| question | where |
|---|---|
| Prediction by hypotheses; bootstrap intervals of R2, AUC, AUPRC | `cross_fit` |
| Prediction by embeddings and neurons | `features` |
| Where signal is lost from embedding to hypotheses | `chain` |
| Is there any signal at all? | `signal` |
| The measures of weighted rows | `measures` |
"""
