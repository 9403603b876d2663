"""The commands that take frames to learn from: what each takes and says of itself.

Each body puts its arguments in order, imports the file that does the work, and calls it. The import is late because
JAX, matplotlib and the readers of frames take seconds, for which help, versions and mistyped options must not wait.
"""

from __future__ import annotations

from pathlib import Path

from jaxem.cli.parameters import (
    AbsentOption,
    ChannelOption,
    CheckpointOption,
    ChosenOption,
    ColourOption,
    ContrastOption,
    CoordinatorOption,
    CropOption,
    DistributedOption,
    EstimateOption,
    EveryOption,
    ExcludeOption,
    FixOption,
    FramesArgument,
    GreyOption,
    HardOption,
    InfoShapeOption,
    InitOption,
    IterationsOption,
    JsonOption,
    LargestOption,
    MaskHotOption,
    MaskOption,
    MemoryOption,
    MirrorsOption,
    MissingOption,
    OutOption,
    OverwriteOption,
    PlainOption,
    ProcessesOption,
    ProcessOption,
    QuietOption,
    RestartsOption,
    ResumeOption,
    SampleOption,
    SeedOption,
    ShapeOption,
    SizesOutOption,
    SmallestOption,
    SmoothingOption,
    SupportOption,
    TemplatesOption,
    ToleranceOption,
    TurnsOption,
    UntestedOption,
    WrapOption,
)
from jaxem.cli.requests import (
    FitRequest,
    FrameChoice,
    Reporting,
    SizeRequest,
    choose_frames,
    parse_fixed,
    parse_memory,
    parse_sample,
    parse_shape,
    parse_together,
)


def demo(
    out: OutOption = Path("jaxem-demo"),
    seed: SeedOption = FitRequest.seed,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Hide a face in noisy photographs, find it again, and compare with the truth.

    Example: jaxem demo
    """
    reporting = Reporting(quiet, json)
    from jaxem.cli import demonstration

    return demonstration.run_demo(seed, out, reporting)


def info(
    frames: FramesArgument,
    template_shape: InfoShapeOption = None,
    estimate: EstimateOption = False,
    contrast: ContrastOption = None,
    mask: MaskOption = None,
    nan_missing: MissingOption = False,
    colour: ColourOption = False,
    crop: CropOption = None,
    chosen: ChosenOption = None,
    every: EveryOption = FrameChoice.every,
    grey: GreyOption = FrameChoice.grey,
    channel: ChannelOption = FrameChoice.channel,
    json: JsonOption = False,
) -> int:
    """Look at FRAMES before the work: what they are, what is wrong with them, and what a fit will need.

    Example: jaxem info frames/

    How long a fit will take: jaxem info frames/ --template-shape 60 40 --estimate

    Whether a template that differs from its background by 5 can be found: ... --template-shape 60 40 --contrast 5
    """
    choice = choose_frames(
        frames, crop, chosen, every, grey, colour=colour, channel=channel, nan_missing=nan_missing, mask=mask
    )
    shape = None if template_shape is None else parse_shape(template_shape)
    from jaxem.cli import inspecting

    return inspecting.info(choice, shape, estimate, contrast, as_json=json)


def size(
    frames: FramesArgument,
    smallest: SmallestOption,
    largest: LargestOption,
    out: SizesOutOption = None,
    overwrite: OverwriteOption = False,
    num_restarts: RestartsOption = SizeRequest.num_restarts,
    seed: SeedOption = SizeRequest.seed,
    absent: AbsentOption = False,
    mask: MaskOption = None,
    nan_missing: MissingOption = False,
    colour: ColourOption = False,
    crop: CropOption = None,
    chosen: ChosenOption = None,
    every: EveryOption = FrameChoice.every,
    grey: GreyOption = FrameChoice.grey,
    channel: ChannelOption = FrameChoice.channel,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Find out how large the template in FRAMES is, by some 20 fits.

    Example: jaxem size frames/ --from 20 20 --to 40 40
    """
    choice = choose_frames(
        frames, crop, chosen, every, grey, colour=colour, channel=channel, nan_missing=nan_missing, mask=mask
    )
    request = SizeRequest(
        parse_shape(smallest, "smallest"), parse_shape(largest, "largest"), num_restarts, seed, absent
    )
    reporting = Reporting(quiet, json)
    from jaxem.cli import sizing

    return sizing.size(choice, request, out, reporting, overwrite=overwrite)


def fit(
    frames: FramesArgument,
    template_shape: ShapeOption,
    out: OutOption,
    overwrite: OverwriteOption = False,
    num_restarts: RestartsOption = FitRequest.num_restarts,
    seed: SeedOption = FitRequest.seed,
    hard: HardOption = FitRequest.hard,
    prior_smoothing: SmoothingOption = FitRequest.prior_smoothing,
    max_iterations: IterationsOption = FitRequest.max_iterations,
    tolerance: ToleranceOption = FitRequest.tolerance,
    sample: SampleOption = "auto",
    plain: PlainOption = FitRequest.plain,
    no_test: UntestedOption = False,
    templates: TemplatesOption = FitRequest.num_templates,
    support: SupportOption = None,
    absent: AbsentOption = False,
    turns: TurnsOption = False,
    mirrors: MirrorsOption = False,
    wrap: WrapOption = False,
    fix: FixOption = None,
    init: InitOption = None,
    mask: MaskOption = None,
    nan_missing: MissingOption = False,
    colour: ColourOption = False,
    exclude_odd: ExcludeOption = False,
    mask_hot: MaskHotOption = False,
    crop: CropOption = None,
    chosen: ChosenOption = None,
    every: EveryOption = FrameChoice.every,
    grey: GreyOption = FrameChoice.grey,
    channel: ChannelOption = FrameChoice.channel,
    checkpoint: CheckpointOption = None,
    resume: ResumeOption = False,
    memory: MemoryOption = None,
    distributed: DistributedOption = False,
    coordinator: CoordinatorOption = None,
    processes: ProcessesOption = None,
    process: ProcessOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Find the template hidden in FRAMES.

    Example: jaxem fit frames/ --template-shape 60 40 --out found

    Work that must survive: jaxem fit ... --checkpoint saved, and after whatever ended it the same with --resume.

    Several processes, under SLURM or MPI: jaxem fit ... --distributed

    Or each by hand: jaxem fit ... --coordinator node1:4321 --processes 4 --process 0, and so on to 3.
    """
    shape = parse_shape(template_shape)
    choice = choose_frames(
        frames, crop, chosen, every, grey, colour=colour, channel=channel, nan_missing=nan_missing, mask=mask
    )
    request = FitRequest(
        shape,
        num_restarts,
        seed,
        hard,
        prior_smoothing,
        max_iterations,
        tolerance,
        plain,
        templates,
        absent,
        turns,
        mirrors,
        wrap,
        support,
        parse_fixed(fix or ()),
        init,
        exclude_odd,
        mask_hot,
        not no_test,
        parse_sample(sample),
    )
    reporting = Reporting(quiet, json, checkpoint, resume)
    together = parse_together(distributed, coordinator, processes, process)
    from jaxem.cli import fitting

    return fitting.fit(
        choice, request, out, reporting, overwrite=overwrite, memory=parse_memory(memory), together=together
    )
