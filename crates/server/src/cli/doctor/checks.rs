//! What is fine, what is not, why it matters and what to type. Pure: facts in, findings out.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::facts::{DataDirectory, Facts, Holder, Listener, Outcome, Ports, Usable};
use crate::cli::terminal::{grouped, plural};
use crate::config::{Auto, Config, Fsync, UNLIMITED};

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to do.
    Ok,
    /// The server works, but not as well as it could.
    Warn,
    /// The server will not start, or break its promises.
    Bad,
    /// The system does not say.
    Unknown,
}

impl Status {
    /// Whether something should be changed.
    pub fn is_a_finding(self) -> bool {
        matches!(self, Status::Warn | Status::Bad)
    }
}

/// What one check found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Which check, the same in every run.
    pub check: &'static str,
    /// How it came out.
    pub status: Status,
    /// What is the case.
    pub found: String,
    /// Why that matters.
    pub why: &'static str,
    /// What to type or write, each with what it is for where there are several ways.
    pub change: Vec<String>,
}

/// Connections that the listening queue should hold: a restart makes every client come back within seconds, and a shard
/// that is busy for half a second must not lose those who knock meanwhile (2,000 a second).
pub const BACKLOG_MIN: u64 = 1_024;

/// Bytes that an idle connection takes: 1.5 KiB in the server, 3 KiB in the kernel (measured with 1,020,000 connections
/// in 6.1 GB for both of their ends).
pub const CONNECTION_BYTES_IDLE: u64 = 4_608;

/// Bytes that a connection in use takes: an idle one, and frames on their way in socket buffers and outbox.
pub const CONNECTION_BYTES_BUSY: u64 = 16 * 1024;

/// Ports that outgoing connections should have to choose from.
pub const LOCAL_PORTS_MIN: u64 = 20_000;

/// Open files below which a warning is due: the usual limit of an interactive shell.
pub const OPEN_FILES_MIN: u64 = 4_096;

/// Free bytes of a disk below which it will soon be full, and below which it is: a segment, and what waits to be written.
pub const DISK_FREE_MIN: (u64, u64) = (1 << 30, 64 << 20);

/// A disk that takes longer makes every publisher wait for it, where each message is synced.
pub const SYNC_MAX: Duration = Duration::from_millis(20);

/// The years 2025 to 2099: a clock outside of them was never set.
const SANE_SECONDS: std::ops::Range<u64> = 1_735_689_600..4_102_444_800;

/// Makes every check, in the order in which they are read.
pub fn check(facts: &Facts, config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts.listeners.iter().map(check_listener).collect();
    findings.push(check_open_files(facts, config));
    findings.push(check_memory(facts, config));
    findings.push(check_shards(facts, config));
    findings.push(check_backlog(
        "somaxconn",
        "net.core.somaxconn",
        facts.somaxconn,
        "It bounds how many new connections wait to be accepted; beyond, clients that come back after a restart are \
         dropped and try again seconds later.",
    ));
    findings.push(check_backlog(
        "syn_backlog",
        "net.ipv4.tcp_max_syn_backlog",
        facts.tcp_max_syn_backlog,
        "It bounds how many connections may be half open; beyond, clients that come back after a restart are dropped \
         and try again seconds later.",
    ));
    findings.push(check_local_ports(facts, config));
    findings.push(check_clock(facts));
    if let Some(data) = &facts.data {
        findings.push(check_data(data));
        findings.extend(
            data.outcome
                .as_ref()
                .ok()
                .map(|usable| check_disk(usable, config)),
        );
    }
    findings
}

fn unknown(check: &'static str, why: &'static str, look: &str) -> Finding {
    Finding {
        check,
        status: Status::Unknown,
        found: "this system does not say".to_owned(),
        why,
        change: vec![look.to_owned()],
    }
}

fn check_listener(listener: &Listener) -> Finding {
    let Listener {
        setting,
        flag,
        address,
        outcome,
    } = listener;
    let port = address.port();
    let another = format!("{flag} {}", SocketAddr::new(address.ip(), another_port(port)));
    let (status, found, change) = match outcome {
        Outcome::Free => (Status::Ok, format!("{address} is free"), Vec::new()),
        Outcome::Held(Some(Holder { pid, name })) => (
            if name == "switchboard" {
                Status::Warn
            } else {
                Status::Bad
            },
            format!("{address} is held by {name} (process {pid})"),
            vec![another, format!("kill -TERM {pid}")],
        ),
        Outcome::Held(None) => (
            Status::Bad,
            format!("{address} is held by a process of somebody else"),
            vec![another, format!("sudo ss -ltnp 'sport = :{port}'")],
        ),
        Outcome::NoSuchAddress => (
            Status::Bad,
            format!("this machine has no address {}", address.ip()),
            vec!["ip -brief address".to_owned(), format!("{flag} 127.0.0.1:{port}")],
        ),
        Outcome::NotPermitted => (
            Status::Bad,
            format!("{address} is for privileged processes"),
            vec![
                another,
                format!("sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}"),
            ],
        ),
        Outcome::Failed(reason) => (Status::Bad, format!("{address}: {reason}"), vec![another]),
    };
    Finding {
        check: setting,
        status,
        found,
        why: "Where the server is to listen nobody else may.",
        change,
    }
}

/// A port to propose in place of one that is taken; different for different ones.
fn another_port(port: u16) -> u16 {
    match port {
        0..1_024 => port + 8_000,
        1_024..=65_000 => port + 100,
        _ => port - 1_000,
    }
}

fn check_open_files(facts: &Facts, config: &Config) -> Finding {
    let why = "Each connection is an open file. The server raises the soft limit to the hard one by itself.";
    let check = "open_files";
    let Some(files) = facts.open_files else {
        return unknown(check, why, "ulimit -Hn");
    };
    let connections = config.connections_max(files.hard);
    let fixed = matches!(config.limits.connections_max, Auto::Fixed(_));
    let count = match connections {
        UNLIMITED => u64::MAX,
        connections => connections as u64,
    };
    // The tenth that "auto" leaves.
    let wanted = match connections {
        UNLIMITED => OPEN_FILES_MIN,
        _ if fixed => count.saturating_add(count / 9 + 1),
        _ => OPEN_FILES_MIN,
    };
    let limits = match (files.soft, files.hard) {
        (_, u64::MAX) => "no hard limit".to_owned(),
        (soft, hard) if soft == hard => format!("limit {}", grouped(hard)),
        (soft, hard) => format!("soft limit {}, hard limit {}", grouped(soft), grouped(hard)),
    };
    let status = match files.hard >= wanted {
        true => Status::Ok,
        false if fixed => Status::Bad,
        false => Status::Warn,
    };
    let room = match connections {
        UNLIMITED => "limits.connections_max is unlimited".to_owned(),
        _ if fixed => format!("limits.connections_max is {}", grouped(count)),
        _ => format!("room for {}", plural(count, "connection")),
    };
    let target = wanted.max(65_536).next_power_of_two();
    Finding {
        check,
        status,
        found: format!("{limits}: {room}"),
        why,
        change: match status {
            Status::Ok => Vec::new(),
            _ => vec![
                format!("LimitNOFILE={target}   # in [Service] of a systemd unit"),
                format!("docker run --ulimit nofile={target} …"),
                format!("sudo prlimit --pid $$ --nofile={target}   # for this shell"),
            ],
        },
    }
}

fn check_memory(facts: &Facts, config: &Config) -> Finding {
    let why = "A connection takes about 4.5 KiB when idle (server and kernel together) and 16 KiB in use. A machine \
               without memory ends processes.";
    let check = "memory";
    let (Some(available), Some(files)) = (facts.memory_available, facts.open_files) else {
        return unknown(check, why, "free -m");
    };
    let mebibytes = |bytes: u64| format!("{} MiB", grouped(bytes >> 20));
    let connections = match config.connections_max(files.hard) {
        UNLIMITED => files.hard,
        connections => connections as u64,
    };
    let idle = connections.saturating_mul(CONNECTION_BYTES_IDLE);
    let busy = connections.saturating_mul(CONNECTION_BYTES_BUSY);
    let status = match available {
        available if available < idle => Status::Bad,
        available if available < busy => Status::Warn,
        _ => Status::Ok,
    };
    let most = (available / CONNECTION_BYTES_BUSY).max(1);
    Finding {
        check,
        status,
        found: match connections {
            u64::MAX => format!("{} available, connections are unlimited", mebibytes(available)),
            _ => format!(
                "{} available; {} take {} idle, {} in use",
                mebibytes(available),
                plural(connections, "connection"),
                mebibytes(idle),
                mebibytes(busy)
            ),
        },
        why,
        change: match status {
            Status::Ok => Vec::new(),
            _ => vec![format!("SWITCHBOARD_LIMITS__CONNECTIONS_MAX={most}")],
        },
    }
}

fn check_shards(facts: &Facts, config: &Config) -> Finding {
    let why =
        "A shard is a thread that is busy by itself: more of them than cores take turns, and messages wait.";
    let check = "shards";
    let Some(cores) = facts.cores else {
        return unknown(check, why, "nproc");
    };
    let shards = config.shards(cores);
    let status = if shards > cores { Status::Warn } else { Status::Ok };
    let (shards, cores_text) = (plural(shards as u64, "shard"), plural(cores as u64, "core"));
    Finding {
        check,
        status,
        found: format!("{shards} on {cores_text}"),
        why,
        change: match status {
            Status::Ok => Vec::new(),
            _ => vec!["--shards auto".to_owned()],
        },
    }
}

fn check_backlog(check: &'static str, sysctl: &str, value: Option<u64>, why: &'static str) -> Finding {
    let Some(value) = value else {
        return unknown(check, why, &format!("sysctl {sysctl}"));
    };
    let status = if value < BACKLOG_MIN {
        Status::Warn
    } else {
        Status::Ok
    };
    Finding {
        check,
        status,
        found: format!("{sysctl} is {}", grouped(value)),
        why,
        change: match status {
            Status::Ok => Vec::new(),
            _ => set_sysctl(sysctl, "4096"),
        },
    }
}

/// For now, and for after the next start of the machine.
fn set_sysctl(name: &str, value: &str) -> Vec<String> {
    let quote = if value.contains(' ') { "'" } else { "" };
    vec![
        format!("sudo sysctl -w {quote}{name}={value}{quote}"),
        format!("echo '{name} = {value}' | sudo tee -a /etc/sysctl.d/60-switchboard.conf"),
    ]
}

fn check_local_ports(facts: &Facts, config: &Config) -> Finding {
    let why = "Outgoing connections take their ports from this range: those of a proxy in front of the server, of a \
               load generator, of brokers. A listening port inside of it may be taken when the server comes back.";
    let (check, sysctl) = ("port_range", "net.ipv4.ip_local_port_range");
    let Some(range) = facts.local_ports else {
        return unknown(check, why, &format!("sysctl {sysctl}"));
    };
    let count = u64::from(range.last.saturating_sub(range.first)) + 1;
    let inside = |range: &Ports, port: u16| (range.first..=range.last).contains(&port);
    let exposed: Vec<String> = [config.listen.public, config.listen.internal]
        .iter()
        .map(SocketAddr::port)
        .filter(|port| *port != 0 && inside(&range, *port))
        .filter(|port| {
            !facts
                .reserved_ports
                .iter()
                .any(|reserved| inside(reserved, *port))
        })
        .map(|port| port.to_string())
        .collect();
    let mut found = format!("{} to {}, {}", range.first, range.last, plural(count, "port"));
    let mut change = Vec::new();
    if count < LOCAL_PORTS_MIN {
        change.extend(set_sysctl(sysctl, "16384 65535"));
    }
    if !exposed.is_empty() {
        found.push_str(&format!("; {} inside", exposed.join(" and ")));
        let reserved: Vec<String> = facts
            .reserved_ports
            .iter()
            .map(|ports| format!("{}-{}", ports.first, ports.last))
            .chain(exposed)
            .collect();
        change.extend(set_sysctl(
            "net.ipv4.ip_local_reserved_ports",
            &reserved.join(","),
        ));
    }
    Finding {
        check,
        status: if change.is_empty() {
            Status::Ok
        } else {
            Status::Warn
        },
        found,
        why,
        change,
    }
}

fn check_clock(facts: &Facts) -> Finding {
    let why = "Messages carry the time of this clock, and the ages of tokens are judged by it.";
    let check = "clock";
    let Some(seconds) = facts.unix_seconds else {
        return Finding {
            check,
            status: Status::Bad,
            found: "the clock is before 1970".to_owned(),
            why,
            change: vec!["sudo timedatectl set-ntp true".to_owned()],
        };
    };
    // Near enough for a person: years of 365.2425 days.
    let year = 1970 + seconds / 31_556_952;
    let (status, found, change) = match (SANE_SECONDS.contains(&seconds), facts.clock_synchronised) {
        (false, _) => (
            Status::Bad,
            format!("the clock says that the year is {year}"),
            "sudo timedatectl set-ntp true",
        ),
        (true, Some(false)) => (
            Status::Warn,
            format!("the year is {year}; no time service has set the clock yet"),
            "sudo timedatectl set-ntp true",
        ),
        (true, Some(true)) => (
            Status::Ok,
            format!("the year is {year}; a time service keeps the clock"),
            "",
        ),
        (true, None) => (
            Status::Unknown,
            format!("the year is {year}; whether a time service keeps the clock is not known"),
            "timedatectl show --property NTPSynchronized   # or: chronyc tracking",
        ),
    };
    Finding {
        check,
        status,
        found,
        why,
        change: (!change.is_empty())
            .then(|| change.to_owned())
            .into_iter()
            .collect(),
    }
}

fn check_data(data: &DataDirectory) -> Finding {
    let path = data.path.display();
    let another = "--data-dir DIR   # another one";
    let (status, found, change) = match &data.outcome {
        Err(reason) => {
            let mut change = vec![another.to_owned()];
            if !data.is_file {
                let own = format!("sudo install -d -o \"$USER\" {path} && sudo chown -R \"$USER\" {path}");
                change.insert(0, own);
            }
            (Status::Bad, reason.clone(), change)
        }
        Ok(usable) if usable.inside.is_used => (
            Status::Warn,
            format!("{path} is used by a process that runs"),
            vec![another.to_owned()],
        ),
        Ok(usable) if usable.inside.damaged > 0 => (
            Status::Warn,
            format!(
                "{path}: {} put aside, because something in it was damaged",
                plural(usable.inside.damaged as u64, "file")
            ),
            vec![format!(
                "rm -r {path}/damaged   # when nobody wants to look at it"
            )],
        ),
        Ok(usable) if usable.is_new => (Status::Ok, format!("{path} can be made"), Vec::new()),
        Ok(usable) => {
            let mebibytes = usable.inside.bytes.div_ceil(1 << 20);
            let found = format!("{path} has {} MiB of logs", grouped(mebibytes));
            (Status::Ok, found, Vec::new())
        }
    };
    Finding {
        check: "data.dir",
        status,
        found,
        why: "Logs, positions and idempotency keys are kept there, by one process at a time.",
        change,
    }
}

fn check_disk(usable: &Usable, config: &Config) -> Finding {
    let mut found = Vec::new();
    let mut change = Vec::new();
    let mut status = Status::Ok;
    let mut worst = |other: Status| {
        if status != Status::Bad {
            status = other;
        }
    };
    match usable.free {
        Some(free) => {
            found.push(format!("{} MiB free", grouped(free >> 20)));
            let (few, none) = DISK_FREE_MIN;
            if free < few {
                worst(if free < none { Status::Bad } else { Status::Warn });
                change.push("df -h   # and make room".to_owned());
            }
        }
        None => found.push("how much is free is not known".to_owned()),
    }
    if usable.is_in_memory {
        found.push("in memory, which a restart of the machine empties".to_owned());
        worst(Status::Warn);
        change.push("--data-dir DIR   # on a disk".to_owned());
    }
    if let Some(sync) = usable.sync {
        found.push(format!("a sync takes {:.1} ms", sync.as_secs_f64() * 1_000.0));
        if sync > SYNC_MAX && config.data.fsync == Fsync::Always {
            worst(Status::Warn);
            change.push("SWITCHBOARD_DATA__FSYNC=interval".to_owned());
        }
    }
    Finding {
        check: "data.disk",
        status,
        found: found.join(", "),
        why: "On a full disk publications are refused. With data.fsync = \"always\" each waits for a sync.",
        change,
    }
}

#[cfg(test)]
mod tests;
