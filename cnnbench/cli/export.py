"""``cnnbench export RUN``: a finished run as files that other programs run, each compared with the run first."""

from collections.abc import Sequence
from pathlib import Path

from cnnbench.cli.parser import Parser
from cnnbench.utils.console import print_error, print_result
from cnnbench.utils.errors import RequestError, one_of


def main(arguments: Sequence[str]) -> int:
    """Write the files; returns 0, or 1 where a file did not say what the run says."""
    parser = Parser("export", "Write the network of a finished run as ONNX and torch.export files, and check them.")
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a finished run")
    text = "onnx, torch, both, int8-dynamic or int8-static (both)"
    parser.add_argument("--format", default="both", metavar="F", help=text)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the files go (RUN/export)")
    parser.add_argument("--weights", metavar="W", help="best or last (those of the run's test metrics)")
    parser.add_trust()
    options = parser.parse_args(arguments)
    from cnnbench.inference.export import DESCRIPTION, FORMATS, ExportDiffers, describe, export, images_to_compare
    from cnnbench.inference.load import load_run
    from cnnbench.inference.quantize import INT8, export_int8

    one_of("--format", options.format, (*FORMATS, "both", *INT8))
    formats = list(FORMATS) if options.format == "both" else [options.format]
    run = load_run(options.run, options.weights, options.trust)
    out = options.out or options.run / "export"
    if options.out is None and not out.resolve().is_relative_to(options.run.resolve()):
        raise RequestError(f"{out} is a link out of {options.run}, and nothing is written there (--out DIR says where)")
    images, kind = images_to_compare(run)
    description = describe(run, options.run)
    try:
        if options.format in INT8:
            lost = export_int8(run, description, out, options.format)
            file, points = INT8[options.format], lost["points_lost"]
            size = (out / file).stat().st_size / 1e6
            accuracy = f"test accuracy {lost['accuracy_int8']:.2%} instead of {lost['accuracy']:.2%}"
            changed = f"{lost['changed']:,} of {lost['test_images']:,} test images changed class"
            way = f"{abs(points):.2f} points {'lost' if points >= 0 else 'gained'}"
            print_result(f"{out}\n  {file} {size:.2f} MB: {accuracy}, {way}; {changed}")
            print_result(f"  {DESCRIPTION} says so too, with the classes and the input")
            return 0
        differences = export(run, description, out, formats, images)
    except ExportDiffers as error:
        print_error(f"{error}; nothing was written")
        return 1
    print_result(str(out))
    for name, difference in differences.items():
        file = FORMATS[name].file
        size = (out / file).stat().st_size / 1e6
        print_result(f"  {file:<12} {size:.2f} MB, within {difference:.1e} of the run on {len(images)} {kind}")
    print_result(f"  {DESCRIPTION:<12} the {len(run.classes)} classes, the input, where it comes from")
    return 0
