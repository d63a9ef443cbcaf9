"""Which values the keys of the configuration may have, checked before any work starts."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cnnbench.utils.errors import RequestError, did_you_mean

MISSING = object()
# What ``metrics`` may name, beside loss, accuracy and recall: from the predictions alone, and from the logits.
CLASS_METRICS = ("precision", "f1", "kappa")
LOGIT_METRICS = ("top5_accuracy", "auroc", "calibration_error", "brier")
LOWER_IS_BETTER = ("loss", "error", "brier")  # ends of metrics' names


class Check(NamedTuple):
    """Which values are right, and how to say it."""

    text: str
    holds: Callable[[Any], bool]


def _number(text: str, holds: Callable[[float], bool]) -> Check:
    return Check(text, lambda v: type(v) in (int, float) and math.isfinite(v) and holds(v))


def _one_of(*words: str) -> Check:
    return Check(" or ".join(words), lambda v: isinstance(v, str) and v in words)


def _or(*checks: Check) -> Check:
    return Check(" or ".join(check.text for check in checks), lambda v: any(check.holds(v) for check in checks))


def _list_of(text: str, check: Check, least: int = 1, most: float = math.inf) -> Check:
    return Check(text, lambda v: isinstance(v, list) and least <= len(v) <= most and all(map(check.holds, v)))


def _whole(least: int) -> Check:
    return Check(f"a whole number of at least {least}", lambda v: type(v) is int and v >= least)


NULL = Check("null", lambda v: v is None)
TEXT = Check("text", lambda v: isinstance(v, str))
AUTO = _one_of("auto")
TRUTH = Check("true or false", lambda v: isinstance(v, bool))
NUMBER = _number("a number", lambda v: True)
POSITIVE = _number("a number above 0", lambda v: v > 0)
BETWEEN = _number("a number between 0 and 1", lambda v: 0 < v < 1)
NOT_NEGATIVE = _number("a number, 0 or above", lambda v: v >= 0)
METRIC = _one_of(*CLASS_METRICS, *LOGIT_METRICS)
SHARE = _number("a number from 0 to below 1", lambda v: 0 <= v < 1)

# Of a key that is one of some words, these.
WORDS = {
    "augment.policy": "none trivial rand", "data.sampling": "uniform balanced", "data.duplicates": "warn drop error",
    "test_with": "best last", "test_time_augmentation": "none flip five_crop", "study.form": "published corrected",
    "callbacks.figures.explain": "none gradcam", "data.storage": "auto memory stream", "trainer.strategy": "auto ddp",
    "trainer.precision": "32-true bf16-mixed 16-mixed bf16-true 16-true 64-true",
    "trainer.gradient_clip_algorithm": "norm value", "scheduler.interval": "epoch step",
    "scheduler.shape": "sqrt linear", "scheduler.anneal_strategy": "cos linear",
    "hydra.sweeper.sampler": "tpe random qmc", "hydra.sweeper.pruner": "median halving wilcoxon none",
    "sweep.trial.pruner": "median halving none",
}  # fmt: skip
# Torch and Lightning do not check these, or late, or in words that a user cannot place. The layers of a network and
# the objective have checks that need more than the value (where they are used).
# A key that others are computed from comes before them, so that it is what is named.
KEYS: tuple[tuple[Check, str], ...] = (
    (TEXT, "name model.name data.cache sweep.trial.storage"),
    (_or(TEXT, NULL),
     "data.path data.root data.name data.source.dataset data.source.path data.source.subset data.source.revision "
     + " ".join(f"data.source.{kind}_column" for kind in ("path", "label", "split", "image"))),
    (_or(Check("arguments by name, such as {split: letters}", lambda v: isinstance(v, Mapping) and len(v) > 0), NULL),
     "data.source.arguments"),
    (NULL, "trainer.model_registry"),  # which would send checkpoints away
    (Check(f"a whole number from 0 to {2**32 - 1}", lambda v: type(v) is int and 0 <= v < 2**32), "seed"),
    (_whole(0), "data.seed data.split_seed data.workers sweep.retries fine_tune.frozen_epochs scheduler.patience "
                "callbacks.figures.every_n_epochs callbacks.figures.projector callbacks.early_stopping.patience hydra.sweeper.startup_trials "
                "hydra.sweeper.seed sweep.trial.number sweep.trial.startup_trials augment.crop_padding augment.cutout"),
    (Check("a whole number from 0 to 30", lambda v: type(v) is int and 0 <= v <= 30), "augment.rand_magnitude"),
    (_number("a number from 0 to 180", lambda v: 0 <= v <= 180), "augment.rotate"),
    (_whole(1), "trainer.max_epochs trainer.num_nodes trainer.accumulate_grad_batches data.batch_size "
                "data.eval_batch_size scheduler.step_size scheduler.cycles scheduler.growth divergence.epochs sweep.runs_per_gpu "
                "hydra.sweeper.n_trials augment.rand_operations hydra.sweeper.seeds"),
    (_or(_whole(1), AUTO), "steps_per_execution scheduler.T_max scheduler.total_iters"),
    (_or(_whole(1), NULL), "threads checkpoint.steps data.image_size data.limit_train sweep.stop_on_failure"),
    (TRUTH, "keep_predictions decay_norm_and_bias cuda_graph compile quirks.softmax_before_loss quirks.dropout_in_evaluation "
            "quirks.batch_recall quirks.train_in_eval_mode divergence.at_chance sweep.isolate sweep.repeat_failed sweep.earlier "
            "data.shuffle trainer.sync_batchnorm callbacks.figures.pictures hydra.sweeper.dry_run "
            "data.source.skip_damaged model.pretrained model.small_stem"),
    (_or(BETWEEN, NULL), "loss.alpha"),
    (NOT_NEGATIVE, "loss.gamma scheduler.eta_min scheduler.threshold callbacks.progress.seconds augment.brightness augment.contrast "
                   "augment.saturation augment.mixup augment.cutmix callbacks.early_stopping.min_delta"),
    (_or(NOT_NEGATIVE, NULL), "checkpoint.minutes callbacks.progress.minutes"),
    (POSITIVE, "fine_tune.backbone_lr_factor scheduler.power"),
    (_number("a number above 0, at most 1,000,000", lambda v: 0 < v <= 1e6), "data.worker_seconds"),
    (_or(Check("number, storage, pruner and startup_trials of a search",
               lambda v: isinstance(v, Mapping) and {*v} == {"number", "storage", "pruner", "startup_trials"}), NULL),
     "sweep.trial"),
    (_or(POSITIVE, NULL), "sweep.timeout sweep.practical trainer.gradient_clip_val"),
    (_or(_one_of("decided"), NULL), "sweep.until"),
    (_whole(3), "sweep.max_seeds"),
    (_or(Check("a configuration, such as optimizer=sgd", lambda v: isinstance(v, str)), NULL), "sweep.baseline"),
    (_or(_number("a number above 1", lambda v: v > 1), NULL), "divergence.above"),
    (_number("a number of at least 1", lambda v: v >= 1), "scheduler.div_factor scheduler.final_div_factor"),
    (SHARE, "label_smoothing loss.beta model.dropout model.feature_dropout average.decay average.start scheduler.warmup"),
    (_number("a probability from 0 to 1", lambda v: 0 <= v <= 1), "augment.flip augment.erase"),
    (_number("a number from 0 to 1", lambda v: 0 <= v <= 1), "augment.resized_crop"),
    (Check("1 (grey) or 3 (colour)", lambda v: type(v) is int and v in (1, 3)), "data.source.channels"),
    (_number("a number above 0, at most 1", lambda v: 0 < v <= 1),
     "data.memory_share scheduler.gamma scheduler.decay fine_tune.layer_decay"),
    (_or(_number("a fraction between 0 and 1", lambda v: 0 < v < 1), _one_of("test", "own", "none", "folds")), "data.validation"),
    (_or(_whole(2), NULL), "data.folds"),
    (_or(_whole(0), NULL), "data.fold"),
    (BETWEEN, "data.source.test_share optimizer.switch_at scheduler.factor scheduler.pct_start"),
    (_or(Check("the path of a file", lambda v: isinstance(v, str) and v != ""), NULL), "init_from"),
    (_or(NULL, Check("black and white, such as [0, 4095]", lambda v: isinstance(v, list) and len(v) == 2
                     and all(map(NUMBER.holds, v)) and v[0] < v[1])), "data.value_range"),
    (_or(NULL, Check("folders by split, such as {train: Training, test: Testing}", lambda v: isinstance(v, Mapping)
                     and "train" in v and all(isinstance(name, str) for name in v.values()))), "data.splits"),
    *((_or(one, _list_of("a list of one for each channel", one)), key)
      for one, key in ((NUMBER, "data.mean"), (POSITIVE, "data.std"))),
    (_list_of(f"a list of {METRIC.text}", METRIC, least=0), "metrics"),
    (Check("keys, such as study.form=corrected", lambda v: isinstance(v, Mapping)), "study"),
    *((Check(f"an optimizer's keys, as by optimizer@{key}=sgd", lambda v: isinstance(v, Mapping)), key)
      for key in ("optimizer.first", "optimizer.then", "optimizer.base_optimizer")),
    *((_one_of(*words.split()), key) for key, words in WORDS.items()),
    (_or(Check("how many", _whole(1).holds), AUTO, _list_of("a list of their numbers", _whole(0))), "trainer.devices"),
    (_or(TRUTH, _one_of("warn")), "trainer.deterministic"),
    (Check("false, for paths are relative to where the command runs", lambda v: v in (False, None)), "hydra.job.chdir"),
    (_or(_list_of("a list of whole numbers of at least 1", _whole(1), least=0), AUTO), "callbacks.figures.at_epochs"),
    (_or(POSITIVE, AUTO), "optimizer.lr"),
    (Check("a whole number of at least 1, or -1 for a run a core, -2 for one less",
           lambda v: type(v) is int and v != 0), "hydra.launcher.n_jobs hydra.sweeper.at_a_time"),
)  # fmt: skip
# Of an optimizer, of each of the two of optimizer=switch, and of the one in optimizer=sam.
OPTIMIZER_KEYS: tuple[tuple[Check, str], ...] = (
    (POSITIVE, "lr"),
    (SHARE, "momentum alpha rho"),
    (NOT_NEGATIVE, "weight_decay eps momentum_decay"),
    (_list_of("two numbers from 0 to below 1, such as [0.9, 0.999]", SHARE, least=2, most=2), "betas"),
    (TRUTH, "nesterov decoupled_weight_decay"),
    (_or(POSITIVE, NULL), "max_grad_norm"),
    (_one_of("match_rms_adamw", "original", "rms_to_rms"), "adjust_lr_fn"),
    (_or(TRUTH, NULL), "fused foreach"),
)
OPTIMIZERS = ("optimizer", "optimizer.first", "optimizer.then", "optimizer.base_optimizer")
VALUES = {f"{node}.{key}": check for node in OPTIMIZERS for check, keys in OPTIMIZER_KEYS for key in keys.split()}
LOGGERS = ("tensorboard", "csv", "wandb", "mlflow")  # by these names below ``logger`` where a run has several
LOGGER_KEYS: tuple[tuple[Check, str], ...] = (
    # TensorBoard's logger expands variables: .$EMPTY. is what .. is
    (Check("a folder's name below the run's folder",
           lambda v: isinstance(v, str) and ".." not in v and "$" not in v and v[:1] not in ("/", "~")),
     "name version sub_dir filename_suffix"),
    (TEXT, "project save_dir experiment_name tracking_uri"),
    (_or(TEXT, NULL), "artifact_location"),
    (TRUTH, "default_hp_metric offline"),
    (_whole(1), "flush_logs_every_n_steps"),
)  # fmt: skip
LOGGER_NODES = ("logger", *(f"logger.{name}" for name in LOGGERS))
VALUES |= {f"{node}.{key}": check for node in LOGGER_NODES for check, keys in LOGGER_KEYS for key in keys.split()}
VALUES |= {key: check for check, keys in KEYS for key in keys.split()}


def check_values(config: Mapping[str, Any]) -> None:
    """Check types and ranges of the keys that ``VALUES`` names, where the resolved configuration has them. Raises
    RequestError, naming the first wrong key, its value, and what would be right."""
    for key, check in VALUES.items():
        value: Any = config
        for name in key.split("."):
            value = value.get(name, MISSING) if isinstance(value, Mapping) else MISSING
        if value is not MISSING and not check.holds(value):
            choices = check.text.removeprefix("a list of ").split(" or ")
            words = [word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)]
            near = next((hint for word in words if word not in choices and (hint := did_you_mean(word, choices))), "")
            raise RequestError(f"{key} must be {check.text}, got {value!r}{near}")
