//! Runs simulated histories: many of them, or one to look at.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use switchboard_check::event::Name;
use switchboard_sim::bug::Bug;
use switchboard_sim::coverage::Mark;
use switchboard_sim::many::{self, Sum};
use switchboard_sim::minimise::minimise;
use switchboard_sim::plan::{Plan, Reduction};
use switchboard_sim::world::{self, Outcome};

/// Histories from which on all situations have to occur.
const COVERAGE_FROM: u64 = 2_000;
/// Of their faults so many in a hundred have to fall inside a resume.
const IN_RESUME_PERCENT: u64 = 30;

#[derive(Parser)]
#[command(
    name = "sim",
    about = "Whole servers and clients on a network and a clock that do not exist, judged"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Many histories: exit 1 where a rule was broken or a client told what no server should tell it, or, from 2,000 histories on, a
    /// situation never occurred or fewer than 30 % of the faults fell inside a resume.
    Run {
        /// How many.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..1 << 32))]
        count: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..1 << 63))]
        from: u64,
        /// How many at once; by default one for each core.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        jobs: Option<u16>,
        /// Nothing is done to servers, networks and brokers; then nothing has to occur, either.
        #[arg(long)]
        calm: bool,
    },
    /// One history, twice, and what the judge says of it.
    Show {
        /// Its seed.
        seed: u64,
        /// With this bug, by its name (`sim bugs`).
        #[arg(long)]
        bug: Option<String>,
        /// With all that was written down.
        #[arg(long)]
        log: bool,
        /// With the plan.
        #[arg(long)]
        plan: bool,
        /// Without these faults, by their places in the plan.
        #[arg(long, value_delimiter = ',')]
        without_faults: Vec<usize>,
        /// As `run --calm`.
        #[arg(long, conflicts_with_all = ["without_faults", "without_clients"])]
        calm: bool,
        /// Without these clients.
        #[arg(long, value_delimiter = ',')]
        without_clients: Vec<usize>,
        /// Publishing for so many milliseconds at most.
        #[arg(long)]
        at_most: Option<u64>,
    },
    /// What of a history is needed for its rule to be broken: exit 1 where none is.
    Minimise {
        /// Its seed.
        seed: u64,
        /// With this bug.
        #[arg(long)]
        bug: Option<String>,
    },
    /// Plants every bug, and says which rule found it, and in which seed.
    Bugs {
        /// Seeds that are tried for each.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run {
            count,
            from,
            jobs,
            calm,
        } => run(count, from, jobs, calm),
        Command::Show {
            seed,
            bug,
            log,
            plan: with_plan,
            without_faults,
            calm,
            without_clients,
            at_most,
        } => {
            let Ok(bug) = named(bug.as_deref()) else {
                return ExitCode::from(2);
            };
            let reduction = Reduction {
                without_faults,
                without_clients,
                at_most: at_most.map(std::time::Duration::from_millis),
            };
            let plan = Plan::of(seed);
            let (faults, clients) = (plan.faults.len(), plan.clients.len());
            if reduction.without_faults.iter().any(|fault| *fault >= faults)
                || reduction.without_clients.iter().any(|client| *client >= clients)
            {
                eprintln!(
                    "sim: the plan of seed {seed} has {faults} faults and {clients} clients, numbered from 0"
                );
                return ExitCode::from(2);
            }
            let plan = if calm {
                plan.without_faults()
            } else {
                plan.reduced(&reduction)
            };
            if with_plan {
                println!("{plan:#?}");
            }
            show(&plan, bug, log)
        }
        Command::Minimise { seed, bug } => {
            let Ok(bug) = named(bug.as_deref()) else {
                return ExitCode::from(2);
            };
            minimised(seed, bug)
        }
        Command::Bugs { seeds } => bugs(seeds),
    }
}

fn named(name: Option<&str>) -> Result<Option<Bug>, ()> {
    let Some(name) = name else { return Ok(None) };
    let found = Bug::ALL.iter().find(|bug| format!("{bug:?}") == name);
    if found.is_none() {
        eprintln!("sim: there is no bug {name:?}; `sim bugs` names them");
    }
    found.map(|bug| Some(*bug)).ok_or(())
}

fn run(count: u64, from: u64, jobs: Option<u16>, calm: bool) -> ExitCode {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.map_or_else(cores, usize::from);
    let bar = ProgressBar::new(count);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} histories, {msg}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message("no rule broken");
    let started = Instant::now();
    let plan = |seed| match calm {
        true => Plan::of(seed).without_faults(),
        false => Plan::of(seed),
    };
    let option = if calm { " --calm" } else { "" };
    let sum = many::run(from..from + count, jobs, plan, |seed, broken| {
        if broken > 0 {
            bar.set_message("rules broken");
            // Whoever does not wait for the end wants to know, too.
            bar.suspend(|| eprintln!("seed {seed}: something is wrong; `sim show {seed}{option}` says what"));
        }
        bar.inc(1);
    });
    bar.finish_and_clear();
    tell(&sum);
    println!(
        "\n{} histories in {:.0?}, {jobs} at once",
        sum.histories,
        started.elapsed()
    );
    let missing = sum.marks.missing();
    if sum.broken_count > 0 {
        return ExitCode::FAILURE;
    }
    if calm || count < COVERAGE_FROM {
        return ExitCode::SUCCESS;
    }
    if !missing.is_empty() {
        println!("this run does not count: some situations never occurred");
        return ExitCode::FAILURE;
    }
    let (all, inside) = sum.all_faults();
    if inside * 100 < all * IN_RESUME_PERCENT {
        println!(
            "this run does not count: fewer than {IN_RESUME_PERCENT} % of the faults fell inside a resume"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn tell(sum: &Sum) {
    println!("{:>12}  situation", "occurred");
    for mark in Mark::ALL {
        let count = sum.marks.count(*mark);
        let note = if count == 0 { "   ← never" } else { "" };
        println!("{count:>12}  {}{note}", mark.text());
    }
    println!("\n{:>12} {:>16}  fault", "happened", "inside a resume");
    for (kind, (all, inside)) in &sum.faults {
        println!("{all:>12} {inside:>16}  {kind}");
    }
    let (all, inside) = sum.all_faults();
    let share = if all == 0 {
        0.0
    } else {
        inside as f64 * 100.0 / all as f64
    };
    println!("{all:>12} {inside:>16}  all: {share:.0} % inside a resume");
    let counts = sum.counts;
    println!(
        "\n{} events, {} publications ({} acknowledged), {} deliveries checked, {} subscriptions, {} gaps, {} resets",
        counts.events,
        counts.publications,
        counts.acknowledged,
        counts.deliveries,
        counts.streams,
        counts.gaps,
        counts.resets
    );
    for (seed, first) in &sum.broken {
        println!("\nseed {seed}:\n{first}");
    }
    println!(
        "\n{} violations, in {} histories",
        sum.violations, sum.broken_count
    );
}

fn show(plan: &Plan, bug: Option<Bug>, log: bool) -> ExitCode {
    let outcome = world::run_noting(plan, bug, log);
    let again = world::run(plan, bug);
    if log {
        print_log(&outcome);
    }
    say(&outcome);
    println!("{:.1?} of its own time; {}", outcome.lasted, outcome.hash);
    if outcome.hash != again.hash {
        println!("and not the same the second time: {}", again.hash);
        let (one, other) = (&outcome.history, &again.history);
        let names = |history: &switchboard_check::History| {
            let names = (0..history.names()).map(|number| history.text(Name(number as u32)).to_owned());
            names.collect::<Vec<_>>()
        };
        let parts = [
            ("names", names(one) == names(other)),
            ("faults", one.faults == other.faults),
            ("final histories", one.finals == other.finals),
            ("last members", one.rosters == other.rosters),
            ("resources", one.resources == other.resources),
        ];
        for (part, _) in parts.iter().filter(|(_, is_same)| !is_same) {
            println!("these differ: {part}");
        }
        for (log, of) in one.logs().iter().zip(other.logs()) {
            let first = log
                .events
                .iter()
                .zip(&of.events)
                .find(|(event, other)| event != other);
            if let Some((event, other)) = first {
                println!("{}: {event:?} and {other:?}", one.text(log.name));
            }
        }
        return ExitCode::FAILURE;
    }
    match outcome.wrong() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn say(outcome: &Outcome) {
    println!("{}", outcome.verdict);
    for trouble in &outcome.troubles {
        println!("{trouble}");
    }
}

fn print_log(outcome: &Outcome) {
    let history = &outcome.history;
    for number in 0..history.names() {
        println!("{number:>6}  {}", history.text(Name(number as u32)));
    }
    let mut lines = outcome.notes.clone();
    for fault in &history.faults {
        lines.push((fault.from, format!("*** {}, until {}", fault.what, fault.until)));
    }
    for log in history.logs() {
        let name = history.text(log.name);
        lines.extend(
            log.events
                .iter()
                .map(|event| (event.at, format!("{name}: {:?}", event.what))),
        );
    }
    lines.sort_by_key(|(at, _)| *at);
    for (at, line) in lines {
        println!("{at:>10}  {line}");
    }
}

fn minimised(seed: u64, bug: Option<Bug>) -> ExitCode {
    let bar = ProgressBar::new_spinner();
    let least = minimise(seed, bug, |_| bar.inc(1));
    bar.finish_and_clear();
    let Some(least) = least else {
        println!("no rule is broken in seed {seed}");
        return ExitCode::FAILURE;
    };
    let list = |places: &[usize]| places.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut command = format!("cargo run --release -p switchboard-sim -- show {seed} --log --plan");
    if let Some(bug) = bug {
        command += &format!(" --bug {bug:?}");
    }
    if !least.without_faults.is_empty() {
        command += &format!(" --without-faults {}", list(&least.without_faults));
    }
    if !least.without_clients.is_empty() {
        command += &format!(" --without-clients {}", list(&least.without_clients));
    }
    if let Some(most) = least.at_most {
        command += &format!(" --at-most {}", most.as_millis());
    }
    say(&world::run(&Plan::of(seed).reduced(&least), bug));
    println!("\n{command}");
    ExitCode::SUCCESS
}

fn bugs(seeds: u64) -> ExitCode {
    let mut missed = 0;
    for bug in Bug::ALL {
        let found = many::find(*bug, 1..seeds + 1);
        match found {
            Some((seed, rule)) => println!(
                "rule {:>2} in seed {seed:>3}  {bug:?}: {}",
                rule.number(),
                bug.text()
            ),
            None => {
                missed += 1;
                println!("not found             {bug:?}: {}", bug.text());
            }
        }
    }
    println!("{} of {} found", Bug::ALL.len() - missed, Bug::ALL.len());
    if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
