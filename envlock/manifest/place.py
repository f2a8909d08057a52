"""Puts the facts of an image onto the facts of a machine: would it run there?"""

from __future__ import annotations

import msgspec

from envlock.manifest.model import MACHINE_SECTIONS, Manifest


def put_on(image: Manifest, machine: Manifest) -> Manifest:
    """Return the image's facts with the machine's host, driver and GPUs in place of its own.

    What the machine could not see stays unobserved; what only the image's capture could not see of a
    machine no longer matters.
    """
    ours = {k: v for k, v in image.capture.unobserved.items() if k.partition(".")[0] not in MACHINE_SECTIONS}
    theirs = {k: v for k, v in machine.capture.unobserved.items() if k.partition(".")[0] in MACHINE_SECTIONS}
    capture = msgspec.structs.replace(image.capture, unobserved={**ours, **theirs})
    return msgspec.structs.replace(
        image, capture=capture, host=machine.host, driver=machine.driver, gpu=machine.gpu
    )
