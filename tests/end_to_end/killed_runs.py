"""A process whose children predict and are killed; started by test_resume, so that tests are not forked themselves.

Each child is given by a JSON line: raster, output, options, and when it dies: after so many windows, while the output
is written, or by a signal from outside after some seconds. Prints how each ended.
"""

import json
import os
import signal
import sys
import time

from factories import tiny_spec

from treedet.inference import campaign
from treedet.inference.detector import Detector
from treedet.models.blobs import BlobDetector


class DiesWhileWriting:
    def begin(self, raster, aoi, grid):
        pass

    def observe(self, crowns, grid):
        if len(crowns):
            os.kill(os.getpid(), signal.SIGKILL)


class Slow(BlobDetector):
    """Takes long enough for a signal to find it anywhere."""

    def detect(self, pixels, **how):
        time.sleep(0.003)
        return super().detect(pixels, **how)


def predict(job):
    left = job.get("windows", 10**9)

    def watch(progress):
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    model = Slow(tiny_spec(window_px=64))
    if job.get("many"):
        campaign.UNIT_WINDOWS = 1
        Detector(model).predict_many(job["raster"], job["output"], watch=watch, resume=True, **job["options"])
        return
    observer = DiesWhileWriting() if job.get("writing") else None
    Detector(model).predict_to_file(
        job["raster"], job["output"], watch=watch, observer=observer, resume=True, **job["options"]
    )


def main():
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            predict(job)
            os._exit(0)
        if "seconds" in job:
            time.sleep(job["seconds"])
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)}\n")


if __name__ == "__main__":
    main()
