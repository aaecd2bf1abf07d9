"""Verbs that decide: promote, rollback, tasks, drain."""

from typing import Annotated

import typer

from teacherd.daemon.cli_support import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    SetOption,
    print_json,
    print_table,
    read_config,
    say,
)

# Imports of torch stand inside the verbs: see cli_service.

tasks_app = typer.Typer(no_args_is_help=True, help="Look after tasks that became no version.")


def promote(
    version: Annotated[int, typer.Argument(help="Accepted, and newer than what is served.")],
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Serve a version that was accepted and not published."""
    from teacherd.daemon.commands import Command
    from teacherd.daemon.deciding_by_hand import carry_out

    answer = carry_out(read_config(config, assignments), Command("promote", version))
    if as_json:
        print_json(answer)
    else:
        say(f"version {answer['version']} is served now, by {answer['by']}")


def rollback(
    version: Annotated[
        int | None, typer.Argument(help="Whose weights to serve again; by default the one before.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Serve an old version again, as a new one; learning goes on from there."""
    from teacherd.daemon.commands import Command
    from teacherd.daemon.deciding_by_hand import carry_out

    answer = carry_out(read_config(config, assignments), Command("rollback", version))
    if as_json:
        print_json(answer)
    else:
        say(
            f"version {answer['version']}, with the weights of {answer['to']}, is served now, by "
            f"{answer['by']}"
        )


def drain(
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Have the daemon learn all that is in the stream, then end; waits until it has."""
    from teacherd.daemon.commands import Command
    from teacherd.daemon.deciding_by_hand import carry_out, wait_for_end

    answer = carry_out(read_config(config, assignments), Command("drain", None))
    say("asked to drain: it ends when all that is in the stream has been learned")
    wait_for_end(answer["process"])
    if as_json:
        print_json(answer)
    else:
        say("the daemon has ended; the event `drained` in its log says that nothing was left")


@tasks_app.command("list")
def tasks_list(
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List tasks that were held, quarantined or lost, and can be tried again."""
    from teacherd.daemon.deciding_by_hand import list_tasks

    rows = list_tasks(read_config(config, assignments))
    if as_json:
        print_json(rows)
        return
    columns = ["task", "result", "attempts", "instances", "head", "ranges"]
    cells = [[*list(row.values())[:-1], ", ".join(row["ranges"])] for row in rows]
    print_table("tasks set aside", columns, cells)


@tasks_app.command("retry")
def tasks_retry(
    number: Annotated[int, typer.Argument(help="Task, as `tasks list` shows it.")],
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Learn a task once more, from the head of now; its records must still be there."""
    from teacherd.daemon.commands import Command
    from teacherd.daemon.deciding_by_hand import carry_out

    answer = carry_out(read_config(config, assignments), Command("retry", number))
    if as_json:
        print_json(answer)
    elif answer["after"] is None:
        say(f"task {number} is tried again next, by {answer['by']}")
    else:
        say(f"task {number} is tried again after task {answer['after']}, by {answer['by']}")
