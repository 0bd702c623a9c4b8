"""Train the decision of `curiosity_bluesky.similarity.symmetry.classifier` and write its weights.

``python benchmarks/train_symmetry.py`` draws images of the generator, works out their features,
fits a network of one hidden layer, and a temperature on images that it has not seen.
``--images N`` a class (default 400; "none" gets four times as many), ``--cache FILE`` keeps the
features, ``--nearly SHARE`` draws so many images nearer to a higher group than the judge's (default
none). Seeds: (1, n) for training, (2, n) for the temperature; `symmetry.py` judges with others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.neural_network import MLPClassifier
from synthetic.aperiodic import KINDS, aperiodic
from synthetic.pattern import FALSE
from synthetic.wallpaper import Degradation, random_image

from curiosity_bluesky.similarity.image import Image
from curiosity_bluesky.similarity.symmetry import classifier
from curiosity_bluesky.similarity.symmetry.groups import GROUPS
from curiosity_bluesky.similarity.symmetry.scores import symmetry_evidence

HIDDEN = 48
NONE_TIMES = 4


def drawn(n: int) -> list[str]:
    """Return what the images of a set show, by number."""
    return [*GROUPS, *["none"] * NONE_TIMES] * n


def example(name: str, seed: tuple[int, int], nearly: float) -> np.ndarray:
    """Return the features of one image: noise to 0.6, shear to 4 %, lines to 0.3."""
    rng = np.random.default_rng(seed)
    spoiling = Degradation(
        rng.uniform(0, 0.6), rng.uniform(0, 0.04), rng.choice((0.0, 0.3)) * rng.random()
    )
    if name == "none":
        image = aperiodic(str(rng.choice(KINDS)), rng, 128, spoiling)
    else:
        # Most as the judge draws them, some with more and smaller cells.
        cells = (2.5, 5.0) if rng.random() < 0.75 else (4.0, 9.0)
        # Crystals are nearer to a higher group than the judge's images, some of them.
        limit = rng.uniform(FALSE, 0.95) if nearly and rng.random() < nearly else FALSE
        image = random_image(name, rng, 128, spoiling, cells, limit)
    return symmetry_evidence(Image.checked(image)).features


def examples(seed: int, n: int, nearly: float) -> tuple[np.ndarray, np.ndarray]:
    """Return features and classes of n images of each group."""
    names = drawn(n)
    x = np.array([example(name, (seed, k), nearly) for k, name in enumerate(names)], np.float32)
    return x, np.array([classifier.CLASSES.index(name) for name in names])


def main() -> None:
    """Draw, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--nearly", type=float, default=0.0)
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    if arguments.cache and arguments.cache.exists():
        kept = np.load(arguments.cache)
        x, y, vx, vy = (kept[name] for name in ("x", "y", "vx", "vy"))
    else:
        (x, y), (vx, vy) = (
            examples(seed, n, arguments.nearly)
            for seed, n in ((1, arguments.images), (2, arguments.images // 5))
        )
        if arguments.cache:
            np.savez(arguments.cache, x=x, y=y, vx=vx, vy=vy)
    mean, scale = x.mean(0), x.std(0) + 1e-6
    network = MLPClassifier(
        (HIDDEN,),
        alpha=3e-3,
        early_stopping=True,
        n_iter_no_change=15,
        max_iter=300,
        random_state=0,
    )
    network.fit((x - mean) / scale, y)
    (w1, w2), (b1, b2) = network.coefs_, network.intercepts_
    scores = np.maximum((vx - mean) / scale @ w1 + b1, 0) @ w2 + b2

    def loss(log_temperature: float) -> float:
        z = scores / np.exp(log_temperature)
        top = z.max(1)
        total = top + np.log(np.exp(z - top[:, None]).sum(1))
        return float((total - z[np.arange(len(vy)), vy]).mean())

    found = minimize_scalar(loss, (-1.0, 1.0))
    temperature = float(np.exp(found.x))
    right = (scores.argmax(1) == vy).mean()
    print(
        f"{len(x)} images to train, {len(vx)} held out: {right:.4f} right, temperature "
        f"{temperature:.3f}, loss {found.fun:.4f} (without it {loss(0.0):.4f})"
    )
    arrays = {"mean": mean, "scale": scale, "w1": w1, "b1": b1}
    arrays |= {"w2": w2 / temperature, "b2": b2 / temperature}
    np.savez(classifier.WEIGHTS, **{k: np.asarray(v, np.float32) for k, v in arrays.items()})
    print(f"written: {classifier.WEIGHTS.name}, {classifier.WEIGHTS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
