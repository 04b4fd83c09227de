"""MONAI 1.6.1 on a cohort: its transforms, its SlidingWindowInferer, float32, and its flips averaged where asked."""

from __future__ import annotations

from itertools import combinations

import torch
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, LoadImage, NormalizeIntensity, SaveImage

from benchmarks.inference_peer import arguments, cases, description, network


def main() -> None:
    """Write one mask a case."""
    given = arguments()
    net, patch = network(given.model), description(given.model)["plan"]["patch"]
    read = Compose([LoadImage(image_only=True, ensure_channel_first=True), NormalizeIntensity()])
    infer = SlidingWindowInferer(roi_size=patch, sw_batch_size=4, overlap=0.5, mode="gaussian")
    save = SaveImage(
        output_dir=given.output, output_postfix="", separate_folder=False, print_log=False, output_dtype="uint8"
    )
    counts = range(4) if given.mirror else range(1)
    flips = [axes for count in counts for axes in combinations((2, 3, 4), count)]
    with torch.inference_mode():
        for _, image in cases(given.cohort):
            volume = read(image)
            batch = volume[None].as_tensor()
            logits = sum(infer(batch.flip(axes), net).flip(axes) for axes in flips)
            labels = volume.clone()
            labels.set_array(logits.argmax(dim=1).float())
            save(labels)


if __name__ == "__main__":
    main()
