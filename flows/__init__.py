"""What runs, when and where: the only code that imports Prefect, MLflow or DVC."""
