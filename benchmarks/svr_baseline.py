"""The baseline of the default model: support vector regression on hand-made features, on the folds of `memedge train`.

    pip install scikit-learn
    python benchmarks/svr_baseline.py --data lnsim:DIR [--against RUN] [--out FILE.json]

Features of the picture at 128 x 128: 13 statistics, a histogram over hue, saturation and value, uniform LBP on a grid,
GIST (Gabor magnitudes at 4 scales and 8 orientations on a 4 x 4 grid). Every block has one share of the kernel's
distance, not a share a number. ``--against`` reads a run's ``out_of_fold.csv``, which `memedge train --model memedge-s`
writes, and gives the paired bootstrap of the difference: pictures are drawn anew within their folds, 1,000 times.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memedge_export.data.folds import folds
from memedge_export.data.pictures import read_picture
from memedge_export.data.readers import open_data
from memedge_export.eval.metrics import spearman
from memedge_export.train.kernel_teacher import Scaling

SIDE = 128
FOLDS = 5
RESAMPLES = 1000
SHARES = (1.0, 1.0, 1.0, 2.0)
C, EPSILON = 1.0, 0.02
Floats = NDArray[np.float64]


def features(picture: NDArray[np.uint8]) -> list[Floats]:
    """The four blocks of one RGB picture."""
    image = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    rgb = np.asarray(image, np.float64) / 255
    hsv = np.asarray(image.convert("HSV"), np.float64) / 255
    grey = rgb @ np.array([0.299, 0.587, 0.114])
    return [statistics(rgb, hsv, grey), histogram(hsv), lbp(grey), gist(grey)]


def statistics(rgb: Floats, hsv: Floats, grey: Floats) -> Floats:
    """Means and deviations of the channels, of saturation and grey, colourfulness, entropy and edge density."""
    down, right = np.gradient(grey)
    edges = np.hypot(down, right)
    yellow, red = (rgb[..., 0] + rgb[..., 1]) / 2 - rgb[..., 2], rgb[..., 0] - rgb[..., 1]
    colourful = np.hypot(yellow.std(), red.std()) + 0.3 * np.hypot(yellow.mean(), red.mean())
    counts = np.histogram(grey, 64, (0, 1))[0] / grey.size
    entropy = -(counts[counts > 0] * np.log2(counts[counts > 0])).sum()
    last = [hsv[..., 1].mean(), hsv[..., 1].std(), grey.std(), colourful, entropy, edges.mean(), (edges > 0.08).mean()]
    return np.array([*rgb.mean((0, 1)), *rgb.std((0, 1)), *last])


def histogram(hsv: Floats) -> Floats:
    """Square roots of the shares of 12 x 4 x 4 bins."""
    counts, _ = np.histogramdd(hsv.reshape(-1, 3), (12, 4, 4), ((0, 1),) * 3)
    return np.sqrt(counts.reshape(-1) / counts.sum())


def lbp(grey: Floats) -> Floats:
    """Uniform local binary patterns (8 neighbours), 59 bins on a 2 x 2 grid, as square roots of shares."""
    middle = grey[1:-1, 1:-1]
    places = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
    side = len(middle)
    code = sum((grey[y : y + side, x : x + side] >= middle).astype(int) << bit for bit, (y, x) in enumerate(places))
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    uniform = np.flatnonzero((bits != np.roll(bits, 1, 1)).sum(1) <= 2)
    label = np.full(256, len(uniform))
    label[uniform] = np.arange(len(uniform))
    half = side // 2
    parts = [label[code][y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    return np.sqrt(np.concatenate([np.bincount(p.ravel(), minlength=59) / p.size for p in parts]))


def gist(grey: Floats) -> Floats:
    """Mean magnitudes of Gabor responses, 4 scales x 8 orientations x 4 x 4 cells, after local contrast scaling."""
    spectrum = np.fft.fft2(grey - grey.mean())
    fy, fx = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    radius, angle = np.hypot(fx, fy), np.arctan2(fy, fx)
    found = []
    for wave in (4, 8, 16, 32):
        for step in range(8):
            turn = np.angle(np.exp(1j * (angle - np.pi * step / 8)))
            window = np.exp(-((np.log(np.maximum(radius, 1e-9) * wave)) ** 2) / 0.4 - turn**2 / 0.15)
            magnitude = np.abs(np.fft.ifft2(spectrum * window))
            found.append(magnitude.reshape(4, SIDE // 4, 4, SIDE // 4).mean((1, 3)).ravel())
    return np.sqrt(np.concatenate(found))


def out_of_fold(blocks: Floats, sizes: list[int], scores: Floats, fold: NDArray[np.intp]) -> Floats:
    """Scores of every picture by the regression that was fitted to the other folds."""
    from sklearn.svm import SVR

    found = np.zeros(len(scores))
    for number in range(FOLDS):
        inside, outside = fold != number, fold == number
        scale = Scaling.fit(blocks[inside], sizes, SHARES)
        machine = SVR(kernel="rbf", gamma=0.5, C=C, epsilon=EPSILON).fit(scale(blocks[inside]), scores[inside])
        found[outside] = machine.predict(scale(blocks[outside]))
    return found


def fold_figures(predicted: Floats, scores: Floats, fold: NDArray[np.intp]) -> list[float]:
    """Spearman correlation in each fold."""
    return [spearman(predicted[fold == number], scores[fold == number]) or 0.0 for number in range(FOLDS)]


def paired(one: Floats, other: Floats, scores: Floats, fold: NDArray[np.intp], seed: int = 2018) -> Floats:
    """Differences of the mean fold Spearman, one a resample of the pictures within their folds."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(fold == number) for number in range(FOLDS)]
    found = np.zeros(RESAMPLES)
    for resample in range(RESAMPLES):
        for member in members:
            pick = rng.choice(member, len(member))
            difference = (spearman(one[pick], scores[pick]) or 0.0) - (spearman(other[pick], scores[pick]) or 0.0)
            found[resample] += difference / FOLDS
    return found


def read_run(run: Path, ids: list[str], fold: NDArray[np.intp]) -> Floats:
    """Out-of-fold predictions of a run for the same pictures in the same folds."""
    with (run / "out_of_fold.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    if set(rows) != set(ids) or any(int(rows[i]["fold"]) != f for i, f in zip(ids, fold, strict=True)):
        raise SystemExit(f"'{run}' has other pictures or folds: expected a run on the same data with today's folds")
    return np.array([float(rows[i]["predicted"]) for i in ids])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="lnsim:DIR or another set of pictures")
    parser.add_argument("--against", type=Path, help="folder of a memedge-s run")
    parser.add_argument("--out", type=Path, help="result file (JSON)")
    chosen = parser.parse_args()
    records = [r for r in open_data(chosen.data).records if r.split in ("train", "val")]
    scores = np.array([r.score for r in records], np.float64)
    fold = folds(records, FOLDS)
    found = [features(read_picture(r.path)) for r in records]
    sizes = [len(block) for block in found[0]]
    predicted = out_of_fold(np.array([np.concatenate(one) for one in found]), sizes, scores, fold)
    each = fold_figures(predicted, scores, fold)
    result: dict[str, object] = {
        "data": chosen.data.partition(":")[0],
        "pictures": len(records),
        "baseline": {"mean": float(np.mean(each)), "sd": float(np.std(each)), "folds": each},
    }
    print(f"SVR: {FOLDS}-fold Spearman {np.mean(each):.3f}, standard deviation over folds {np.std(each):.3f}")
    if chosen.against is not None:
        other = read_run(chosen.against, [r.id for r in records], fold)
        theirs = fold_figures(other, scores, fold)
        low, high = np.quantile(paired(other, predicted, scores, fold), (0.025, 0.975))
        gain = float(np.mean(theirs) - np.mean(each))
        result["run"] = {"mean": float(np.mean(theirs)), "sd": float(np.std(theirs)), "folds": theirs}
        result["difference"] = {"mean": gain, "low": float(low), "high": float(high), "resamples": RESAMPLES}
        print(f"run: {np.mean(theirs):.3f}; difference {gain:.3f}, paired 95 % {low:.3f} to {high:.3f}")
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
