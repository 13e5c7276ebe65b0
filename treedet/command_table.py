"""The command table: every command is a function whose signature and docstring are its command line.

Commands load what they need when they are called, so that ``--help`` comes at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from treedet.compat.options import ImportOptions
from treedet.errors import ConfigError
from treedet.evaluation.config import CalibrateConfig, EvaluateConfig, TruthReading
from treedet.inference.options import PredictOptions
from treedet.inference.run_options import RunOptions
from treedet.inference.zone_options import ZoneOptions
from treedet.training.config import TrainConfig
from treedet.training.options import TrainOptions
from treedet.vectors.field_options import FieldOptions


def predict(
    raster: str,
    output: str,
    *,
    options: PredictOptions,
    zoning: ZoneOptions,
    model: str | None = None,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    resume: bool = False,
    overwrite: bool = False,
    per_raster: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    part: str | None = None,
    no_look: bool = False,
) -> int:
    """Find the tree crowns of a raster, or of many as one ground, and write them to a GIS file.

    Args:
        raster: The image: anything GDAL reads, of any size. Or many: a folder, a quoted glob, a .txt list of paths, a
            .vrt mosaic of files.
        output: File to write: .gpkg, .shp, .geojson, .parquet, .fgb, .csv or .json (COCO).
        options: What to look for.
        zoning: Where crowns are counted.
        model: A treedet model file; by default the bundled model.
        device: auto, cpu, cuda or mps.
        precision: auto takes the model's own: fp32 for imported weights, else bf16 where the device computes it
            natively. Otherwise fp32 or bf16.
        resume: Go on with an interrupted run, or take up the rasters that could not be read.
        overwrite: Replace an existing output.
        workers: Processes on this machine that share the work (needs treedet[dask]).
        scheduler: Address of a Dask scheduler whose workers share the work, such as tcp://10.0.0.1:8786.
        per_raster: Write one file for each of many rasters, to the folder OUTPUT; OUTPUT.csv chooses the format.
        part: Do one part of a run over many rasters, such as 3/16; by default that of a SLURM job array, if in one.
            treedet merge gathers the parts.
        no_look: Do not draw OUTPUT-look.png, nine squares of ground with the crowns on them.
    """
    from treedet.commands import predict_command  # noqa: PLC0415 - --help must not load torch

    return predict_command.run(
        raster,
        output,
        options,
        load=predict_command.Loading(model, device, precision),
        how=RunOptions(per_raster, resume, overwrite, workers=workers, scheduler=scheduler),
        part=part,
        look=not no_look,
        zoning=zoning,
    )


def merge(run: str, output: str, *, overwrite: bool = False) -> int:
    """Gather the parts of a run over many rasters into one output.

    Args:
        run: The run folder, OUTPUT.parts.
        output: File to write, or the folder where the parts were run with --per_raster.
        overwrite: Replace an existing output.
    """
    from treedet.commands import predict_command  # noqa: PLC0415 - --help must not load torch

    return predict_command.merge(run, output, overwrite=overwrite)


def train(
    raster: str,
    crowns: str,
    output: str,
    *,
    options: TrainOptions,
    config: TrainConfig,
    model: str | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Teach a model your forest: fine-tune it on annotated rasters.

    Args:
        raster: The image or images: a file, a folder, a quoted glob, or a .txt list of paths.
        crowns: Their annotated crowns: any vector file, or CSV, Pascal VOC, COCO, YOLO or Label Studio.
        output: Model file to write, ending in .safetensors; pictures and the history are written beside it.
        options: What to learn.
        config: How long and how fast.
        model: Model file to start from; by default the bundled model.
        device: auto, cpu, cuda or mps.
        resume: Go on with an interrupted run.
        overwrite: Replace an existing output.
    """
    from treedet.commands import train_command  # noqa: PLC0415 - --help must not load torch

    train_command.run(
        raster,
        crowns,
        output,
        options,
        config,
        model=model,
        device=device,
        resume=resume,
        overwrite=overwrite,
    )


def run_evaluate(
    raster: str,
    truth: str,
    report: str,
    *,
    reading: TruthReading,
    config: EvaluateConfig,
    predictions: str | None = None,
    prediction_columns: dict[str, str] | None = None,
    model: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Measure how good crowns are: a model's, at several resolutions, or those of any file.

    Args:
        raster: The image or images: a file, a folder, a quoted glob, or a .txt list of paths; - for none, where
            crowns are compared with crowns.
        truth: Annotated crowns or stems: any vector file, or CSV, Pascal VOC, COCO, YOLO or Label Studio. May also
            be given as --truth FILE, which needs no RASTER beside --predictions.
        report: Folder to write; report.html in it is the place to begin.
        reading: How the truth is read.
        config: What is measured.
        predictions: Crowns of any tool to evaluate instead of a model.
        prediction_columns: Columns of the predictions by our names, such as score: CONF.
        model: Model file; by default the bundled model.
        device: auto, cpu, cuda or mps.
        overwrite: Replace an existing report.
    """
    if prediction_columns and predictions is None:
        raise ConfigError("--prediction_columns name columns of a file; give it with --predictions")
    from treedet.commands import evaluate_command  # noqa: PLC0415 - --help must not load torch

    evaluate_command.run(
        raster,
        truth,
        report,
        reading,
        config,
        predictions=None
        if predictions is None
        else evaluate_command.Predictions(predictions, prediction_columns or {}),
        model=model,
        device=device,
        overwrite=overwrite,
    )


def run_compare(report_a: str, report_b: str, *, output: str | None = None, overwrite: bool = False) -> None:
    """Set two reports of the same rasters side by side, with the paired difference and its interval.

    Args:
        report_a: Folder of the report compared with.
        report_b: Folder of the report that may be better.
        output: Folder to write the comparison to.
        overwrite: Replace an existing comparison.
    """
    from treedet.commands import evaluate_command  # noqa: PLC0415 - --help must not load torch

    evaluate_command.compare(report_a, report_b, output=output, overwrite=overwrite)


def run_calibrate(
    raster: str,
    truth: str,
    output: str,
    *,
    reading: TruthReading,
    config: CalibrateConfig,
    model: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Choose a model's thresholds, merging and temperature on validation rasters, and write it anew.

    Args:
        raster: Validation images, neither trained nor tested on: a file, a folder, a quoted glob, or a .txt list.
        truth: Their annotated crowns.
        output: Model file to write, ending in .safetensors.
        reading: How the truth is read.
        config: What is tried.
        model: Model file to calibrate; by default the bundled model.
        device: auto, cpu, cuda or mps.
        overwrite: Replace an existing output.
    """
    from treedet.commands import calibrate_command  # noqa: PLC0415 - --help must not load torch

    calibrate_command.run(raster, truth, output, reading, config, model=model, device=device, overwrite=overwrite)


def match(crowns: str, field: str, output: str, *, options: FieldOptions, overwrite: bool = False) -> None:
    """Join a field table of stems to mapped crowns, to train on what foresters noted of their trees.

    Args:
        crowns: Crowns on a map, of treedet or any other tool.
        field: CSV with one row per stem: coordinates, or azimuth and distance from the centre of its plot.
        output: File to write: all crowns, with what is known of them; the fate of every stem, the shifts of plots and
            a picture are written beside it.
        options: How stems are read and matched.
        overwrite: Replace existing outputs.
    """
    from treedet.commands import match_command  # noqa: PLC0415 - --help must not load geopandas

    match_command.run(crowns, field, output, options, overwrite=overwrite)


def run_import(
    tool: Literal["deepforest"], path: str, output: str, *, options: ImportOptions, overwrite: bool = False
) -> None:
    """Turn weights of another tool into a model file.

    Args:
        tool: The tool they come from: deepforest.
        path: A hub folder (config.json and model.safetensors), a Lightning .ckpt, or a .pt of weights.
        output: Model file to write, ending in .safetensors.
        options: What the weights may not say.
        overwrite: Replace an existing output.
    """
    del tool  # there is one
    from treedet.commands import import_command  # noqa: PLC0415 - --help must not load torch

    import_command.run(path, output, options, overwrite=overwrite)


def run_summarise(
    crowns: str,
    output: str,
    *,
    zoning: ZoneOptions,
    raster: str | None = None,
    exclude: str | None = None,
    gsd: float | None = None,
    overwrite: bool = False,
) -> None:
    """Count the crowns of a file by zones: crowns per hectare, canopy cover, diameters, shares of classes.

    Args:
        crowns: Crowns of treedet or any other tool.
        output: Table to write: .gpkg, .shp, .geojson, .parquet, .fgb, or .csv without polygons.
        zoning: Where crowns are counted.
        raster: The image they were found on, to leave nodata out of the hectares.
        exclude: Vector file with polygons, such as buildings, in which crowns are dropped.
        gsd: Ground metres per pixel, where neither CRS nor file tells it.
        overwrite: Replace an existing output.
    """
    from treedet.commands import summarise_command  # noqa: PLC0415 - --help must not load geopandas

    summarise_command.run(crowns, output, zoning, raster=raster, exclude=exclude, gsd=gsd, overwrite=overwrite)


def inspect(file: str, *, gsd: float | None = None, model: str | None = None) -> None:
    """Tell what a raster, a model file or a crowns file is, and what to do next.

    Args:
        file: A raster, a model file (.safetensors) or a crowns file.
        gsd: Ground metres per pixel of the raster, where it does not say.
        model: Model file that the time is estimated for; by default the bundled model.
    """
    from treedet.commands import inspect_command  # noqa: PLC0415 - --help must not load torch

    for line in inspect_command.describe(file, gsd=gsd, model=model):
        sys.stdout.write(line + "\n")


@dataclass(frozen=True)
class Command:
    """One row of the command table.

    Attributes:
        function: What it does; its signature and docstring are the command line. It may return an exit code.
        options: Dataclasses whose fields are further options, by the name of the parameter they are handed over as.
    """

    function: Callable[..., int | None]
    options: Mapping[str, type] = field(default_factory=dict)


# The parser looks a function up in the package by its name: run_evaluate() is not called evaluate(), since the
# package has that too and would load torch for it.
COMMANDS = {
    "predict": Command(predict, {"options": PredictOptions, "zoning": ZoneOptions}),
    "merge": Command(merge),
    "train": Command(train, {"options": TrainOptions, "config": TrainConfig}),
    "evaluate": Command(run_evaluate, {"reading": TruthReading, "config": EvaluateConfig}),
    "compare": Command(run_compare),
    "calibrate": Command(run_calibrate, {"reading": TruthReading, "config": CalibrateConfig}),
    "match": Command(match, {"options": FieldOptions}),
    "import": Command(run_import, {"options": ImportOptions}),
    "summarise": Command(run_summarise, {"zoning": ZoneOptions}),
    "inspect": Command(inspect),
}
