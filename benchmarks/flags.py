"""Do the signs of doubt find the cases that are bad? Their rank correlation with true Dice, on cases with references.

python -m benchmarks.flags DATASET --model MODEL [MODEL …] --folds FOLDS.csv --fold 0 [--spoil 0.25]

The held-out cases of a fold are segmented with a model that never saw them, or with several as an ensemble (trained on
the same fold with other seeds or settings, the same network); for each sign (agreement, expected Dice,
boundary entropy, pieces, voxels at the border, how far the volume is from the training references' median) Spearman's
correlation with the Dice of the label is printed, and whether the flagged cases are worse than the others. With
--spoil, that fraction of the cases is spoiled first (strong noise, a bright half, or a cut through the structure),
because a cohort of good scans has little that a flag could find.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from tasks.evaluate.config import EvaluationConfig
from tasks.evaluate.evaluate import evaluate_case
from tasks.infer import InferenceConfig, Weights
from tasks.infer.case import infer_case
from tasks.infer.machine import make_ready, resolve
from tasks.ingest.case import ingest_case
from tasks.ingest.discover import discover
from tasks.model.folder import read_model
from tasks.postprocess import postprocess_case
from tasks.preprocess import preprocess_case
from tasks.train.dataset import describe_dataset
from tasks.train.fingerprint import fingerprint_case, summarise

SIGNS = ("agreement", "dice_expected", "boundary_entropy", "components_prediction", "border_voxels", "volume_distance")


def main():
    arguments = parse()
    folds = pd.read_csv(arguments.folds, dtype={"case": str}).set_index("case")["fold"]
    found = {one.name: one for one in discover(arguments.dataset, None)[0]}
    held_out = [ingest_case(found[name]) for name in sorted(found) if folds.get(name) == arguments.fold]
    trained_on = [
        ingest_case(found[name]) for name in sorted(found) if folds.get(name, arguments.fold) != arguments.fold
    ]
    described = describe_dataset(arguments.dataset)
    known = summarise([fingerprint_case(case, described, 1) for case in trained_on])
    model = replace_fingerprint(read_model(arguments.model[0]), known)
    machine = resolve(InferenceConfig())
    networks = [
        one for folder in arguments.model for one in make_ready(Weights(folder=folder), read_model(folder), machine)
    ]
    with tempfile.TemporaryDirectory() as name:
        cases = spoil(held_out, arguments.spoil, Path(name))
        rows = [row for case in cases for row in look(case, model, networks, arguments.mirror, Path(name))]
    show(pd.DataFrame(rows), len(cases))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", type=Path, nargs="+", required=True)
    parser.add_argument("--folds", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--spoil", type=float, default=0.0)
    parser.add_argument("--mirror", action="store_true")
    return parser.parse_args()


def replace_fingerprint(model, known):
    """The model as a training of today describes it: with volumes and pieces of the references it was trained on."""
    values = {name: getattr(model, name) for name in type(model).__slots__}
    return type(model)(**{**values, "fingerprint": model.fingerprint | known})


def spoil(cases, share, folder):
    """`cases`, of which every so many-th is spoiled: noise, a bright half, or a cut, in turn."""
    spoilt = {int(number) for number in np.linspace(0, len(cases) - 1, round(share * len(cases)))}
    kinds = ("noise", "bright half", "cut")
    return [
        spoil_case(case, kinds[number % len(kinds)], folder) if number in spoilt else case
        for number, case in enumerate(cases)
    ]


def spoil_case(case, kind, folder):
    image, truth = (nibabel.load(source.files[0]) for source in (case.image, case.reference))
    voxels, labels = np.asarray(image.dataobj).astype(np.float32), np.asarray(truth.dataobj)
    if kind == "noise":
        voxels = voxels + np.random.default_rng(0).normal(0, 1.5 * voxels.std(), voxels.shape)
    elif kind == "bright half":
        voxels[voxels.shape[0] // 2 :] *= 3
    else:
        middle = int(np.median(np.flatnonzero(labels.any(axis=(0, 2)))))
        voxels, labels = voxels[:, :middle], labels[:, :middle]
    files = folder / f"{case.name}.nii.gz", folder / f"{case.name}_reference.nii.gz"
    for file, content, like in zip(files, (voxels.astype(np.float32), labels), (image, truth), strict=True):
        nibabel.save(nibabel.Nifti1Image(content, like.affine), file)
    sources = [replace(source, files=(file,)) for source, file in zip((case.image, case.reference), files, strict=True)]
    geometry = replace(case.geometry, shape=voxels.shape)
    return replace(case, image=sources[0], reference=sources[1], geometry=geometry)


def look(case, model, networks, mirror, work):
    """A row a label: its signs, its flags, its Dice."""
    prepared = preprocess_case(case, model.plan, work, model.fingerprint)
    prediction = infer_case(prepared, networks, model, InferenceConfig(mirror=mirror), work)
    segmentation = postprocess_case(prediction, model, work)
    scores = evaluate_case(segmentation, model.labels, EvaluationConfig())
    for score in scores.scores:
        median = model.fingerprint["volume_ml"][str(score.label)]["p50"]
        yield {
            "case": case.name,
            "label": score.name,
            "dice": score.dice,
            **{sign: getattr(score, sign) for sign in SIGNS if hasattr(score, sign)},
            "volume_distance": abs(np.log(max(score.volume_prediction_ml, 1e-3) / median)),
            "flags": "; ".join(segmentation.case.warnings),
        }


def show(rows, count):
    print(f"{count} cases, {rows['label'].nunique()} labels; Spearman's rank correlation with Dice, by label")
    print(f"{'sign':<24}" + "".join(f"{label:>14}" for label in rows["label"].unique()))
    for sign in SIGNS:
        found = [correlation(own[sign], own["dice"]) for _, own in rows.groupby("label", sort=False)]
        print(f"{sign:<24}" + "".join(f"{one:>14}" for one in found))
    by_case = rows.groupby("case").agg(dice=("dice", "mean"), flags=("flags", "first"))
    flagged = by_case["flags"] != ""
    worst = by_case["dice"].nsmallest(max(1, round(len(by_case) / 4))).index
    print(f"flagged: {flagged.sum()} of {len(by_case)} cases, mean Dice {by_case['dice'][flagged].mean():.3f}; "
          f"not flagged: {by_case['dice'][~flagged].mean():.3f}")  # fmt: skip
    print(f"of the {len(worst)} cases with the lowest Dice, {flagged[worst].sum()} are flagged")
    kinds = by_case["flags"][flagged].str.split("; ").explode().str.split(":").str[0].value_counts()
    print(f"lowest expected Dice of all: {rows['dice_expected'].min():.3f}")
    print("\n".join(f"  {kind:<44}{number:>4}" for kind, number in kinds.items()))


def correlation(sign, dice):
    both = sign.notna() & dice.notna()
    if sign[both].nunique() < 2:
        return "–"
    found = spearmanr(sign[both], dice[both])
    return f"{found.statistic:+.2f} p {found.pvalue:.3f}"


if __name__ == "__main__":
    main()
