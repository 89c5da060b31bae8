//! Where connections come from: loopback addresses, and how many a process can hold.
//!
//! Past half of the ephemeral port range every `connect` scans thousands of ports for a free one, so a source address is
//! used for 10,000 connections to one server port at most.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections from one source address to one server port.
pub const PER_ADDRESS: u32 = 10_000;
/// Files that a process needs for itself.
pub const FILES_KEPT: u64 = 64;

/// Source addresses for `count` connections to `target`, the `skip` before having been given away: 127.0.1.1 and on for a
/// loopback target, none (the system chooses) for any other.
pub fn sources(target: SocketAddr, skip: u32, count: u32) -> Vec<Ipv4Addr> {
    match target.ip() {
        IpAddr::V4(address) if address.is_loopback() => {
            let addresses = count.div_ceil(PER_ADDRESS).max(1);
            (skip..skip + addresses)
                .map(|index| Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 1).to_bits() + index))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Raises the open-file limit of this process as far as it goes, and says what it is then.
pub fn raise_files_max() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Where the system refuses, what holds is read below.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        );
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
