//! Processes as the kernel shows them.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::process::{Pid, Signal, kill_process};

/// A process, which another one with the same number is not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    pub pid: u32,
    /// In clock ticks since the machine started.
    began: u64,
    pub command: String,
}

impl Process {
    pub fn of(pid: u32) -> Option<Process> {
        let stat = stat(pid)?;
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        Some(Process {
            pid,
            began: stat.get(22 - 3)?.parse().ok()?,
            command: command.replace('\0', " "),
        })
    }

    /// Whether it still runs: neither gone nor waiting for somebody to ask how it ended.
    pub fn runs(&self) -> bool {
        let state = stat(self.pid).map(|stat| stat[0].clone());
        !matches!(state.as_deref(), None | Some("Z" | "X"))
            && Process::of(self.pid).is_some_and(|now| now.began == self.began)
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The cores that it may use, as `0-3`.
    pub fn cores(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_owned()
    }

    /// Those that it has started, and theirs.
    pub fn descendants(&self) -> Vec<Process> {
        let mut found = Vec::new();
        let mut next = vec![self.pid];
        while let Some(pid) = next.pop() {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                next.push(child);
                found.extend(Process::of(child));
            }
        }
        found
    }

    /// Where it listens.
    pub fn listens(&self) -> Vec<SocketAddr> {
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid))
            .into_iter()
            .flatten()
            .flatten();
        let links: Vec<_> = files
            .filter_map(|file| {
                fs::read_link(file.path())
                    .ok()?
                    .into_os_string()
                    .into_string()
                    .ok()
            })
            .collect();
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let listening = |line: &str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            let port = u16::from_str_radix(address.split_once(':')?.1, 16).ok()?;
            let is_its = *state == "0A" && links.contains(&format!("socket:[{inode}]"));
            is_its.then_some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        };
        sockets.lines().skip(1).filter_map(listening).collect()
    }
}

/// From which addresses connections to `server` come.
pub fn clients(server: SocketAddr) -> BTreeSet<Ipv4Addr> {
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", server.port());
    let client = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let ours = fields.get(2)?.ends_with(&port) && *fields.get(3)? == "01";
        let address = u32::from_str_radix(fields.get(1)?.split_once(':')?.0, 16).ok()?;
        // The bytes are written as the machine keeps them.
        ours.then_some(Ipv4Addr::from(address.to_ne_bytes()))
    };
    sockets.lines().skip(1).filter_map(client).collect()
}

/// What follows the name in `/proc/PID/stat`: the first is field 3.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets, and may hold blanks and brackets itself.
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// User and system time of a process with all its threads, those that have ended included, as `getrusage` gives it; in
/// steps of 10 ms.
pub fn user_and_system_ns(pid: u32) -> u64 {
    const TICK_NS: u64 = 10_000_000;
    let stat = stat(pid).unwrap();
    let ticks = [14, 15].map(|field| stat[field - 3].parse::<u64>().unwrap());
    ticks.iter().sum::<u64>() * TICK_NS
}
