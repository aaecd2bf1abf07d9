"""Verbs about the process: run, validate, config, status, doctor, version."""

from importlib.metadata import version as package_version
from typing import Annotated

import typer

from teacherd.daemon.cli_support import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    SetOption,
    print_facts,
    print_json,
    print_table,
    read_config,
    require_terminal,
    say,
)
from teacherd.daemon.errors import ConfigurationError, ExitCode

# Torch takes seconds to import: a verb imports what it needs when it is called, so that
# `version`, `--help` and usage errors answer at once.

config_app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")


def run(
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    standby: Annotated[
        bool,
        typer.Option(
            "--standby",
            help="Wait while another process holds the state directory, then take over.",
        ),
    ] = False,
) -> None:
    """Learn from the stream until told to stop; always in the foreground."""
    from teacherd.daemon.logs import configure_logs
    from teacherd.daemon.service import Service

    settings = read_config(config, assignments)
    configure_logs(settings.logging)
    service = Service(settings, reread=lambda: read_config(config, assignments), is_standby=standby)
    raise typer.Exit(int(service.run()))


def validate(
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Check the configuration, the base model and the evaluation sets; start nothing."""
    from dataclasses import asdict

    from teacherd.daemon.validation import validate_files

    try:
        validate_files(read_config(config, assignments))
    except ConfigurationError as error:
        if as_json:
            print_json({"valid": False, "problems": [asdict(each) for each in error.problems]})
        raise
    if as_json:
        print_json({"valid": True, "problems": []})
    else:
        say(f"{config}: valid")


@config_app.command("show")
def config_show(
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Print every setting as resolved from flags, environment, file and defaults; no secrets."""
    from dataclasses import asdict

    import yaml

    from teacherd.daemon.config import to_plain
    from teacherd.daemon.masking import mask

    settings = mask(to_plain(asdict(read_config(config, assignments))))
    if as_json:
        print_json(settings)
    else:
        typer.echo(yaml.safe_dump(settings, sort_keys=False), nl=False)


def status(
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    url: Annotated[
        str | None,
        typer.Option(help="Of the daemon; by default endpoints.host and port are asked."),
    ] = None,
    *,
    as_json: JsonOption = False,
    should_watch: Annotated[
        bool, typer.Option("--watch", help="Go on showing it, until Ctrl+C; needs a terminal.")
    ] = False,
) -> None:
    """Ask a running daemon how it is, and what is wrong with it."""
    from teacherd.daemon.status_client import describe, fetch_history, fetch_status

    certificate_file = None
    if url is None:
        endpoints = read_config(config, assignments).endpoints
        host = f"[{endpoints.host}]" if ":" in endpoints.host else endpoints.host
        url = f"{endpoints.scheme}://{host}:{endpoints.port}"
        certificate_file = endpoints.certificate_file
    if should_watch:
        from teacherd.daemon.status_screen import watch

        watch(
            lambda: (
                fetch_status(url, certificate_file=certificate_file),
                fetch_history(url, certificate_file=certificate_file),
            ),
            console=require_terminal("--watch", as_json=as_json),
        )
        return
    answer = fetch_status(url, certificate_file=certificate_file)
    if as_json:
        print_json(answer)
    else:
        print_facts(f"teacherd at {url}", describe(answer))


def doctor(
    config: ConfigOption = DEFAULT_CONFIG,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Check what the daemon will need on this machine; exits 1 if something is missing."""
    from teacherd.daemon.doctor import examine

    findings = examine(read_config(config, assignments))
    if as_json:
        print_json([finding.to_json() for finding in findings])
    else:
        rows = [(finding.state, finding.subject, finding.detail) for finding in findings]
        print_table("doctor", ["state", "what", "found"], rows)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(int(ExitCode.GENERIC))


def version(*, as_json: JsonOption = False) -> None:
    """Print the version of teacherd and of what it runs on."""
    versions = {name: package_version(name) for name in ("teacherd", "torch", "kafka-python")}
    if as_json:
        print_json(versions)
    else:
        for name, number in versions.items():
            typer.echo(f"{name} {number}")
