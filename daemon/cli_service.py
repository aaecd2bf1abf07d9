"""Verbs about the process: run, install, validate, config, status, doctor, version."""

import sys
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated

import typer

from teacherd.daemon.cli_support import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    SetOption,
    end_with,
    print_facts,
    print_json,
    print_table,
    read_config,
    require_terminal,
    say,
)
from teacherd.daemon.errors import ConfigurationError, ExitCode, UsageError

# Torch takes seconds to import: a verb imports what it needs when it is called, so that
# `version`, `--help` and usage errors answer at once.

_STDERR = 2

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
    import faulthandler
    import os
    import time

    from teacherd.daemon.follower import Follower
    from teacherd.daemon.joining import join, rank_of
    from teacherd.daemon.logs import configure_logs
    from teacherd.daemon.open_files import raise_open_files
    from teacherd.daemon.service import Service
    from teacherd.daemon.service_manager import ServiceManager

    # A watchdog ends a hung process by SIGABRT: then the log says where each thread stood.
    faulthandler.enable(_STDERR)
    raise_open_files()
    settings = read_config(config, assignments)
    configure_logs(settings.logging, rank=rank_of(os.environ))
    ranks = join(settings, os.environ, is_standby=standby)
    if ranks.rank:
        end_with(Follower(settings, ranks, os.environ).run())
    service = Service(
        settings,
        reread=lambda: read_config(config, assignments),
        manager=ServiceManager.from_environment(os.environ, monotonic=time.monotonic),
        is_standby=standby,
        ranks=ranks,
    )
    end_with(service.run())


def install(
    prefix: Annotated[
        Path, typer.Option(help="Root of the file system to install into; / is this machine.")
    ] = Path("/"),
    user: Annotated[str, typer.Option(help="Whom the service runs as.")] = "teacherd",
    executable: Annotated[
        Path | None,
        typer.Option(help="The teacherd that it starts; by default the one that you run now."),
    ] = None,
    *,
    for_systemd: Annotated[
        bool, typer.Option("--systemd", help="As a service of systemd; there is no other kind.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the files of a service; starts nothing, and says what does."""
    from teacherd.daemon.installing import install_systemd, next_commands

    if not for_systemd:
        raise UsageError("install: say --systemd; containers need no installing")
    running = Path(sys.executable).with_name("teacherd")
    installed = install_systemd(executable=executable or running, prefix=prefix, user=user)
    commands = next_commands(prefix=prefix)
    if as_json:
        files = [{"path": str(each.path), "state": each.state} for each in installed]
        print_json({"files": files, "next": commands})
        return
    print_table("files", ["state", "path"], [(each.state, str(each.path)) for each in installed])
    say("then, as root:\n" + "\n".join(f"  {command}" for command in commands))


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
