"""tiny_cnn in Keras 3: ``compile`` and ``fit`` on arrays in memory, its backend as KERAS_BACKEND says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import layers

from benchmarks.cases import MEAN, STD, Case, arrays
from benchmarks.clock import Result, Stopwatch
from benchmarks.peers import CLASSES, EVAL_BATCH, FILTERS, RATES, learning_rates

STEPS = 16  # optimizer steps in one call of JAX, as many as cnnbench takes in one Lightning step


def make_optimizer(name: str) -> Any:
    """With torch's defaults."""
    rate = RATES[name]
    if name == "sgd":
        return keras.optimizers.SGD(rate)
    if name == "rmsprop":
        return keras.optimizers.RMSprop(rate, rho=0.99, epsilon=1e-8)
    return keras.optimizers.Adam(rate, epsilon=1e-8)


def build(case: Case, data: Path, optimizer: str = "adam", scheduler: str = "none") -> Callable[[int], Result]:
    """The training of a case."""
    sets = {}
    for split in ("train", "val"):
        images, labels = arrays(data, split)
        sets[split] = (images.astype("float32") / 255 - MEAN) / STD, labels.astype("int32")
    keras.utils.set_random_seed(0)
    blocks: list[Any] = []
    # as torch draws them: uniform within 1 / sqrt(inputs of a unit)
    options: dict[str, Any] = {"kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")}
    for filters in FILTERS:
        blocks += [layers.Conv2D(filters, 3, padding="same", activation="relu", **options), layers.MaxPooling2D(2)]
    inputs = layers.Input((case.size, case.size, case.channels))
    network = keras.Sequential([inputs, *blocks, layers.Flatten(), layers.Dense(CLASSES, **options)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(make_optimizer(optimizer), loss, metrics=["accuracy"], jit_compile=True, steps_per_execution=STEPS)

    def train(epochs: int) -> Result:
        callbacks = []
        if scheduler != "none":
            rates = learning_rates(RATES[optimizer], scheduler, epochs)
            callbacks.append(keras.callbacks.LearningRateScheduler(lambda epoch, _: rates[epoch]))
        watch = Stopwatch()
        history = network.fit(
            *sets["train"], batch_size=case.batch_size, epochs=epochs, verbose=0, callbacks=callbacks,
            validation_data=sets["val"], validation_batch_size=EVAL_BATCH,
        )  # fmt: skip
        return watch.result(history.history["loss"][-1])

    return train
