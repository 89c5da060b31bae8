//! The scenarios, and the way all of them go: every server beside the reference, in turns.
//!
//! ```text
//!   for each set-up, for each contestant:   start ─► open ─► warm up ─► (measure it, measure the reference) × rounds ─► close
//! ```

pub mod accept;
pub mod churn;
pub mod echo;
pub mod fanout;
pub mod idle;
pub mod latency;
pub mod mesh;
pub mod polling_storm;
pub mod presence;
pub mod publish;
pub mod restart_storm;
pub mod slow_reader;

use std::time::Duration;

use crate::contestant::{Contestant, Data, Place, Side};
use crate::control::{Driven, Publish};
use crate::coordinator::{Coordinator, GroupId, Stopped, Wanted};
use crate::report::quantity::{counted, grouped, plural, were};
use crate::report::{Figure, Series, Unit};
use crate::stamp::STAMP_BYTES;

/// What one connection publishes in a second, where a server may limit it: half of what a Switchboard allows by default
/// (limits.commands_per_s).
pub const PUBLISHES_PER_S: u32 = 50;

/// What a round may be asked for: with the most subscribers and publishers, too, the sum of its deliveries is a number.
pub const MESSAGES_MAX: u64 = 1_000_000_000;

/// One way to do the work, where a call compares several.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What is special about it; empty where there is one only.
    pub variant: String,
    /// Threads of a spawned server.
    pub shards: u16,
    /// What of a spawned server outlives it.
    pub data: Data,
}

impl Setup {
    /// The only one.
    pub fn only() -> Setup {
        Setup {
            variant: String::new(),
            shards: 1,
            data: Data::None,
        }
    }
}

/// One measured value.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What.
    pub what: &'static str,
    /// In which unit.
    pub unit: Unit,
    /// How much.
    pub value: f64,
}

/// A sample of something.
pub fn sample(what: &'static str, unit: Unit, value: f64) -> Sample {
    Sample { what, unit, value }
}

/// One kind of work.
pub trait Scenario {
    /// Connections that stay open between rounds.
    type Open;

    /// Its name.
    fn name(&self) -> &'static str;
    /// What is done, in words.
    fn parameters(&self) -> String;
    /// Whether it can be done at all, whoever is measured.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
    /// An option whose value only a spawned server can heed.
    fn needs_spawn(&self) -> Option<&'static str> {
        None
    }
    /// What a reader has to know of the figures.
    fn notes(&self, _: &Place) -> Vec<String> {
        Vec::new()
    }
    /// What a reader has to know of what came out.
    fn judge(&self, _: &[Series]) -> Vec<String> {
        Vec::new()
    }
    /// Seconds that a round takes, where it takes them whoever is measured and they are many: then it is told how far a run is.
    fn round_seconds(&self, _warm_up: bool) -> Option<u64> {
        None
    }
    /// The reference does the same in every set-up, so that all of them are one.
    fn has_one_reference(&self) -> bool {
        false
    }
    /// Connections of one server at once.
    fn connections(&self, side: &Side, setup: usize) -> u64;
    /// The ways to do it.
    fn setups(&self) -> Vec<Setup>;
    /// Opens what the rounds need.
    fn open(&self, coordinator: &mut Coordinator, side: &Side, setup: usize) -> Result<Self::Open, Stopped>;
    /// Does the work of a round. A warm-up may do less, and what it measures is forgotten.
    fn measure(
        &self,
        coordinator: &mut Coordinator,
        side: &mut Side,
        setup: usize,
        open: &mut Self::Open,
        warm_up: bool,
    ) -> Result<Vec<Sample>, Stopped>;
    /// Closes what was opened.
    fn close(&self, coordinator: &mut Coordinator, open: Self::Open) -> Result<(), Stopped>;
}

/// What all scenarios need.
pub struct Field {
    /// The load.
    pub coordinator: Coordinator,
    /// Who is measured.
    pub contestants: Vec<Contestant>,
    /// Where servers run.
    pub place: Place,
    /// Rounds after the warm-up.
    pub rounds: u32,
}

/// What came of a scenario.
#[derive(Default)]
pub struct Found {
    /// Everyone who was measured, the references last.
    pub series: Vec<Series>,
    /// It was interrupted.
    pub interrupted: bool,
}

/// Reads the size of a message: it holds its stamp, and a worker takes it.
pub fn message_bytes(text: &str) -> Result<usize, String> {
    const MOST: usize = 4 << 20;
    match text.parse() {
        Ok(bytes) if (STAMP_BYTES..=MOST).contains(&bytes) => Ok(bytes),
        _ => Err(format!("a message has {STAMP_BYTES} to {MOST} bytes")),
    }
}

/// Refuses values that were given twice: they would be measured twice, under one name.
pub fn distinct<T: PartialEq + std::fmt::Display>(option: &str, values: &[T]) -> Result<(), String> {
    for (index, value) in values.iter().enumerate() {
        if values[..index].contains(value) {
            return Err(format!("{option}: {value} is there twice"));
        }
    }
    Ok(())
}

/// How many channels a connection has of those that were asked for: one, where its URL names the channel.
pub fn channels_each(side: &Side, asked: u32) -> u32 {
    match side.target.subscribe {
        Some(_) => asked,
        None => 1,
    }
}

/// Refuses what would be another number of channels than was asked for. Not of the reference: nobody asks what it holds.
pub fn check_channels(side: &Side, option: &str, asked: u32) -> Result<(), Stopped> {
    if side.is_reference || channels_each(side, asked) == asked {
        return Ok(());
    }
    Err(Stopped::Failed(format!(
        "{option} {asked}: here the URL names the channel, one of each connection; more need a text that subscribes (--subscribe, or \
         --dialect json)"
    )))
}

/// How subscribers of a set-up are served, where both ways are measured.
pub fn by_words(sse: bool) -> &'static str {
    match sse {
        true => "by SSE",
        false => "by WebSocket",
    }
}

/// Refuses event streams of a server that has none. Not of the reference, which goes on with its own.
pub fn check_stream(side: &Side, sse: bool) -> Result<(), Stopped> {
    if !sse || side.is_reference || side.target.is_switchboard {
        return Ok(());
    }
    let words = "--sse: only the event streams of a Switchboard are known here";
    Err(Stopped::Failed(words.to_owned()))
}

/// Who hears a message: the subscribers, and where nothing tells them apart the publishers.
pub fn hearers(side: &Side, subscribers: u32, publishers: u32) -> u32 {
    match side.target.publishers_hear() {
        true => subscribers + publishers,
        false => subscribers,
    }
}

/// Seconds of a day, the longest round.
pub const DAY: u32 = 86_400;

/// So many messages, echoes or handshakes make a round long enough.
pub const MANY: u64 = 2_000;
/// So many deliveries do, which are cheaper.
pub const MANY_DELIVERIES: u64 = 10_000;

/// A note, where a round has so little to do that its figures are chance: fewer than `enough`.
pub fn few(work: u64, enough: u64, what: &str) -> Option<String> {
    let words = format!(
        "The shortest round is the work of {}: with fewer than {} it takes so short a time that its figures are mostly chance.",
        counted(work, what),
        grouped(enough)
    );
    (work < enough).then_some(words)
}

/// A note for everyone who did not deliver as much as was asked for, which makes its latencies those of a queue that grows.
pub fn rate_notes(series: &[Series], asked: f64) -> Vec<String> {
    const HELD: f64 = 0.9;
    /// Of one core, by the server itself.
    const BUSY: f64 = 0.9;
    let short = series.iter().filter_map(|series| {
        let rate = series.figure("deliveries")?.median()?;
        let each_ns = series
            .figure("CPU per delivery")
            .and_then(|figure| figure.median());
        (rate < asked * HELD).then_some((&series.name, rate, each_ns))
    });
    short
        .map(|(name, rate, each_ns)| {
            let busy = each_ns.map(|each_ns| each_ns * rate / 1e9);
            let reason = match busy {
                Some(busy) if busy >= BUSY => "its core was busy".to_owned(),
                Some(busy) => format!(
                    "it took {:.0} % of a core, so that the load or the machine was the limit",
                    busy * 100.0
                ),
                None => "its CPU is not known".to_owned(),
            };
            format!(
                "{name} delivered {} of the {} a second that were asked for ({reason}): its latencies are those of a queue that grew.",
                grouped(rate as u64),
                grouped(asked as u64)
            )
        })
        .collect()
}

/// Runs a scenario with every contestant and set-up, each beside the reference.
pub fn run<S: Scenario>(field: &mut Field, scenario: &S) -> Found {
    let mut found = Found::default();
    let mut references: Vec<Series> = Vec::new();
    let setups = scenario.setups();
    announce(field, scenario, setups.len());
    'all: for (index, setup) in setups.iter().enumerate() {
        let mut reference = series(&Contestant::Reference, setup);
        for contestant in &field.contestants.clone() {
            let mut series = series(contestant, setup);
            let mut beside = self::series(&Contestant::Reference, setup);
            let ended = pair(
                field,
                scenario,
                contestant,
                index,
                setup,
                (&mut series, &mut beside),
            );
            match ended {
                Ok(()) => {}
                Err(Stopped::Interrupted) => {}
                // One of the two did not come to run.
                Err(stopped) if series.fault.is_none() && beside.fault.is_none() => {
                    series.fault = Some(stopped.to_string());
                }
                Err(_) => {}
            }
            // Also where something else had failed before.
            found.interrupted |= field.coordinator.is_interrupted();
            settle(&mut series, &beside);
            pool(&mut reference, beside);
            if scenario.round_seconds(false).is_some() && !found.interrupted {
                let ended = if series.fault.is_none() { "done" } else { "failed" };
                let words = format!("{}: {ended}", series.who());
                field.coordinator.progress().say(&words);
            }
            if !series.figures.is_empty() || series.fault.is_some() {
                found.series.push(series);
            }
            if found.interrupted {
                references.push(reference);
                break 'all;
            }
        }
        references.push(reference);
    }
    if scenario.has_one_reference() {
        let mut one = series(&Contestant::Reference, &Setup::only());
        references
            .into_iter()
            .for_each(|reference| pool(&mut one, reference));
        references = vec![one];
    }
    found.series.extend(
        references
            .into_iter()
            .filter(|series| !series.figures.is_empty() || series.fault.is_some()),
    );
    found
}

/// What is about to be done, and for how long, where that is known.
fn announce<S: Scenario>(field: &mut Field, scenario: &S, setups: usize) {
    let Some((warm_up, round)) = scenario.round_seconds(true).zip(scenario.round_seconds(false)) else {
        return;
    };
    let parts = (setups * field.contestants.len()) as u64;
    let seconds = 2 * parts * (warm_up + round * u64::from(field.rounds));
    let time = match seconds {
        0..120 => counted(seconds, "second"),
        _ => counted(seconds.div_ceil(60), "minute"),
    };
    let words = format!(
        "{}: {}. {} of {} after a warm-up, each beside the reference: about {time}.",
        scenario.name(),
        scenario.parameters(),
        counted(parts, "part"),
        counted(field.rounds, "round"),
    );
    field.coordinator.progress().say(&words);
}

fn series(contestant: &Contestant, setup: &Setup) -> Series {
    Series {
        name: contestant.name().to_owned(),
        version: None,
        variant: setup.variant.clone(),
        is_reference: matches!(contestant, Contestant::Reference),
        figures: Vec::new(),
        fault: None,
    }
}

/// Measures one contestant and the reference in turns.
fn pair<S: Scenario>(
    field: &mut Field,
    scenario: &S,
    contestant: &Contestant,
    index: usize,
    setup: &Setup,
    (series, reference): (&mut Series, &mut Series),
) -> Result<(), Stopped> {
    let side = contestant.start(&field.place, setup.shards, setup.data)?;
    let bare = Contestant::Reference.start(&field.place, 1, Data::None)?;
    series.version.clone_from(&side.version);
    let mut sides = [(side, series), (bare, reference)];
    for (side, series) in &mut sides {
        if let Err(stopped) = has_room(side, scenario.connections(side, index)) {
            return Err(blame(stopped, side, series));
        }
    }
    let coordinator = &mut field.coordinator;
    let mut opened = Vec::new();
    let mut ended = Ok(());
    for (side, series) in &mut sides {
        match scenario.open(coordinator, side, index) {
            Ok(open) => opened.push(open),
            Err(stopped) => ended = ended.and(Err(blame(stopped, side, series))),
        }
    }
    if ended.is_ok() {
        ended = rounds(
            coordinator,
            scenario,
            index,
            field.rounds,
            &mut sides,
            &mut opened,
        );
    }
    for ((side, series), open) in sides.iter_mut().zip(opened) {
        let closed = scenario.close(coordinator, open);
        ended = ended.and(closed.map_err(|stopped| blame(stopped, side, series)));
    }
    // What a failure has left open: the next contestant needs the room, and the quiet.
    ended.and(coordinator.close_all())
}

/// The warm-up and the rounds, the sides in turns.
fn rounds<S: Scenario>(
    coordinator: &mut Coordinator,
    scenario: &S,
    index: usize,
    rounds: u32,
    sides: &mut [(Side, &mut Series)],
    opened: &mut [S::Open],
) -> Result<(), Stopped> {
    for round in 0..=rounds {
        for ((side, series), open) in sides.iter_mut().zip(opened.iter_mut()) {
            let warm_up = round == 0;
            match scenario.measure(coordinator, side, index, open, warm_up) {
                Ok(samples) if !warm_up => samples.into_iter().for_each(|sample| add(series, sample)),
                Ok(_) => {}
                Err(stopped) => return Err(blame(stopped, side, series)),
            }
        }
    }
    Ok(())
}

/// Whether a server may open the files for so many connections. Only of one that was started here it is known that it is one
/// process.
fn has_room(side: &Side, connections: u64) -> Result<(), Stopped> {
    match side.files().filter(|_| side.is_started_here()) {
        Some((open, max)) if max.saturating_sub(open) < connections => Err(Stopped::Failed(format!(
            "{} are too many for the open-file limit of its process (ulimit -n), which is {} with {} open",
            counted(connections, "connection"),
            grouped(max),
            grouped(open)
        ))),
        _ => Ok(()),
    }
}

/// Writes a failure down with whom it happened to, and what can be seen of the reason.
fn blame(stopped: Stopped, side: &mut Side, series: &mut Series) -> Stopped {
    if !matches!(stopped, Stopped::Interrupted) && series.fault.is_none() {
        let mut words = stopped.to_string();
        if words.contains("rate_limited") && !side.is_started_here() {
            words.push_str("; a Switchboard that --spawn starts has no limit for one client");
        }
        if words.contains(r#""type":"gap""#) && side.target.is_switchboard {
            words.push_str(
                "; what was under way at once was more than a channel's log holds (channels.log_messages_max, log_bytes_max) for \
                 subscribers that read no faster",
            );
        }
        // A server that refuses for another reason has files enough.
        let files = side.files().filter(|_| !words.contains("answered 503"));
        series.fault = Some(match (side.ending(), files) {
            (Some(ending), _) => format!("{words}; the server has ended, {ending}"),
            (None, Some((open, max))) if open >= max / 4 * 3 => {
                format!(
                    "{words}; the server has opened {} of the {} files that its limit allows",
                    grouped(open),
                    grouped(max)
                )
            }
            _ => words,
        });
    }
    stopped
}

/// The ratio of a figure is the median of the ratios of its rounds, each to the round of the reference beside it: so a machine
/// that is slower for a minute is so for both. A last round that was interrupted before the reference had its turn is left out:
/// the ratio would not be that of the figures beside it.
fn settle(series: &mut Series, beside: &Series) {
    for figure in &mut series.figures {
        let Some(reference) = beside.figure(&figure.what) else {
            continue;
        };
        figure.samples.truncate(reference.samples.len());
        let rounds = figure.samples.iter().zip(&reference.samples);
        let mut ratios = Figure {
            samples: rounds.map(|(sample, reference)| sample / reference).collect(),
            ..figure.clone()
        };
        ratios.samples.retain(|ratio| ratio.is_finite());
        figure.ratio = ratios.median();
    }
}

/// Adds the rounds that the reference has run beside one contestant to those beside the others.
fn pool(reference: &mut Series, beside: Series) {
    reference.fault = reference.fault.take().or(beside.fault);
    for figure in beside.figures {
        match reference
            .figures
            .iter_mut()
            .find(|known| known.what == figure.what)
        {
            Some(known) => known.samples.extend(figure.samples),
            None => reference.figures.push(figure),
        }
    }
}

fn add(series: &mut Series, sample: Sample) {
    match series
        .figures
        .iter_mut()
        .find(|figure| figure.what == sample.what)
    {
        Some(figure) => figure.samples.push(sample.value),
        None => series.figures.push(Figure {
            what: sample.what.to_owned(),
            unit: sample.unit,
            samples: vec![sample.value],
            ratio: None,
        }),
    }
}

/// The CPU that `work` took of a server, in nanoseconds.
pub fn charged<T>(
    side: &Side,
    work: impl FnOnce() -> Result<T, Stopped>,
) -> Result<(T, Option<u64>), Stopped> {
    /// A server that has just sent its last message goes to sleep within this time, and only then is its account made up.
    const SETTLE: Duration = Duration::from_millis(5);
    let Some(meter) = side.meter else {
        return Ok((work()?, None));
    };
    let ended = |_| Stopped::Failed("the process of the server has ended".to_owned());
    let before = meter.cpu_ns().map_err(ended)?;
    let done = work()?;
    std::thread::sleep(SETTLE);
    let after = meter.cpu_ns().map_err(ended)?;
    Ok((done, Some(after.saturating_sub(before))))
}

/// The subscribers of something, and those who publish it.
pub struct Crowd {
    subscribers: GroupId,
    publishers: GroupId,
}

impl Crowd {
    /// Opens both.
    pub fn open(
        coordinator: &mut Coordinator,
        subscribers: &Wanted,
        publishers: &Wanted,
    ) -> Result<Crowd, Stopped> {
        Ok(Crowd {
            subscribers: coordinator.open(subscribers)?,
            publishers: coordinator.open(publishers)?,
        })
    }

    /// Closes both.
    pub fn close(self, coordinator: &mut Coordinator) -> Result<(), Stopped> {
        coordinator.close(self.publishers)?;
        coordinator.close(self.subscribers)
    }
}

/// Publishes, and says what came of it and what CPU it took of the server. Losses are a failure.
pub fn published(
    coordinator: &mut Coordinator,
    side: &Side,
    publishers: GroupId,
    publish: Publish,
    expected: u64,
) -> Result<(Driven, Option<u64>), Stopped> {
    charged(side, || {
        let driven = coordinator.publish(publishers, publish, expected)?;
        complete(driven, "delivery")
    })
}

/// Makes losses a failure. `what` is counted: a delivery, an echo.
pub fn complete(driven: Driven, what: &str) -> Result<Driven, Stopped> {
    let words = driven
        .words
        .as_deref()
        .map(|words| format!(" (the server said: {words})"));
    let mut words = words.unwrap_or_default();
    if let Some(publisher) = driven.stalled {
        words.push_str(&format!(
            "; the server read no more of what publisher {publisher} sent"
        ));
    }
    let Driven {
        expected,
        received,
        disordered,
        lost,
        ..
    } = driven;
    let fault = if received < expected {
        Some(format!(
            "{} of {} did not arrive",
            grouped(expected - received),
            counted(expected, what)
        ))
    } else if received > expected {
        Some(format!(
            "{} more than the {} expected arrived",
            counted(received - expected, what),
            grouped(expected)
        ))
    } else if driven.digest != driven.expected_digest {
        Some(format!("some {} came twice and others not at all", plural(what)))
    } else if disordered > 0 {
        Some(format!("{} arrived out of order", counted(disordered, what)))
    } else {
        None
    };
    match (fault, lost) {
        (None, 0) => Ok(driven),
        (None, lost) => Err(Stopped::Failed(format!(
            "{} lost{words}",
            were(lost, "connection")
        ))),
        (Some(fault), 0) => Err(Stopped::Failed(format!("{fault}{words}"))),
        (Some(fault), lost) => Err(Stopped::Failed(format!(
            "{fault}; {} lost{words}",
            were(lost, "connection")
        ))),
    }
}

/// The samples of deliveries: CPU for each, and how many in a second.
pub fn delivery_samples(driven: &Driven, cpu_ns: Option<u64>) -> Vec<Sample> {
    let received = driven.received.max(1) as f64;
    let mut samples = Vec::new();
    if let Some(cpu_ns) = cpu_ns {
        samples.push(sample(
            "CPU per delivery",
            Unit::Nanoseconds,
            cpu_ns as f64 / received,
        ));
    }
    let seconds = driven.elapsed_ns.max(1) as f64 / 1e9;
    samples.push(sample("deliveries", Unit::PerSecond, received / seconds));
    samples
}

/// The latency that a share of the deliveries does not exceed, in nanoseconds, of values and how often each occurred; `None`
/// without any.
pub fn percentile(latency: &[(u64, u64)], share: f64) -> Option<f64> {
    let mut values = latency.to_vec();
    values.sort_unstable();
    let total: u64 = values.iter().map(|(_, count)| count).sum();
    let rank = ((total as f64 * share).ceil() as u64).max(1);
    let mut seen = 0;
    let found = values.iter().find(|(_, count)| {
        seen += count;
        seen >= rank
    });
    found.map(|(value, _)| *value as f64)
}

/// The samples of latencies: each percentile only where at least one value is above it.
pub fn latency_samples(driven: &Driven) -> Vec<Sample> {
    let total: u64 = driven.latency.iter().map(|(_, count)| count).sum();
    [
        ("latency p50", 0.5),
        ("latency p99", 0.99),
        ("latency p99.9", 0.999),
        ("latency max", 1.0),
    ]
    .into_iter()
    .filter(|(_, share)| *share == 1.0 || total as f64 * (1.0 - share) >= 1.0)
    .filter_map(|(what, share)| {
        let value = percentile(&driven.latency, share)?;
        Some(sample(what, Unit::Nanoseconds, value))
    })
    .collect()
}
