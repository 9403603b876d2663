"""The commands that take a result, or nothing: what each takes and says of itself, as in `frame_commands`."""

from __future__ import annotations

from jaxem.cli.parameters import (
    ChannelOption,
    ChosenOption,
    CountOption,
    CropOption,
    DrawnModelOption,
    DrawnOption,
    EveryOption,
    FittedOption,
    FramesArgument,
    FramesOutOption,
    GreyOption,
    JsonOption,
    MaskOption,
    MemoryOption,
    MissingOption,
    ModelOption,
    OverwriteOption,
    PictureOption,
    PriorOption,
    ResultArgument,
    SeedOption,
    ShownFramesOption,
    ShownNumberOption,
    SpeedOption,
    StarOption,
    TablesOutOption,
)
from jaxem.cli.requests import (
    FRAMES_PER_SECOND,
    FrameChoice,
    choose_frames,
    parse_memory,
    shown_frame,
)


def locate(
    frames: FramesArgument,
    model: ModelOption,
    out: TablesOutOption,
    overwrite: OverwriteOption = False,
    prior: PriorOption = "flat",
    fitted: FittedOption = False,
    star: StarOption = False,
    overlay: DrawnOption = None,
    fps: SpeedOption = FRAMES_PER_SECOND,
    mask: MaskOption = None,
    nan_missing: MissingOption = False,
    crop: CropOption = None,
    chosen: ChosenOption = None,
    every: EveryOption = FrameChoice.every,
    grey: GreyOption = FrameChoice.grey,
    channel: ChannelOption = FrameChoice.channel,
    memory: MemoryOption = None,
    json: JsonOption = False,
) -> int:
    """Find where a template that was found before is in each of FRAMES.

    Writes for each frame, by its number counted from 0, row and column of the template's upper left pixel, the log
    evidence (nats), and the confidence: the probability of just that place. Where the model has several templates,
    turns, or frames without a template, these are said likewise; where there is none, the rest is of the likeliest.

    Frames that the model was fitted to are surer than they should be, unless --fitted says which they are: all of them.

    Example: jaxem locate new-frames/ --model found/result.npz --out places

    Boxes drawn into the frames, and a table for RELION: ... --overlay places/boxes.mp4 --star
    """
    choice = choose_frames(frames, crop, chosen, every, grey, channel=channel, nan_missing=nan_missing, mask=mask)
    from jaxem.cli import applying

    return applying.locate(
        choice,
        model,
        out,
        prior,
        fitted,
        overwrite=overwrite,
        star=star,
        drawn=overlay,
        fps=fps,
        memory=parse_memory(memory),
        as_json=json,
    )


def restore(
    frames: FramesArgument,
    model: ModelOption,
    out: FramesOutOption,
    overwrite: OverwriteOption = False,
    fps: SpeedOption = FRAMES_PER_SECOND,
    mask: MaskOption = None,
    nan_missing: MissingOption = False,
    crop: CropOption = None,
    chosen: ChosenOption = None,
    every: EveryOption = FrameChoice.every,
    grey: GreyOption = FrameChoice.grey,
    channel: ChannelOption = FrameChoice.channel,
    memory: MemoryOption = None,
    json: JsonOption = False,
) -> int:
    """Write each of FRAMES without its noise: the background, and the template at its most probable place.

    Whole numbers stay on their scale, rounded; what a PNG or a video cannot hold is stretched, and the scale is said.

    Example: jaxem restore frames/ --model found/result.npz --out clean.mp4
    """
    choice = choose_frames(frames, crop, chosen, every, grey, channel=channel, nan_missing=nan_missing, mask=mask)
    from jaxem.cli import applying

    return applying.restore(choice, model, out, fps, overwrite=overwrite, memory=parse_memory(memory), as_json=json)


def simulate(
    out: FramesOutOption,
    overwrite: OverwriteOption = False,
    model: DrawnModelOption = None,
    num_images: CountOption = 300,
    seed: SeedOption = 0,
) -> int:
    """Draw noisy frames from a result, or a face hidden in noise where there is none.

    The true corners go to corners.csv in the folder, or to a file of the same name with -corners.csv beside the one
    file. The same seed gives the same frames: those of jaxem.simulate with jax.random.key(seed).

    Example: jaxem simulate --model found/result.npz --num-images 500 --out stack.npy
    """
    from jaxem.cli import simulating

    return simulating.simulate(model, num_images, seed, out, overwrite=overwrite)


def plot(
    result: ResultArgument,
    out: PictureOption,
    overwrite: OverwriteOption = False,
    frames: ShownFramesOption = None,
    number: ShownNumberOption = None,
    crop: CropOption = None,
    grey: GreyOption = FrameChoice.grey,
    channel: ChannelOption = FrameChoice.channel,
) -> int:
    """Draw the figure of a saved result again, with one of the frames if FRAMES are given.

    Example: jaxem plot found/result.npz --out figure.png --images frames/ --frame 12
    """
    choice = shown_frame(frames, number, crop, grey, channel)
    from jaxem.cli import applying

    return applying.plot(result, out, choice, overwrite=overwrite)


def doctor() -> int:
    """Show versions, devices and speed, and check that this machine computes rightly.

    Example: jaxem doctor
    """
    from jaxem.cli import doctor

    return doctor.examine()
