from click.testing import CliRunner

from merc.commands.shards import main


def test_help_names_the_exit_codes() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "Exit codes" in result.output


def test_an_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["inspekt"]).exit_code == 2
