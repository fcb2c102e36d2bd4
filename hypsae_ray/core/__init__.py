"""The method, pure: numpy, scipy, torch, scikit-learn and statsmodels; no Ray, no vLLM, no files.

| to find | read |
|---|---|
| what a user's value means | values, columns |
| the texts' rows, copies among them | rows, near_copies |
| the autoencoder and its training | sae, losses, training, collective |
| which neurons, from which texts, in which words | selection, sampling, prompts, keywords |
| how true the words are, and which P(yes) is a yes | fidelity, thresholds |
| which answers are still to be asked | pairs, text_index, sharing |
| words and tokens of texts, and what was cut | scripts, cuts |
| the statistics, from the top down | inference, analysis; separation, exact |
| joint models | design, linear, glm, likelihood, sandwich |
| many tests, prediction, any signal at all | multiplicity; chain, prediction, penalised, measures; signal |
| dose, copies among hypotheses, notes in words | dose, redundancy, diagnostics |
| what notebooks hand over | arguments, targets, controls |
| what all of the statistics read | sample, estimates, algebra |
"""
