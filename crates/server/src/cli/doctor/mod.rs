//! `switchboard doctor`: is this machine ready for the server, and what to change.
//!
//! [`facts`] asks the system, [`checks`] judges what it said (pure), [`report`] says it.

pub mod checks;
pub mod facts;
pub mod report;

use std::io::Write as _;

use clap::Args;

use super::{Failure, SettingArgs, exit};

const EXIT_CODES: &str = "\
Exit codes: 0 nothing to change (what is unknown counts as fine); 2 the settings are wrong; 3 something should be changed.";

#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    settings: SettingArgs,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DoctorArgs) -> Result<u8, Failure> {
    let config = args.settings.load()?.config;
    let facts = facts::Facts::of_machine(&config);
    let findings = checks::check(&facts, &config);
    let mut out = anstream::stdout();
    match args.json {
        true => writeln!(out, "{}", report::json(&findings))?,
        false => out.write_all(report::text(&findings).as_bytes())?,
    }
    out.flush()?;
    match findings.iter().any(|finding| finding.status.is_a_finding()) {
        true => Ok(exit::FINDINGS),
        false => Ok(exit::DONE),
    }
}
