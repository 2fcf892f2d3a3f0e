"""The search language: MLflow's, with parentheses, OR and NOT. Text becomes nodes here; what a store does with them is its own business."""
