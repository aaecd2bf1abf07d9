"""The command line: every verb under one name, in the order in which a new user meets them."""

import typer

from teacherd.daemon import (
    cli_decisions,
    cli_lineage,
    cli_models,
    cli_records,
    cli_service,
    cli_serving,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="teacherd keeps a deployed classifier learning from a stream of labelled instances.",
)

_BEGIN = "Begin"
_RUN = "Run and feed"
_LOOK = "Look after it"

app.command(rich_help_panel=_BEGIN)(cli_records.demo)
app.command(rich_help_panel=_BEGIN)(cli_models.adopt)
app.command(rich_help_panel=_BEGIN)(cli_models.pretrain)
app.command(rich_help_panel=_RUN)(cli_service.validate)
app.command(rich_help_panel=_RUN)(cli_service.run)
app.command(rich_help_panel=_RUN)(cli_decisions.drain)
app.command(rich_help_panel=_RUN)(cli_service.install)
app.command(rich_help_panel=_RUN)(cli_records.produce)
app.command(rich_help_panel=_RUN)(cli_serving.serve)
app.command(rich_help_panel=_LOOK)(cli_service.status)
app.add_typer(cli_models.versions_app, name="versions", rich_help_panel=_LOOK)
app.command(rich_help_panel=_LOOK)(cli_decisions.promote)
app.command(rich_help_panel=_LOOK)(cli_decisions.rollback)
app.add_typer(cli_decisions.tasks_app, name="tasks", rich_help_panel=_LOOK)
app.add_typer(cli_records.dead_letters_app, name="dead-letters", rich_help_panel=_LOOK)
app.command(rich_help_panel=_LOOK)(cli_lineage.replay)
app.command(rich_help_panel=_LOOK)(cli_lineage.backup)
app.command(rich_help_panel=_LOOK)(cli_lineage.restore)
app.add_typer(cli_service.config_app, name="config", rich_help_panel=_LOOK)
app.command(rich_help_panel=_LOOK)(cli_service.doctor)
app.command(rich_help_panel=_LOOK)(cli_service.version)
