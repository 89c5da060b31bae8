//! The command line: what a person may type, and how a command ends.
//!
//! Results go to standard output, everything else (log, banner, errors, notes) to standard error. What a terminal gets
//! is for reading, what a pipe gets is for programs: one JSON object a line. Colours follow `NO_COLOR`,
//! `CLICOLOR_FORCE` and `TERM`. A pipe whose reader has gone ends the command quietly.

pub mod banner;
mod config;
mod connection;
pub mod doctor;
pub mod listen;
mod log;
pub mod publish;
mod serve;
mod terminal;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{ConfigError, Loaded, Sources, table};

/// Where clients connect by default.
const URL: &str = "ws://127.0.0.1:8000/ws";

const EXAMPLES: &str = "\
Examples:
  switchboard                                            a server for this machine alone
  switchboard --listen 127.0.0.1:9000                    on another port
  switchboard serve --config /etc/switchboard.toml       with settings from a file
  switchboard listen room:lobby                          show the messages of a channel
  switchboard publish room:lobby '{\"text\":\"hello\"}'      publish one
  switchboard doctor                                     is this machine ready?
  switchboard bench fanout --spawn                       what does a delivery cost here?
  switchboard config default > switchboard.toml          every setting, described

Settings: defaults, then the file, then variables SWITCHBOARD_SECTION__KEY, then flags.

Exit codes: 0 done; 1 failed; 2 the command line or the settings are wrong; 3 doctor found something.";

/// A server for real-time messages: very many connections, routed by channel.
#[derive(Parser, Debug)]
#[command(name = "switchboard", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: SettingArgs,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the server (also without naming this command).
    #[command(
        after_help = "The server runs until SIGTERM or SIGINT. On a loopback address it is in development mode."
    )]
    Serve(SettingArgs),
    /// Show the messages of channels as they come.
    Listen(listen::ListenArgs),
    /// Publish a message, or each line of standard input.
    Publish(publish::PublishArgs),
    /// Say whether this machine is ready for the server, and what to change.
    Doctor(doctor::DoctorArgs),
    /// Measure what this or another WebSocket server costs.
    Bench(Box<switchboard_bench::cli::BenchArgs>),
    /// Check, describe and show settings.
    Config(config::ConfigArgs),
}

/// The settings that have a flag, and the file with the others.
#[derive(Args, Clone, Default, Debug)]
struct SettingArgs {
    #[arg(long, value_name = "ADDR", help = flag_help("--listen"))]
    listen: Option<String>,
    #[arg(long, value_name = "ADDR", help = flag_help("--internal-listen"))]
    internal_listen: Option<String>,
    #[arg(long, value_name = "DIR", help = flag_help("--data-dir"))]
    data_dir: Option<String>,
    #[arg(long, value_name = "N", help = flag_help("--shards"))]
    shards: Option<String>,
    /// TOML file with settings; `switchboard config default` prints one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl SettingArgs {
    fn load(&self) -> Result<Loaded, ConfigError> {
        let flags = [
            ("--listen", &self.listen),
            ("--internal-listen", &self.internal_listen),
            ("--data-dir", &self.data_dir),
            ("--shards", &self.shards),
        ];
        let given = flags
            .into_iter()
            .filter_map(|(flag, value)| Some((flag, value.clone()?)))
            .collect();
        Sources::of_process(self.config.as_deref(), given)?.load()
    }
}

/// What the table says about the setting of a flag.
fn flag_help(flag: &str) -> String {
    let setting = table::SETTINGS.iter().find(|setting| setting.flag == Some(flag));
    setting.map_or(String::new(), |setting| {
        format!("{} [default: {}]", setting.about, setting.default)
    })
}

/// How a command ends when it does not end well.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something else of the command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// It did not work.
    #[error("{0}")]
    Failed(String),
    /// Standard output or input does not work.
    #[error("{0}")]
    Stream(#[from] io::Error),
}

/// The exit codes, as the help describes them.
mod exit {
    pub(super) const DONE: u8 = 0;
    pub(super) const FAILED: u8 = 1;
    /// Starting again will not help: the same words will be as wrong as before.
    pub(super) const USAGE: u8 = 2;
    pub(super) const FINDINGS: u8 = 3;
    /// By SIGINT, as a shell counts it.
    pub(super) const INTERRUPTED: u8 = 130;
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let code = match CommandLine::try_parse() {
        Ok(line) => match run(line) {
            Ok(code) => code,
            Err(failure) => report(&failure),
        },
        Err(error) => {
            // Help and version go to standard output, the rest to standard error; a closed one is nobody's loss.
            let _ = error.print();
            u8::try_from(error.exit_code()).unwrap_or(exit::USAGE)
        }
    };
    ExitCode::from(code)
}

fn run(line: CommandLine) -> Result<u8, Failure> {
    match line.command {
        None => serve::run(&line.settings),
        Some(Command::Serve(settings)) => serve::run(&settings),
        Some(Command::Listen(args)) => listen::run(&args),
        Some(Command::Publish(args)) => publish::run(&args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Bench(args)) => bench(*args),
        Some(Command::Config(args)) => config::run(&args),
    }
}

/// The load generator, whose process may also be one of its helpers.
fn bench(args: switchboard_bench::cli::BenchArgs) -> Result<u8, Failure> {
    use switchboard_bench::cli::{BenchError, Outcome};
    match switchboard_bench::cli::run(args) {
        Ok(Outcome::Done) => Ok(exit::DONE),
        Ok(Outcome::Fault) => Ok(exit::FAILED),
        Ok(Outcome::Interrupted) => Ok(exit::INTERRUPTED),
        Err(BenchError::Usage(words)) => Err(Failure::Usage(words)),
        Err(BenchError::Failed(words)) => Err(Failure::Failed(words)),
        Err(BenchError::System(error)) => Err(Failure::Stream(error)),
    }
}

/// Tells the person, and chooses the exit code.
fn report(failure: &Failure) -> u8 {
    use std::io::Write as _;
    let mut err = anstream::stderr();
    match failure {
        Failure::Stream(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::DONE,
        Failure::Config(error) => {
            let _ = write!(err, "{error}");
            exit::USAGE
        }
        failure => {
            let style = anstyle::AnsiColor::Red.on_default().bold();
            let _ = writeln!(err, "{style}error{style:#}: {failure}");
            match failure {
                Failure::Usage(_) => exit::USAGE,
                _ => exit::FAILED,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_table_exists_and_is_described_by_it() {
        let command = CommandLine::command();
        let flags: Vec<_> = table::SETTINGS
            .iter()
            .filter_map(|setting| Some((setting.flag?, setting)))
            .collect();
        assert_eq!(flags.len(), 4);
        for (flag, setting) in flags {
            let name = flag.trim_start_matches('-');
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name));
            let help = arg.and_then(|arg| arg.get_help()).map(ToString::to_string);
            assert!(help.is_some_and(|help| help.starts_with(setting.about)), "{flag}");
        }
    }

    #[test]
    fn no_command_is_serve_with_the_same_flags() {
        let line =
            CommandLine::try_parse_from(["switchboard", "--listen", "127.0.0.1:1", "--shards", "2"]).unwrap();
        assert!(line.command.is_none());
        assert_eq!(line.settings.listen.as_deref(), Some("127.0.0.1:1"));
        let line = CommandLine::try_parse_from(["switchboard", "serve", "--listen", "127.0.0.1:1"]).unwrap();
        assert!(matches!(line.command, Some(Command::Serve(settings)) if settings.listen.is_some()));
        assert!(CommandLine::try_parse_from(["switchboard", "--listen", "127.0.0.1:1", "doctor"]).is_err());
    }
}
