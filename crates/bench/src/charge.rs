//! What a server has cost: CPU time and resident memory, as the kernel counts them.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// A server's processes: one, with its children.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    pid: u32,
}

impl Meter {
    /// For a process of this machine, if it exists and may be looked at.
    pub fn of(pid: u32) -> io::Result<Meter> {
        let meter = Meter { pid };
        meter.cpu_ns()?;
        Ok(meter)
    }

    /// The processes that listen on the port of `address`, if it is on this machine and they may be looked at. Those that
    /// descend from another one of them are counted with it.
    pub fn listening(address: SocketAddr) -> Vec<Meter> {
        // Another machine's port is not ours of the same number.
        if TcpListener::bind((address.ip(), 0)).is_err() {
            return Vec::new();
        }
        let mut found: Vec<Meter> = Vec::new();
        for pid in crate::listener::listeners(address.port()) {
            if let Ok(meter) = Meter::of(pid)
                && !found.iter().any(|known| known.includes(pid))
            {
                found.push(meter);
            }
        }
        found
    }

    /// The process in words: its number, its name, the cores it may use.
    pub fn described(self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let field = |name: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
        };
        format!(
            "process {} ({}, threads: {}, cores: {})",
            self.pid,
            field("Name").unwrap_or("?"),
            field("Threads").unwrap_or("?"),
            field("Cpus_allowed_list").unwrap_or("?")
        )
    }

    /// Whether another process is this one or descends from it.
    pub fn includes(self, pid: u32) -> bool {
        self.family().contains(&pid)
    }

    /// The process.
    pub fn pid(self) -> u32 {
        self.pid
    }

    /// Nanoseconds on a CPU so far: the first number of `/proc/PID/task/*/schedstat`, all threads and child processes
    /// together. What a thread that has ended took is no longer in it.
    pub fn cpu_ns(self) -> io::Result<u64> {
        let mut total = 0;
        for pid in self.family() {
            let tasks = match fs::read_dir(format!("/proc/{pid}/task")) {
                Ok(tasks) => tasks,
                // A child may end between the look and the reading, too.
                Err(_) if pid != self.pid => continue,
                Err(error) => return Err(error),
            };
            for task in tasks.flatten() {
                // A thread may end between the look and the reading.
                let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
                    continue;
                };
                let first = text.split_ascii_whitespace().next();
                total += first.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        Ok(total)
    }

    /// Resident bytes: `Rss` of `/proc/PID/smaps_rollup`, child processes included.
    pub fn resident_bytes(self) -> io::Result<u64> {
        let mut total = 0;
        for pid in self.family() {
            let text = match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
                Ok(text) => text,
                Err(_) if pid != self.pid => continue,
                Err(error) => return Err(error),
            };
            let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
            let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            total += kibibytes.unwrap_or(0) * 1_024;
        }
        Ok(total)
    }

    /// The most that was resident so far: `VmHWM` of `/proc/PID/status`, of the process alone.
    pub fn resident_bytes_max(self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        Ok(kibibytes.unwrap_or(0) * 1_024)
    }

    /// Files that the process has open, and how many it may have.
    pub fn files(self) -> io::Result<(u64, u64)> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid))?.count() as u64;
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.pid))?;
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let soft = line.and_then(|line| line.split_ascii_whitespace().next());
        Ok((
            open,
            soft.and_then(|number| number.parse().ok()).unwrap_or(u64::MAX),
        ))
    }

    /// The process and its descendants.
    fn family(self) -> Vec<u32> {
        let mut family = vec![self.pid];
        let mut next = 0;
        while let Some(pid) = family.get(next) {
            let tasks = fs::read_dir(format!("/proc/{pid}/task"));
            for task in tasks.into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                family.extend(
                    children
                        .split_ascii_whitespace()
                        .filter_map(|pid| pid.parse::<u32>().ok()),
                );
            }
            next += 1;
        }
        family
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_by_its_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let [meter] = Meter::listening(listener.local_addr().unwrap())[..] else {
            panic!("one process");
        };
        assert_eq!(meter.pid(), std::process::id());
        assert!(
            meter
                .described()
                .starts_with(&format!("process {} (", meter.pid()))
        );
        assert!(meter.resident_bytes().unwrap() > 0);
        let elsewhere = std::net::SocketAddr::from(([192, 0, 2, 1], listener.local_addr().unwrap().port()));
        assert!(Meter::listening(elsewhere).is_empty());
    }
}
