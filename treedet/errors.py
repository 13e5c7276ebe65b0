"""Every exception and warning of the package.

::

    TreedetError
    ├─ RasterError (OSError)       a raster can not be used
    │  ├─ UnreadableRasterError      missing, not a raster, truncated
    │  ├─ UnknownGsdError            no CRS or transform, and no gsd= given
    │  └─ BandMismatchError          bands asked for or needed are not there
    ├─ CrownsError (ValueError)    a crowns table or a vector file can not be used
    │  ├─ MissingColumnError
    │  ├─ CrsMismatchError           two files that should overlap do not
    │  │  └─ NoOverlapError            an area of interest lies beside a raster
    │  ├─ DegenerateCrownError       zero area, NaN, or out of range
    │  └─ SparseAnnotationError      confident detections that nobody annotated
    ├─ ModelFileError              a model file can not be used
    │  ├─ UnknownFormatError         not a treedet model file, or one of a later version
    │  ├─ SpecMismatchError          tensors and spec disagree
    │  └─ NothingTransferredError
    ├─ OutputError (OSError)       an output can not be written
    ├─ ConfigError (ValueError)    an argument or setting makes no sense
    ├─ BackendUnavailableError (ImportError)
    ├─ TrainingError               training can not go on
    ├─ WorkersError                workers on other machines or processes were lost
    └─ ResumeMismatchError         resume with other settings than the interrupted run

    TreedetWarning (UserWarning)
    ├─ GsdWarning                  imagery outside the GSD range of the model
    ├─ SparseTruthWarning          annotation looks incomplete
    ├─ CutCrownsWarning            crowns wider than the overlap
    ├─ DeadShareWarning            more crowns are said to be dead than is plausible
    └─ DetectionCapWarning         a cap on candidates or detections was hit

Messages are one line: what is wrong, what was found, what is accepted, what to do next.
"""

from __future__ import annotations

from typing import Any


class TreedetError(Exception):
    """Base of every error a user can cause and mend."""


class RasterError(TreedetError, OSError):
    """A raster can not be used."""


class UnreadableRasterError(RasterError):
    """A raster is missing, is not a raster, or breaks off."""


class UnknownGsdError(RasterError):
    """The ground sample distance is neither in the file nor given."""


class BandMismatchError(RasterError):
    """The bands asked for, or needed by the model, are not in the raster."""


class CrownsError(TreedetError, ValueError):
    """A crowns table or a vector file can not be used."""


class MissingColumnError(CrownsError):
    """A named column is absent."""


class CrsMismatchError(CrownsError):
    """Two files that should share ground do not, or can not be brought together."""


class NoOverlapError(CrsMismatchError):
    """An area of interest lies beside a raster."""


class DegenerateCrownError(CrownsError):
    """A crown has no area, a NaN coordinate or a value out of range."""


class SparseAnnotationError(CrownsError):
    """The starting model finds many crowns with confidence that nobody annotated.

    Attributes:
        check: What it found, and where: a :class:`treedet.training.annotation_check.AnnotationCheck`.
    """

    def __init__(self, message: str, *, check: Any) -> None:  # noqa: ANN401 - a type of a higher layer
        super().__init__(message)
        self.check = check


class ModelFileError(TreedetError):
    """A model file can not be used."""


class UnknownFormatError(ModelFileError):
    """A file is no treedet model file, or one of a later version."""


class SpecMismatchError(ModelFileError):
    """The tensors of a model file are not those its spec describes."""


class NothingTransferredError(ModelFileError):
    """No weight of the starting model fits the new one."""


class OutputError(TreedetError, OSError):
    """An output can not be written: it exists, its folder is missing, the disk is full."""


class ConfigError(TreedetError, ValueError):
    """An argument or a setting makes no sense."""


class BackendUnavailableError(TreedetError, ImportError):
    """The engine or device asked for is not installed here."""


class WorkersError(TreedetError):
    """Workers or their scheduler were lost, and too often to go on."""


class TrainingError(TreedetError):
    """Training can not go on: its loss or gradients are no longer numbers."""


class ResumeMismatchError(TreedetError):
    """A run is resumed with other settings than it was started with."""


class TreedetWarning(UserWarning):
    """Base of every warning of the package."""


class GsdWarning(TreedetWarning):
    """Imagery is outside the GSD range the model was trained for."""


class SparseTruthWarning(TreedetWarning):
    """The annotation looks incomplete."""


class CutCrownsWarning(TreedetWarning):
    """Some crowns are wider than the overlap of windows."""


class DeadShareWarning(TreedetWarning):
    """More crowns are said to be dead than is plausible."""


class DetectionCapWarning(TreedetWarning):
    """A cap on candidates or detections was hit, so crowns may be missing."""
