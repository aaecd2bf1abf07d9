"""Verbs about networks and versions: adopt, pretrain, versions."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from teacherd.daemon.cli_support import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    SetOption,
    print_facts,
    print_json,
    print_table,
    progress_bar,
    read_config,
    say,
)
from teacherd.daemon.errors import ExitCode

# Imports of torch stand inside the verbs: see cli_service.

versions_app = typer.Typer(no_args_is_help=True, help="Look at the versions of a lineage.")

OutOption = Annotated[Path, typer.Option("--out", help="Folder of the base model to be made.")]
NetworkOption = Annotated[
    str,
    typer.Option(
        help="small_cnn, mlp, a torchvision classifier by name (adapted to small images), exactly "
        "as torchvision builds it (torchvision.models:resnet18), or package.module:callable."
    ),
]

ClassMeansOption = Annotated[
    bool,
    typer.Option(
        help="Let versions carry the mean embedding of each class, from which old classes are "
        "learned again when new ones come alone; docs/new-classes.md."
    ),
]

ArgumentOption = Annotated[
    list[str] | None, typer.Option("--argument", help="name=value for the network; repeatable.")
]


def adopt(
    weights: Annotated[Path, typer.Argument(help="State dict (.pt, .pth) or .safetensors.")],
    network: NetworkOption,
    input_shape: Annotated[str, typer.Option(help="C,H,W of images or F of feature vectors.")],
    classes: Annotated[str, typer.Option(help="a,b,c in the order of the outputs, or @FILE.")],
    mean: Annotated[str, typer.Option(help="Per channel, of inputs after --scale.")],
    std: Annotated[str, typer.Option(help="Per channel, of inputs after --scale.")],
    scale: Annotated[
        float | None, typer.Option(help="Factor before mean and std; 1/255 for images, 1 else.")
    ] = None,
    samples: Annotated[
        str | None, typer.Option(help="Labelled data (a data set as for pretrain) to check on.")
    ] = None,
    min_accuracy: Annotated[
        float, typer.Option(help="Refuse a network below this accuracy on the samples.")
    ] = 0.0,
    arguments: ArgumentOption = None,
    out: OutOption = Path("base"),
    *,
    class_means: ClassMeansOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make your own trained network version 0: what the daemon starts from."""
    from teacherd.daemon.adoption import Adoption, adopt_network

    report = adopt_network(
        Adoption(
            weights=weights,
            network=network,
            arguments=tuple(arguments or ()),
            input_shape=input_shape,
            classes=classes,
            mean=mean,
            std=std,
            scale=scale,
            samples=samples,
            min_accuracy=min_accuracy,
            class_means=class_means,
            out=out,
        )
    )
    if as_json:
        print_json(report)
    else:
        print_facts(f"adopted into {out}", list(report.items()))


def pretrain(
    dataset: Annotated[
        str,
        typer.Argument(help="digits, a folder of images by class, an .npz, or a torchvision name."),
    ],
    network: NetworkOption = "small_cnn",
    arguments: ArgumentOption = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data.")] = 30,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW, at its peak.")] = 0.003,
    holdout_share: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share kept out and measured on.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches and holdout.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "cpu",
    data_root: Annotated[Path, typer.Option(help="Where torchvision data sets lie.")] = Path(
        "data"
    ),
    out: OutOption = Path("base"),
    *,
    class_means: ClassMeansOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a base model from labelled data."""
    from teacherd.daemon.base_training import BaseTraining, pretrain_base

    with progress_bar("epochs", epochs) as bar:
        report = pretrain_base(
            BaseTraining(
                dataset=dataset,
                data_root=data_root,
                network=network,
                arguments=tuple(arguments or ()),
                epochs=epochs,
                learning_rate=learning_rate,
                holdout_share=holdout_share,
                seed=seed,
                device=device,
                class_means=class_means,
                out=out,
            ),
            on_epoch=lambda epoch: bar.update(epoch.number),
        )
    if as_json:
        print_json(report)
    else:
        print_facts(f"pretrained into {out}", list(report.items()))


@versions_app.command("list")
def versions_list(
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List every accepted version, oldest first."""
    from teacherd.daemon.version_listing import list_versions

    rows = list_versions(read_config(config, assignments))
    if as_json:
        print_json(rows)
        return
    columns = [
        "version",
        "parent",
        "task",
        "instances",
        "classes",
        "outer_ratio",
        "gate",
        "written_at",
        "state",
    ]
    print_table(
        "versions",
        [*columns, "replay"],
        [[*(row[column] for column in columns), _replay_word(row)] for row in rows],
    )


def _replay_word(row: dict[str, Any]) -> str:
    """Say from where a version can be made again; blank where nobody knows."""
    if row["can_replay"]:
        return f"from {row['replay_from']}"
    return "" if row["can_replay"] is None or row["version"] == 0 else "no"


@versions_app.command("show")
def versions_show(
    number: Annotated[int, typer.Argument(help="Version.")],
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one version: its plan, outcome and manifest."""
    from teacherd.daemon.status_client import describe
    from teacherd.daemon.version_listing import show_version

    shown = show_version(read_config(config, assignments), number)
    if as_json:
        print_json(shown)
    else:
        print_facts(f"version {number}", describe(shown))


@versions_app.command("diff")
def versions_diff(
    before: Annotated[
        int | None, typer.Argument(metavar="A", help="Version; the other one's parent.")
    ] = None,
    after: Annotated[
        int | None, typer.Argument(metavar="B", help="Version; the served one by default.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Say what version B is that A is not: tasks, classes, accuracy, settings, weights."""
    from teacherd.daemon.version_difference import diff_versions

    found = diff_versions(read_config(config, assignments), before, after)
    if as_json:
        print_json(found)
        return
    from teacherd.daemon.difference_tables import difference_facts, difference_tables

    print_facts(f"version {found['from']} to {found['to']}", difference_facts(found))
    for title, columns, rows in difference_tables(found):
        typer.echo()
        print_table(title, columns, rows)


@versions_app.command("verify")
def versions_verify(
    number: Annotated[int | None, typer.Argument(help="Version; all of them by default.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Load versions, check every checksum and the lineage log; exits 74 if one is bad."""
    from teacherd.daemon.version_listing import verify_versions

    rows = verify_versions(read_config(config, assignments), number)
    if as_json:
        print_json(rows)
    else:
        print_table("verify", ["version", "state", "reason"], [list(row.values()) for row in rows])
    bad = [row for row in rows if row["state"] == "bad"]
    if bad:
        say(f"{len(bad)} of {len(rows)} versions are bad")
        raise typer.Exit(int(ExitCode.STATE))


@versions_app.command("export")
def versions_export(
    number: Annotated[
        int | None, typer.Argument(help="Version; the served one by default.")
    ] = None,
    form: Annotated[
        Literal["safetensors", "onnx", "pt2", "triton"],
        typer.Option("--format", help="What to write."),
    ] = "onnx",
    out: Annotated[
        Path, typer.Option(help="Folder to be made; of triton the repository, old or new.")
    ] = Path("export"),
    name: Annotated[str, typer.Option(help="Of the model in Triton's repository.")] = "teacher",
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Write a version for another runtime, load it back there and compare what it answers."""
    from teacherd.daemon.exporting import Export, export_version

    export = Export(version=number, format=form, out=out, name=name)
    report = export_version(read_config(config, assignments), export)
    if as_json:
        print_json(report)
    else:
        print_facts(f"exported into {report['path']}", list(report.items()))
