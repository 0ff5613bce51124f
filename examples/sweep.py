"""A sweep with Optuna in 30 lines: one study of marline per trial, in a run directory of its own.

    pip install optuna
    python examples/sweep.py runs/sweep

Trials are in runs/sweep/trials.log too, so that a sweep that was stopped goes on where it was, and several processes
that are started with the same folder share one sweep. Ray Tune takes the same objective, with `config["alpha_bc"]` in
place of what a trial suggests. The best of twenty looks better than it is: run it once more, with other seeds.
"""

import sys
from pathlib import Path

import optuna  # pyright: ignore[reportMissingImports]

import marline

SMALL = dict(dataset_size=20_000, offline_updates=2000, deployments=3, updates=250, evaluation_episodes=100)


def sweep(folder: Path, *, trials: int = 20, seeds: int = 2, **settings) -> optuna.Study:
    def objective(trial: optuna.Trial) -> float:
        alpha_bc = trial.suggest_float("alpha_bc", 0.5, 200.0, log=True)
        study = marline.Study.create(
            folder / f"trial-{trial.number}",
            task="cooperative-navigation-2",
            algorithm=marline.TD3BC(hidden=(64, 64), alpha_bc=alpha_bc),
            samplers=[trial.suggest_categorical("sampler", ["otc-value", "uniform"])],
            seeds=seeds,
            **{**SMALL, **settings},
        )
        returns = study.run(progress=False).returns  # pandas, or a record array of NumPy without it
        return float(returns["return"][returns["deployment"] == returns["deployment"].max()].mean())

    folder.mkdir(parents=True, exist_ok=True)
    file = optuna.storages.journal.JournalFileBackend(str(folder / "trials.log"))
    storage = optuna.storages.JournalStorage(file)
    found = optuna.create_study(storage=storage, study_name="marline", direction="maximize", load_if_exists=True)
    found.optimize(objective, n_trials=trials)
    return found


if __name__ == "__main__":
    best = sweep(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/sweep"))
    print(best.best_params, best.best_value)
