"""The command line: every verb under one name."""

import typer

from teacherd.daemon import cli_models, cli_records, cli_service

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="teacherd keeps a deployed classifier learning from a stream of labelled instances.",
)

for verb in (cli_service.run, cli_service.validate, cli_service.status, cli_service.doctor):
    app.command()(verb)
app.add_typer(cli_service.config_app, name="config")
app.command()(cli_models.adopt)
app.command()(cli_models.pretrain)
app.add_typer(cli_models.versions_app, name="versions")
app.command()(cli_records.produce)
app.add_typer(cli_records.dead_letters_app, name="dead-letters")
app.command()(cli_records.demo)
app.command()(cli_service.version)
