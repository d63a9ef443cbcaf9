"""tiny_cnn in JAX as its documentation advises: an epoch is one compiled program, a ``lax.scan`` over its batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from benchmarks.cases import MEAN, STD, Case, arrays
from benchmarks.clock import Result, Stopwatch
from benchmarks.peers import CLASSES, EVAL_BATCH, FILTERS, RATES, learning_rates

Weights = dict[str, Array]
Convolve = Callable[[Array, Array], Array]


def convolve(images: Array, kernel: Array) -> Array:
    """The library's own convolution, of images (N, H, W, C) with a kernel (3, 3, C, F), padded by a pixel."""
    return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def multiply_patches(images: Array, kernel: Array) -> Array:
    """The same as one matrix product: each pixel's 3 x 3 neighbours, (N, H, W, 9 C), by the kernel as (9 C, F)."""
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return jnp.concatenate(shifted, axis=3) @ kernel.reshape(-1, kernel.shape[3])


def pool(images: Array) -> Array:
    """The largest of each 2 x 2 pixels."""
    count, height, width, channels = images.shape
    return images.reshape(count, height // 2, 2, width // 2, 2, channels).max((2, 4))


def forward(weights: Weights, images: Array, convolution: Convolve) -> Array:
    """Images (N, H, W, C) to logits (N, classes)."""
    for layer in range(len(FILTERS)):
        images = convolution(images, weights[f"kernel{layer}"]) + weights[f"bias{layer}"]
        images = pool(jax.nn.relu(images))
    return images.reshape(len(images), -1) @ weights["head"] + weights["bias"]


def initial_weights(channels: int, size: int) -> Weights:
    """Drawn as torch draws them: uniform within 1 / sqrt(inputs of a unit)."""
    shapes: dict[str, tuple[tuple[int, ...], int]] = {}
    for layer, filters in enumerate(FILTERS):
        shapes |= {
            f"kernel{layer}": ((3, 3, channels, filters), 9 * channels),
            f"bias{layer}": ((filters,), 9 * channels),
        }
        channels, size = filters, size // 2
    inputs = channels * size * size
    shapes |= {"head": ((inputs, CLASSES), inputs), "bias": ((CLASSES,), inputs)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {
        name: jax.random.uniform(key, shape, minval=-(inputs**-0.5), maxval=inputs**-0.5)
        for key, (name, (shape, inputs)) in zip(keys, shapes.items(), strict=True)
    }


def update(optimizer: str, weights: Weights, gradients: Weights, state: Any, rate: Array) -> tuple[Weights, Any]:
    """A step of torch's Adam, RMSprop or SGD with its defaults; the state is the count, and means of gradients and of
    their squares."""
    count, mean, square = state
    count += 1
    if optimizer == "sgd":
        moves = gradients
    elif optimizer == "rmsprop":
        square = jax.tree.map(lambda old, new: 0.99 * old + 0.01 * new**2, square, gradients)
        moves = jax.tree.map(lambda new, of: new / (jnp.sqrt(of) + 1e-8), gradients, square)
    else:
        mean = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, mean, gradients)
        square = jax.tree.map(lambda old, new: 0.999 * old + 0.001 * new**2, square, gradients)
        first, second = 1 - 0.9**count, 1 - 0.999**count
        moves = jax.tree.map(lambda m, s: m / first / (jnp.sqrt(s / second) + 1e-8), mean, square)
    return jax.tree.map(lambda weight, move: weight - rate * move, weights, moves), (count, mean, square)


def build(
    case: Case, data: Path, optimizer: str = "adam", scheduler: str = "none", *, matmul: bool = False
) -> Callable[[int], Result]:
    """The training of a case; ``matmul`` is with convolutions as matrix products."""
    sets = {}
    for split in ("train", "val"):
        images, labels = arrays(data, split)
        sets[split] = jnp.asarray((images.astype("float32") / 255 - MEAN) / STD), jnp.asarray(labels, "int32")
    network = partial(forward, convolution=multiply_patches if matmul else convolve)

    def loss_of(weights: Weights, images: Array, labels: Array) -> tuple[Array, Array]:
        logits = network(weights, images)
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
        return -picked.mean(), logits.argmax(1)

    def over(rows: Array, size: int, step: Callable[[Any, Array], Any], carry: Any) -> tuple[Any, Array, Array]:
        """All batches of these rows, the last one, which may be smaller, by itself; mean loss and predictions."""
        whole = len(rows) // size * size
        carry, (losses, predicted) = lax.scan(step, carry, rows[:whole].reshape(-1, size))
        predicted = predicted.reshape(-1)
        if whole < len(rows):
            carry, (loss, last) = step(carry, rows[whole:])
            losses, predicted = jnp.append(losses, loss), jnp.append(predicted, last)
        return carry, losses.mean(), predicted

    def confusion(labels: Array, predicted: Array) -> Array:
        return jnp.bincount(labels * CLASSES + predicted, length=CLASSES**2).reshape(CLASSES, CLASSES)

    @partial(jax.jit, donate_argnums=0)
    def run_epoch(carry: Any, key: Array, rate: Array, sets: Any) -> tuple[Any, Array, Array, Array]:
        def learn(carry: Any, rows: Array) -> Any:
            weights, state = carry
            images, labels = (part.at[rows].get(mode="promise_in_bounds") for part in sets["train"])
            seen, gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, images, labels)
            return update(optimizer, weights, gradients, state, rate), seen

        def look(carry: Any, rows: Array) -> Any:
            return carry, loss_of(carry[0], *(part.at[rows].get(mode="promise_in_bounds") for part in sets["val"]))

        labels = {split: of for split, (_, of) in sets.items()}
        order = jax.random.permutation(key, len(labels["train"]))
        carry, loss, predicted = over(order, case.batch_size, learn, carry)
        carry, _, evaluated = over(jnp.arange(len(labels["val"])), EVAL_BATCH, look, carry)
        return carry, loss, confusion(labels["train"][order], predicted), confusion(labels["val"], evaluated)

    weights, key = initial_weights(case.channels, case.size), jax.random.key(1)

    def train(epochs: int) -> Result:
        nonlocal weights, key
        zeros = (jax.tree.map(jnp.zeros_like, weights) for _ in range(2))
        carry, watch, loss = (weights, (jnp.zeros(()), *zeros)), Stopwatch(), 0.0
        for rate in learning_rates(RATES[optimizer], scheduler, epochs):
            key, drawn = jax.random.split(key)
            carry, mean, *matrices = run_epoch(carry, drawn, jnp.float32(rate), sets)
            loss = float(mean)
            jax.block_until_ready(matrices)
        weights = carry[0]
        return watch.result(loss)

    return train
