//! `switchboard config`: check, describe and show settings.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, SettingArgs, exit};
use crate::config::print;

#[derive(Args, Debug)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Say whether the server would start with these settings, and what is wrong with them.
    #[command(
        after_help = "Variables of the environment count, as they do for the server. \
                            Exit codes: 0 the server would start; 2 it would not."
    )]
    Check {
        /// TOML file with settings.
        file: Option<PathBuf>,
    },
    /// Print a file with every setting at its default, described.
    Default,
    /// Print every variable with its default, described.
    Env,
    /// Print what is in force, and where each value is from.
    Show(SettingArgs),
}

pub(super) fn run(args: &ConfigArgs) -> Result<u8, Failure> {
    let mut out = anstream::stdout();
    match &args.command {
        ConfigCommand::Check { file } => {
            let settings = SettingArgs {
                config: file.clone(),
                ..SettingArgs::default()
            };
            let loaded = settings.load()?;
            for warning in loaded.config.warnings() {
                let style = anstyle::AnsiColor::Yellow.on_default().bold();
                writeln!(out, "{style}warning{style:#}: {warning}")?;
            }
            writeln!(out, "ok: the server would start with these settings")?;
        }
        ConfigCommand::Default => out.write_all(print::default_file().as_bytes())?,
        ConfigCommand::Env => out.write_all(print::variables().as_bytes())?,
        ConfigCommand::Show(settings) => out.write_all(print::in_force(&settings.load()?).as_bytes())?,
    }
    out.flush()?;
    Ok(exit::DONE)
}
