"""Command lines that are wrong: each is told in one line, with status 2, before anything is written.

``python tests/cli/test_wrong_command_lines.py`` tries each as a process of its own, and prints how many there were.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from cnnbench.cli.main import main

LONG = "a" * 300
# In a folder with a file, an empty folder, a folder of no images, an image, a text that is called .png, an unfinished run,
# a finished one without weights, and one whose record is damaged.
WRONG = r"""
--config-name=zzz
--config-name zzz
--config-name
-cn zzz
--config-dir
--config-dir=nope
--config-dir file
-cd
--config-path=empty
--config-path
-cp empty
--experimental-rerun
--experimental-rerun=file
--experimental-rerun file
--run --multirun
-r -m
-mr
-m -r seed=0,1
-m=3
--multirun=true
-mx
--help nope=3
--help optimizer=adma
-h model.nope=3
--help=3
-h=3
--hydra-help nope=3
--hydra-help=1
--hydra-hel
--version nope=3
--version=2
--versio
--info nope
--info=nope
-i nope
--info config nope=3
-i -h
--info --cfg job
--shell-completion
--shell-completion install
--shell-completion install=csh
--shell-completion nope=bash
--shell-completion install=bash uninstall=bash
-sc
-sc install=
-sc query=bash
--cfg
--cfg=nope
--cfg nope
-c
-c nope
--cfg job nope=3
--cfg job optimizer=adma
--cfg job --package nope
--cfg job --package
--cfg job -p model.nope
--cfg job --cfg nope
--resolve
--package model
-p model
-p
--verbos
--nope
--nope=3
-x
-1
-
---
-m -
--help --hydra-help
-h --version
nope
{LONG}
{LONG}=3
--{LONG}
-{LONG}
name={LONG}/{LONG} hydra.run.dir={LONG}
hydra.run.dir={LONG}
hydra.run.dir=file
hydra.run.dir=file/below
-m seed=0,1 hydra.sweep.dir=file
-m seed=0,1 hydra.sweep.dir={LONG}
-m seed=0,1 hydra.run.dir=there
hydra.sweep.dir=there
hydra=x
-m seed=range(0,3,0)
-m data.path=glob(*)
-m hydra/sweeper=optuna optimizer.lr=range(1,0)
augment=[1,2]
hydra/launcher={a:1}
model={a:1}
Train
TRAIN
run
help
=
=3
+=3
~
~nope
~model.nope
+
+model
+nope
++
++=
@
@=1
model@=lenet
model@x
model=
model=nope
model=lenet,alexnet
model=3
model=true
model=1.5
model={a
model=}
model=a=b
model= lenet
model/nope=3
model/lenet
model.lenet
+model=lenet
model.filters=3
model.filters=[a]
model.filters=[-1]
model.filters=
model.filters={a:1}
model.nope=3
model..filters=[3]
.model=lenet
model.=3
data=nope
data=image_folder
data=image_folder data.path=nope
data=image_folder data.path=file
data=image_folder data.path=empty
data=npz
data=npz data.path=file
data=npz data.path=empty
data=mnist data.root=file
data=csv
data=csv data.path=nope
data=csv data.path=empty
data=csv data.path=file
data=torchvision data.name=nope
data=torchvision data.name=KMNISTT
data=torchvision data.name=null
data=torchvision data.name=EMNIST
data=torchvision data.name=SVHN data.source.arguments=3
data=medmnist data.name=nope data.root=empty
data=hf
data=hf data.path=nope
data=hf data.path=file data.name=a/b
data.batch_size=0
data.batch_size=a
data.validation=2
data.validation=nope
data.limit_train=0
data.limit_train=-1
data.image_size=0
data.image_size=1e9999
data.storage=nope
data.worker_seconds=0
optimizer=adma
optimizer=glob(nope*)
optimizer=glob(
optimizer.lr=0
optimizer.lr=-1
optimizer.lr=nan
optimizer.lr=inf
optimizer.lr=
optimizer.lr=a
optimizer.lr=null
optimizer.lr=[1]
optimizer.lr=0.1,0.2
optimizer.lr=interval(0.1,1)
optimizer.lr=choice(
optimizer.lr=choice()
optimizer.lr=range(
optimizer.lr=nope(3)
optimizer.lr=${nope}
optimizer.lr=${nope:3}
optimizer.lr=${
optimizer.lr=???
optimizer.momentum=0.5
optimizer=sgd optimizer.momentum=1
scheduler=nope
scheduler.interval=nope
scheduler=step scheduler.step_size=0
augment=nope
augment.flip=2
trainer=nope
trainer.max_epochs=0
trainer.max_epochs=1.5
trainer.max_epochs=a
trainer.max_epochs=1_0.
trainer.devices=99 trainer.accelerator=cpu data.batch_size=8
trainer.precision=nope
trainer.accelerator=nope
trainer.nope=3
trainer=gpu trainer.devices=999
trainer.strategy=nope
trainer.deterministic=nope
seed=
seed=-1
seed=a
seed=0.5
seed=1e99
seed=0,1
seed=range(3)
objective=nope
objective=val
objective=val/nope
objective=test/accuracy
test_with=nope
init_from=nope
init_from=file
init_from=empty
init_from=''
label_smoothing=2
steps_per_execution=0
threads=0
compile=nope
experiment=nope
-m experiment=eq2425/default,nope
experiment=eq2425
experiment=eq2425/nope
study=eq2425
+study.from=corrected
logger=nope
logger.name=../x
callbacks=nope
callbacks.nope=3
callbacks.progress.seconds=-1
+callbacks.x._target_=nope.Nope
+callbacks.x._target_=
model._target_=nope
model._target_=nope.Nope
hydra=3
hydra/launcher=nope
hydra/nope=3
hydra.nope=3
hydra.run=3
hydra.mode=NOPE
hydra.job.nope=3
hydra.launcher.nope=3
hydra/sweeper=basic
-m hydra/launcher=submitit_local
hydra/sweeper=nope
hydra.sweeper.n_trials=3
test_time_augmentation=five
-m -
-m hydra/sweeper=nope seed=0,1
-m hydra/launcher=nope seed=0,1
-m seed=0,a
-m seed=
-m seed=range(
-m seed=range(0)
-m seed=choice()
-m optimizer=sgd,adma
-m optimizer=glob(nope)
-m optimizer.lr=interval(0.1,1)
-m nope=1,2
-m model=lenet,nope
-m model.filters=[3],[a]
-m model=3,4
-m seed=0,1 --nope
-m seed=0,1 nope
-m seed=0,1 hydra/launcher=parallel hydra.launcher.n_jobs=0
-m seed=0,1 sweep.timeout=-1
-m seed=0,1 sweep.timeout=1 sweep.isolate=false
-m seed=0,1 sweep.retries=-1
-m seed=0,1 hydra.sweeper.dry_run=nope
-m hydra/sweeper=optuna optimizer.lr=interval(1,0.1)
-m hydra/sweeper=optuna hydra.sweeper.n_trials=0 seed=0,1
report
report nope
report file
report empty
report {LONG}
report run --format
report run --format nope
report run --metric nope
report run --objective nope
report run --baseline nope
report run --baseline optimizer=nope
report run --run nope
report run --versus nope
report run --size a
report run --nope
report run --out file
report damaged --metric nope
reproduce
reproduce nope
reproduce eq2425 nope
reproduce eq2425 --seeds 0
reproduce eq2425 --seeds a
reproduce eq2425 --form nope
reproduce eq2425 --nope
reproduce eq2425 model=lenet,alexnet
reproduce eq2425 nope=3
reproduce {LONG}
resume
resume nope
resume file
resume empty
resume {LONG}
resume empty nope
resume empty optimizer=adam
resume empty --nope
resume empty empty
resume empty --trust
confirm
confirm nope
confirm empty
confirm empty --top none
confirm empty optimizer=adam
rerun
rerun nope
rerun file
rerun empty
rerun unfinished
rerun damaged
rerun run run
rerun {LONG}
rerun run x y
rerun run --nope
predict
predict run
predict nope image.png
predict file image.png
predict empty image.png
predict unfinished image.png
predict damaged image.png
predict run nope.png
predict run empty
predict run image.png --format nope
predict run image.png --format
predict run image.png --top 0
predict run image.png --top a
predict run image.png --batch-size 0
predict run image.png --weights nope
predict run image.png --nope
predict run image.png --explain=x
predict run image.png
predict run {LONG}
predict {LONG} image.png
export
export nope
export file
export empty
export unfinished
export damaged
export run
export run --format nope
export run --weights nope
export run --nope
export run x
noise nope
noise --seeds 1
noise --seeds a
noise optimizer=sgd,adam
noise seed=1
noise optimizer=adma
find-lr nope
find-lr nope=3
find-lr --low a
find-lr --low
find-lr --nope
find-lr optimizer=adma
find-lr optimizer.lr=-1
find-lr --low 1 --high 0.1
find-lr --low -1
find-lr --steps 0
find-lr --steps a
tensorboard nope
tensorboard file
tensorboard {LONG}
tensorboard --host
tensorboard --port
tensorboard
hydra.run.dir=/proc/nope
report run --out /proc/nope
-m seed=0,1 hydra.sweep.dir=run
-m seed=0,1 hydra.sweep.dir=/proc/nope
-m seed=0,1 hydra.sweep.dir=run hydra.sweeper.dry_run=true
hydra.run.dir=sweep
rerun run sweep
objective=test/accuracy data.validation=test
callbacks=early_stopping callbacks.early_stopping.objective=val/accurcy
list nope
list optimizer=nope
list model=alexnet channels=0
list model=alexnet image_size=a
list --nope
list hydra
list hydra/launcher=nope
list {LONG}
"""
LINES = WRONG.strip().splitlines()
OVERRIDES = [line for line in LINES if "=" in line.split()[0] and line[0] != "-"]  # take a second each to compose
QUICK = [line for line in LINES if line not in OVERRIDES] + OVERRIDES[::6]


def prepare(folder: Path) -> None:
    """The files that the lines name."""
    (folder / "empty").mkdir()
    (folder / "file").write_text("text")
    (folder / "text.png").write_text("text")
    Image.new("L", (8, 8)).save(folder / "image.png")
    shutil.copytree(Path(__file__).parent.parent / "config" / "version_1", folder / "run")
    shutil.copytree(folder / "run", folder / "unfinished")
    text = (folder / "run" / "result.json").read_text()
    (folder / "unfinished" / "result.json").write_text(text.replace('"completed"', '"failed"', 1))
    (folder / "sweep").mkdir()
    (folder / "sweep" / "multirun.yaml").touch()
    (folder / "damaged").mkdir()
    (folder / "damaged" / "result.json").write_text(text[:500])


def arguments(line: str) -> list[str]:
    return shlex.split(line.replace("{LONG}", LONG), comments=False)


def test_a_wrong_line_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    there = sorted(tmp_path.rglob("*"))
    wrong = []
    for line in QUICK:
        try:
            status = main(arguments(line))
        except BaseException as error:
            status = repr(error)[:200]
        out, err = capfd.readouterr()
        if status != 2 or out or err.count("\n") != 1 or not err.startswith("cnnbench: "):
            wrong.append(f"{line}: status {status}, {len(out.splitlines())} lines, {err[:300]!r}")
        if sorted(tmp_path.rglob("*")) != there:
            new = [str(path) for path in tmp_path.rglob("*") if path not in there]
            wrong.append(f"{line}: wrote {new}")
            there = sorted(tmp_path.rglob("*"))
    assert not wrong, "\n".join(wrong)


def as_process(line: str, folder: Path) -> str | None:
    """What is wrong with the answer of a process of its own; None where nothing is."""
    command = [sys.executable, "-m", "cnnbench", *arguments(line)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    there = sorted(path.name for path in folder.iterdir())
    try:
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, input="", timeout=120)
    except subprocess.TimeoutExpired:
        return f"{line}: no answer in two minutes"
    problem = done.returncode != 2 or done.stdout or len(done.stderr.splitlines()) != 1
    new = [path.name for path in folder.iterdir() if path.name not in there]
    return f"{line}: status {done.returncode}, {done.stderr[-300:]!r}, wrote {new}" if problem or new else None


if __name__ == "__main__":
    wrong = 0
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(3) as pool:
        prepare(Path(name))
        for problem in filter(None, pool.map(lambda line: as_process(line, Path(name)), LINES)):
            print(problem, flush=True)
            wrong += 1
    print(f"{len(LINES)} wrong command lines, {wrong} of them not told in one line, with status 2")
