"""The search language: MLflow's, with parentheses, OR and NOT.

    metrics.loss < 0.5 AND (params.`my model` LIKE 'resnet%' OR NOT tags.team = 'vision') AND start_time > 1700000000000

A metric is its last value; `metrics.loss.min`, `.max`, `.first`, `.last` and `.count` compare what the store knows of its whole history,
in a run that has no metric of that very name. `parser` gives the grammar, `evaluate` the meaning, `order` what a search is sorted by.
Text becomes nodes here; what a store does with them is its own business.
"""
