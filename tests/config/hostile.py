"""Folders of runs made by hostile hands. Where one can do what it tries, it leaves a file or a folder named MARK.

``python tests/config/hostile.py RUN FOLDER`` makes one below FOLDER of each case, from a finished run.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from cnnbench.utils.record import read_record, write_record

MARK = "MARK"
Case = Mapping[str, Any]


class Pickled:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def in_configurations(mark: Path, pickled: Path) -> dict[str, Case]:
    """Keys that are set in a saved configuration, in ``result.json`` and by the overrides that ``resume`` repeats."""
    path = str(mark)
    mkdir = {"_target_": "os.mkdir", "path": path}
    instantiate_class = {
        "_target_": "lightning.pytorch.cli.instantiate_class", "args": path, "init": {"class_path": "os.mkdir"}
    }  # fmt: skip
    write_file = {
        "_target_": "torchvision.io.write_file", "filename": path,
        "data": {"_target_": "torchvision.io.read_file", "path": str(pickled)},
    }  # fmt: skip
    load = {"_target_": "lightning.fabric.utilities.cloud_io._load", "path_or_url": str(pickled), "weights_only": False}
    cases: dict[str, Case] = {
        "os.mkdir as the network": {"model": mkdir},
        "os.mkdir as an argument": {"model.filters": mkdir},
        "os.mkdir in a list": {"model.filters": [mkdir]},
        "os.mkdir deep in an argument": {"model.filters": {"a": {"b": [mkdir]}}},
        "os.mkdir where the data has no target": {"data.mean": mkdir},
        "os.mkdir as source": {"data.source": mkdir},
        "os.mkdir as augmentation": {"augment": mkdir},
        "os.mkdir as optimizer": {"optimizer": {**mkdir, "_partial_": True}},
        "os.mkdir in an optimizer": {"optimizer.betas": [mkdir, 0.9]},
        "os.mkdir as scheduler": {"scheduler": {**mkdir, "interval": "epoch"}},
        "os.mkdir as callback": {"callbacks.x": mkdir},
        "os.mkdir as logger": {"logger": mkdir},
        "os.mkdir as trainer": {"trainer": mkdir},
        "os.mkdir as plugin of the trainer": {"trainer.plugins": [mkdir]},
        "os.mkdir by a module of ours": {"model": {**mkdir, "_target_": "cnnbench.training.checkpoint_io.os.mkdir"}},
        "os.mkdir by a module of torch's": {"model.filters": [{**mkdir, "_target_": "torch.nn.modules.module.os.mkdir"}]},
        "os.mkdir as a method": {"callbacks.x": {"_target_": "pathlib.Path.mkdir", "self": {"_target_": "pathlib.Path", "_args_": [path]}}},
        "instantiate_class as an argument": {"model.filters": instantiate_class},
        "instantiate_class as a callback": {"callbacks.x": instantiate_class},
        "_load without weights_only": {"callbacks.x": load},
        "_load as an argument": {"model.filters": [load]},
        "write_file": {"model.filters": write_file},
        "joblib.load": {"model.filters": {"_target_": "joblib.load", "filename": str(pickled)}},
        "two halves by oc.decode": {
            "model.half": "_tar", "model.filters": f"${{oc.decode:'{{${{model.half}}get_: os.mkdir, path: \"{path}\"}}'}}",
        },
        "two halves by oc.decode, relative": {
            "model.half": "_tar", "model.filters": f"${{oc.decode:'{{${{.half}}get_: os.mkdir, path: \"{path}\"}}'}}",
        },
        "two halves in a callback": {
            "callbacks.x": {"half": "os.mk", "_target_": "${.half}dir", "path": path},
        },
        "two halves by a resolver of ours": {"callbacks.x": {"_target_": "${run_folder:os.mkdir}", "path": path}},
        "a secret of the environment": {"name": "${oc.env:HOME}"},
        "a node that is a target": {"callbacks.x": "${evil}", "evil": mkdir},
        "positional arguments": {"model.filters": {"_target_": "os.mkdir", "_args_": [path]}},
        "positional arguments of a trusted class": {"optimizer._args_": [[mkdir]]},
        "arguments that are not instantiated": {"model._recursive_": False, "model.filters": [mkdir]},
        "a partial where none belongs": {"model._partial_": True},
        "another conversion": {"model._convert_": "object"},
        "an evaluated text": {"model.filters": {"_target_": "builtins.eval", "_args_": [f"__import__('os').mkdir({path!r})"]}},
        "a process": {"callbacks.x": {"_target_": "subprocess.run", "args": ["mkdir", path]}},
        "Hydra's instantiate": {"callbacks.x": {"_target_": "hydra.utils.instantiate", "_recursive_": False, "config": mkdir}},
        "a module that is imported": {"callbacks.x": {"_target_": "evil_module.Callback"}},
        "a checkpoint elsewhere": {
            "callbacks.x": {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "dirpath": path, "save_last": True}
        },
        "a logger of another name": {"logger": {"_target_": "lightning.pytorch.loggers.CometLogger", "name": f"../../{mark.name}"}},
        "a network of the wrong kind": {"model": {"_target_": "lightning.pytorch.Trainer", "default_root_dir": path}},
        "a trainer as callback": {"callbacks.x": {"_target_": "lightning.pytorch.Trainer", "default_root_dir": path}},
        "an optimizer as callback": {"callbacks.x": {"_target_": "torch.optim.SGD", "params": []}},
        "a network of torch's that calls": {"model": {"_target_": "torch.distributed.nn.RemoteModule", "remote_device": "a", "module_cls": "b"}},
        "a function of torch's": {"model.filters": {"_target_": "torch.hub.load", "repo_or_dir": str(mark.parent), "model": "x", "source": "local"}},
        "a lambda of torch's scheduler": {"scheduler": {"_target_": "torch.optim.lr_scheduler.LambdaLR", "_partial_": True, "lr_lambda": mkdir, "interval": "epoch"}},
        "a target that is a list": {"model._target_": ["os.mkdir"]},
        "a target that is a number": {"callbacks.x": {"_target_": 3}},
        "a target of version 1 that goes on": {"augment._target_": "cnnbench.augment.os.mkdir"},
        "a value that is missing": {"model.filters": "???"},
        "os.mkdir as loss": {"loss": mkdir},
        "os.mkdir as an argument of the loss": {"loss.gamma": mkdir},
        "a function of ours as loss": {"loss": {"_target_": "cnnbench.training.losses.build_loss", "config": {}}},
        "os.mkdir as average": {"average": mkdir},
        "an average of Lightning's": {"average": {"_target_": "lightning.pytorch.callbacks.WeightAveraging"}},
        "os.mkdir as sampling": {"data.sampling": mkdir},
        "timm itself": {"model": {"_target_": "cnnbench.models.by_name.timm.create_model", "model_name": "hf-hub:a/b"}},
        "weights from anywhere": {"model": {"_target_": "cnnbench.models.by_name.load_weights", "source": str(pickled)}},
        "a logger by a name of its own": {"logger": {"comet": {"_target_": "lightning.pytorch.loggers.CometLogger"}}},
        "a target that climbs": {"model._target_": "cnnbench.models...os.mkdir"},
    }  # fmt: skip
    return cases


def in_values(mark: Path, pickled: Path) -> dict[str, Case]:
    """Keys whose values are plain, and would make what is built by itself write elsewhere."""
    path = str(mark)
    logger = {"_target_": "lightning.pytorch.loggers.TensorBoardLogger"}
    return {
        "a logger elsewhere": {"logger": {**logger, "name": f"../../{mark.name}"}},
        "a logger at the root": {"logger": {**logger, "version": path}},
        "a logger in a folder below": {"logger": {**logger, "sub_dir": f"../../../{mark.name}"}},
        "a search's storage elsewhere": {"sweep": {"trial": {"number": 0, "storage": path, "pruner": "none", "startup_trials": 0}}},
        "prepared images elsewhere": {"data.cache": path},
        "a repository of timm's": {"model": {"_target_": "cnnbench.models.by_name.timm_network", "name": "hf-hub:a/b"}},
        "a csv file elsewhere": {"logger": {"csv": {"_target_": "lightning.pytorch.loggers.CSVLogger", "name": "a", "version": path}}},
        "the model registry": {"trainer.model_registry": "somebody/else"},
    }  # fmt: skip


def in_overrides(mark: Path, pickled: Path) -> dict[str, list[str]]:
    """Overrides that ``resume`` would repeat, of ``hydra`` and of groups."""
    path, yamls = str(mark), str(pickled.parent / "conf")
    up = "../" * 20
    return {
        "a search path": [f"hydra.searchpath=[file://{yamls}]", "+callbacks@callbacks.x=evil"],
        "a search path, added": [f"++hydra.searchpath=['file://{yamls}']", "model=evil_model"],
        "a search path in a dict": [f"hydra={{searchpath:['file://{yamls}']}}", "model=evil_model"],
        "a YAML that lies elsewhere": [f"model={up}{yamls[1:]}/model/evil_model"],
        "a YAML that lies elsewhere, in another group": [f"+callbacks@callbacks.x={up}{yamls[1:]}/callbacks/evil"],
        "a YAML that lies elsewhere, in a list": [f"+experiment=[eq2425/_base,'{up}{yamls[1:]}/callbacks/evil']"],
        "the environment of the runs": [f"+hydra.job.env_set.LD_PRELOAD={path}"],
        "the environment, copied": ["hydra.job.env_copy=[HOME]"],
        "a handler that empties a file": [
            f"+hydra.job_logging.handlers.x={{class: logging.FileHandler, filename: '{path}', mode: w}}",
            "hydra.job_logging.root.handlers=[x]",
        ],
        "a handler of any class": [f"+hydra.hydra_logging.handlers.x={{'()': os.mkdir, path: '{path}'}}"],
        "no logging": ["hydra/job_logging=none"],
        "Hydra's files outside the folder": [f"hydra.output_subdir='{path}'"],
        "Hydra's files above the folder": [f"hydra.output_subdir='../{mark.name}'"],
        "a folder outside": [f"hydra.sweep.subdir='../../{mark.name}'"],
        "a folder at the root": [f"hydra.sweep.subdir='{path}'"],
        "another working folder": ["hydra.job.chdir=true"],
        "a callback of Hydra's": [f"+hydra.callbacks.x={{_target_: os.mkdir, path: '{path}'}}"],
        "a launcher of any class": [f"hydra.launcher={{_target_: os.mkdir, path: '{path}'}}"],
        "a launcher of any class, its target": ["hydra.launcher._target_=os.mkdir", f"+hydra.launcher.path={path}"],
        "a sweeper of any class": ["hydra.sweeper._target_=os.mkdir", f"+hydra.sweeper.path={path}"],
        "shell lines of Slurm": ["hydra/launcher=submitit_slurm", f"hydra.launcher.setup=['mkdir {path}']"],
        "options of sbatch": ["hydra/launcher=submitit_slurm", f"hydra.launcher.additional_parameters={{wrap: 'mkdir {path}'}}"],
        "a folder of submitit's": ["hydra/launcher=submitit_slurm", f"hydra.launcher.submitit_folder='{path}'"],
        "somebody's Ray": ["hydra/launcher=ray", "hydra.launcher.ray.init.address='ray://example.org:10001'"],
        "shell characters in a partition": ["hydra/launcher=submitit_slurm", f"hydra.launcher.partition='a; mkdir {path}'"],
        "a model as a callback": ["+model@callbacks.x=tiny_cnn"],
        "a model as a source": ["model@data.source=tiny_cnn"],
        "an optimizer as the sweeper": ["optimizer@hydra.sweeper=adam"],
        "a group of Hydra's": ["hydra/output=default"],
        "an interpolation by escapes": ["name=$\\{oc.env:HOME\\}"],
        "an interpolation of a resolver of Hydra's": ["name='${hydra:runtime.cwd}'"],
        "an interpolation in a sweep": ["name='${oc.env:HOME}',b"],
        "an interpolation in a key": ["callbacks={'${oc.env:HOME}':{_target_:os.mkdir}}"],
        "a target in a sweep": [f"callbacks={{x:{{_target_:os.mkdir,path:'{path}'}}}},{{}}"],
        "a target in a sweep's choice": ["model._target_=choice(os.mkdir,os.makedirs)"],
        "a target of a deleted key": ["~model._target_", f"+callbacks.x={{_target_:os.mkdir,path:'{path}'}}"],
        "a storage of a search": [f"+sweep.trial.storage='{path}'"],
        "a flag": ["--config-dir", yamls],
        "a flag of Hydra's": [f"--config-dir={yamls}", "--multirun"],
        "no override": ["what?"],
    }  # fmt: skip


def _literal(value: Any) -> str:
    """``value`` in Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_literal, value))}]"
    if isinstance(value, str):
        return "'" + value.replace("'", "\\'") + "'"
    return json.dumps(value)


def make(run: Path, into: Path) -> dict[str, list[Path]]:
    """Make the folders; returns them by ``configuration``, ``values`` and ``overrides``. MARK would be in ``into``."""
    into.mkdir(parents=True, exist_ok=True)
    mark, pickled = into.resolve() / MARK, into.resolve() / "theirs" / "pickled.ckpt"
    for group, name in (("callbacks", "evil"), ("model", "evil_model")):
        target = pickled.parent / "conf" / group / f"{name}.yaml"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(yaml.safe_dump({"_target_": "os.mkdir", "path": str(mark)}))
    torch.save({"state_dict": Pickled(mark)}, pickled)
    (pickled.parent / "evil_module.py").write_text(f"import os; os.mkdir({str(mark)!r})")
    made: dict[str, list[Path]] = {"configuration": [], "values": [], "overrides": []}
    configurations, values = in_configurations(mark, pickled), in_values(mark, pickled)
    for name, keys in (configurations | values).items():
        record = read_record(run)
        for key, value in keys.items():
            node = record["config"]
            *above, last = key.split(".")
            for part in above:
                node = node.setdefault(part, {})
            node[last] = {**node[last], **value} if key == "sweep" else value
        overrides = [f"++{key}={_literal(value)}" for key, value in keys.items()]
        made["configuration" if name in configurations else "values"].append(
            _folder(run, into / name.replace("/", "-"), record, overrides)
        )
    for name, texts in in_overrides(mark, pickled).items():  # which confirm would repeat from the record
        made["overrides"].append(_folder(run, into / name.replace("/", "-"), read_record(run), texts))
    return made


def _folder(run: Path, folder: Path, record: dict[str, Any], overrides: list[str]) -> Path:
    own = [*record["overrides"], *overrides]
    write_record(folder, {**record, "overrides": own})
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(own))
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(record["config"]))
    shutil.copytree(run / "checkpoints", folder / "checkpoints", copy_function=os.link)
    sweep = folder / "sweep"
    sweep.mkdir()
    (sweep / "sweep.json").write_text(json.dumps({"commands": [own], "runs": {}}))
    return folder


if __name__ == "__main__":
    for kind, folders in make(Path(sys.argv[1]), Path(sys.argv[2])).items():
        print(f"{len(folders)} of {kind}")
