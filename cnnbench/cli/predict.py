"""``cnnbench predict RUN IMAGE…``: what a finished run says of image files."""

from collections.abc import Sequence
from pathlib import Path

from cnnbench.cli.parser import Parser
from cnnbench.inference.predict import FORMATS, draw_sheet, find_images, predict_files
from cnnbench.utils.console import print_result
from cnnbench.utils.errors import RequestError, one_of


def main(arguments: Sequence[str]) -> int:
    """Print the classes of the images; returns 0, or 1 where a file could not be read."""
    parser = Parser("predict", "Classify images with the network of a finished run.")
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a finished run")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files, folders, or - for standard input")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes shown of each image (3)")
    parser.add_argument("--format", default="table", metavar="F", help=f"{', '.join(FORMATS)} (table)")
    parser.add_argument("--weights", metavar="W", help="best or last (those of the run's test metrics)")
    parser.add_argument("--batch-size", type=int, default=256, metavar="N", help="images at a time (256)")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="also draw the images with their classes (.png)")
    parser.add_argument("--explain", action="store_true", help="also draw what speaks for the classes (explained.png)")
    parser.add_trust()
    options = parser.parse_args(arguments)
    one_of("--format", options.format, FORMATS)
    for option, number in (("--top", options.top), ("--batch-size", options.batch_size)):
        if number < 1:
            raise RequestError(f"{option} must be at least 1, got {number}")
    files = find_images(options.images)
    from cnnbench.inference.load import load_run

    run = load_run(options.run, options.weights, options.trust)
    draw = options.sheet is not None or options.explain
    if options.explain:
        from cnnbench.training import grad_cam

        grad_cam.check("--explain", run.network, run.channels, run.image_size)
    predictions, images = predict_files(run, files, options.top, options.batch_size, keep_images=draw)
    if predictions or options.format == "json":
        print_result(FORMATS[options.format](predictions))
    if draw and predictions:
        sheet = options.sheet or Path("explained.png")
        draw_sheet(sheet, predictions, images, run if options.explain else None)
        if options.format == "table":
            print_result(f"{'heat maps' if options.explain else 'images'}: {sheet}")
    return 0 if len(predictions) == len(files) else 1
