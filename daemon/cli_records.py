"""Verbs about records: produce, dead-letters, demo."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from teacherd.daemon.cli_support import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    SetOption,
    print_json,
    print_rendered,
    print_table,
    progress_bar,
    read_config,
    say,
)
from teacherd.daemon.errors import UsageError

if TYPE_CHECKING:
    from teacherd.daemon.config import Config

# Imports of torch and numpy stand inside the verbs: see cli_service.

dead_letters_app = typer.Typer(no_args_is_help=True, help="Look after records that were refused.")


def produce(
    dataset: Annotated[
        str,
        typer.Argument(help="digits, a folder of images by class, an .npz, or a torchvision name."),
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    rate: Annotated[
        float, typer.Option(min=0.0, help="Records per second; 0 is as fast as they are taken.")
    ] = 0.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    payload: Annotated[
        Literal["npy", "png"], typer.Option("--format", help="How each instance is encoded.")
    ] = "npy",
    shuffle_seed: Annotated[
        int | None, typer.Option(min=0, help="Shuffle by this seed; the data set's order without.")
    ] = None,
    data_root: Annotated[Path, typer.Option(help="Where torchvision data sets lie.")] = Path(
        "data"
    ),
    to: Annotated[
        str | None, typer.Option(help="kafka://host:port/topic; the configured source without.")
    ] = None,
    keys: Annotated[
        Literal["none", "label", "number"],
        typer.Option(help="What records carry as key, which chooses the partition."),
    ] = "none",
    partition: Annotated[
        int | None, typer.Option(min=0, help="The partition that takes all of them.")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Make the topic with so many, if it is not there.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Append labelled instances to the configured source, or elsewhere; durable when it returns."""
    from teacherd.daemon.production import Production, produce_dataset
    from teacherd.daemon.source_opening import open_appender

    settings = read_config(config, assignments, may_be_missing=to is not None)
    settings = _with_target(settings, to, partitions)
    if partition is not None and settings.source != "kafka":
        raise UsageError("--partition: a stream log has only one; leave it out")
    with progress_bar("records") as bar:
        report = produce_dataset(
            lambda: open_appender(settings, partition=partition),
            Production(
                dataset=dataset,
                data_root=data_root,
                rate=rate,
                limit=limit,
                payload=payload,
                shuffle_seed=shuffle_seed,
                keys=keys,
            ),
            on_progress=bar.update,
        )
    if as_json:
        print_json(report)
    else:
        is_kafka = settings.source == "kafka"
        target = settings.kafka.topic if is_kafka else settings.stream_log.path
        ends = report["last_offsets"] if is_kafka else report["last_offset"]
        say(f"{report['records']} records appended to {target}, the last at offset {ends}")


def _with_target(settings: "Config", to: str | None, partitions: int | None) -> "Config":
    """Return the settings with the topic that `--to` names, which is made if that is asked."""
    from dataclasses import replace

    from teacherd.daemon.kafka_address import topic_at
    from teacherd.daemon.source_opening import make_topic

    if to is not None:
        settings = replace(
            settings, source="kafka", kafka=topic_at(to, settings.kafka, option="--to")
        )
    if partitions is not None:
        if settings.source != "kafka":
            raise UsageError("--partitions: a stream log has only one; leave it out")
        make_topic(settings.kafka, num_partitions=partitions)
    return settings


@dead_letters_app.command("list")
def dead_letters_list(
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    after: Annotated[int, typer.Option(help="Only those with larger numbers.")] = 0,
    *,
    as_json: JsonOption = False,
) -> None:
    """List refused records that wait, with origin and reason; payloads are not shown."""
    from teacherd.daemon.dead_letter_listing import list_letters

    rows = list_letters(read_config(config, assignments), limit=limit, after=after)
    if as_json:
        print_json(rows)
        return
    columns = ["number", "topic", "partition", "offset", "reason", "message", "bytes", "at"]
    print_table(
        "dead letters",
        columns,
        [[row[column] for column in columns] for row in rows],
        if_empty="none waits",
    )
    if len(rows) == limit:
        say(f"there may be more: --after {rows[-1]['number']}")


@dead_letters_app.command("requeue")
def dead_letters_requeue(
    numbers: Annotated[list[int] | None, typer.Argument(help="Numbers as listed.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    all_of_them: Annotated[bool, typer.Option("--all", help="Every one that waits.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Append refused records to the stream once more, unchanged."""
    from teacherd.daemon.dead_letter_listing import requeue_letters

    if bool(numbers) == all_of_them:
        raise UsageError("name either the numbers that `dead-letters list` shows, or --all")
    settings = read_config(config, assignments)
    num_requeued = requeue_letters(settings, None if all_of_them else numbers)
    if as_json:
        print_json({"requeued": num_requeued})
    else:
        say(f"{num_requeued} requeued")
        if numbers and num_requeued < len(set(numbers)):
            say(f"{len(set(numbers)) - num_requeued} of those numbers do not wait; see the list")


def demo(
    dataset: Annotated[
        str, typer.Option(help="digits, a folder of images by class, .npz, a torchvision name.")
    ] = "digits",
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("demo-out"),
    data_root: Annotated[Path, typer.Option(help="Where torchvision data sets lie.")] = Path(
        "data"
    ),
    drift: Annotated[
        Literal["rotate", "blur"], typer.Option(help="What happens halfway through the stream.")
    ] = "rotate",
    new_classes: Annotated[
        int,
        typer.Option(min=0, help="So many classes come halfway, in place of the drift."),
    ] = 0,
    seconds: Annotated[
        float, typer.Option(min=1.0, help="How long the stream is produced for.")
    ] = 45.0,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    source: Annotated[
        str | None,
        typer.Option(help="kafka://host:port/topic to learn from; an embedded stream log without."),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Watch it learn: base model, stream, drift, hot-loading, on real data in a few minutes.

    With --new-classes 2 the base model knows all classes but the last two.
    """
    from teacherd.consumers.kafka_config import KafkaConfig
    from teacherd.daemon.demo import Demo, DemoConfig
    from teacherd.daemon.demo_report import PLOT_NAME, SUMMARY_NAME, build_table, summarise
    from teacherd.daemon.kafka_address import topic_at

    topic = None if source is None else topic_at(source, KafkaConfig(), option="--source")
    result = Demo(
        DemoConfig(
            dataset=dataset,
            data_root=data_root,
            out=out,
            drift=drift,
            new_classes=new_classes,
            seconds=seconds,
            seed=seed,
            topic=topic,
        )
    ).run()
    if as_json:
        print_json(summarise(result))
    else:
        print_rendered(build_table(result))
    say(f"figures: {out / SUMMARY_NAME}, plot: {out / PLOT_NAME}")
    say(f"look closer: teacherd versions list --config {out / 'config.yaml'}")
