"""One peer's metrics of two label maps, in whatever environment has it: `python benchmarks/peers.py NAME MAPS.npz`.

Prints JSON: seconds, and HD95 (and NSD) by label. Exits with 3 where the peer is not installed. Needs nothing of ours.
"""

import importlib
import json
import sys
import time
import warnings

import numpy as np


def surface_distance(reference, prediction, values, spacing_mm, tolerance_mm):
    peer = importlib.import_module("surface_distance")
    hd95_mm, nsd = [], []
    for value in values:
        found = peer.compute_surface_distances(reference == value, prediction == value, spacing_mm)
        hd95_mm.append(peer.compute_robust_hausdorff(found, 95))
        nsd.append(peer.compute_surface_dice_at_tolerance(found, tolerance_mm))
    return {"hd95_mm": hd95_mm, "nsd": nsd}


def monai(reference, prediction, values, spacing_mm, _tolerance_mm):
    peer, torch = importlib.import_module("monai.metrics"), importlib.import_module("torch")
    torch.set_num_threads(1)
    hd95_mm = []
    for value in values:
        masks = (torch.from_numpy(labels == value)[None, None] for labels in (prediction, reference))
        distance = peer.compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=spacing_mm)
        hd95_mm.append(float(distance))
    return {"hd95_mm": hd95_mm}


def main():
    name, path = sys.argv[1:]
    maps = np.load(path)
    values, spacing_mm = maps["values"].tolist(), maps["spacing_mm"].tolist()
    warnings.simplefilter("ignore")
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(error, file=sys.stderr)
        return 3
    arguments = (maps["reference"], maps["prediction"], values, spacing_mm, float(maps["tolerance_mm"]))
    globals()[name](*arguments[:2], values[:1], *arguments[3:])  # the first call loads what a peer loads late
    start = time.perf_counter()
    found = globals()[name](*arguments)
    print(json.dumps({"seconds": time.perf_counter() - start, **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
