//! Ports for servers that are started here.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

/// Ports from which the system gives none to whoever connects, where it does not say otherwise.
const QUIET: RangeInclusive<u16> = 10_000..=32_767;
/// Fewer are none to choose from.
const QUIET_MIN: u16 = 1_000;
/// Before it is given up.
const TRIES: usize = 1_000;

/// Ports that nobody listens on, each another one, and that no connection may get for its own end: a server could not come back to
/// one of those, and whoever knocks there meanwhile may be connected with itself.
pub fn free<const N: usize>() -> io::Result<[u16; N]> {
    let system = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let quiet = quiet(&system.unwrap_or_default());
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        // Held until all are found.
        let listener = listen(&quiet)?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

fn listen(quiet: &RangeInclusive<u16>) -> io::Result<TcpListener> {
    for _ in 0..TRIES {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let count = u32::from(quiet.end() - quiet.start()) + 1;
        let port = u32::from(*quiet.start()) + u32::from(u16::from_ne_bytes(random)) % count;
        let port = u16::try_from(port).unwrap_or(*quiet.end());
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    Err(io::Error::other(format!(
        "no port from {} to {} is free",
        quiet.start(),
        quiet.end()
    )))
}

/// Outside of the two numbers that the system says; all there are where these leave none.
fn quiet(system: &str) -> RangeInclusive<u16> {
    let mut numbers = system.split_whitespace().map_while(|number| number.parse().ok());
    let (Some::<u16>(first), Some::<u16>(last)) = (numbers.next(), numbers.next()) else {
        return QUIET;
    };
    let below = *QUIET.start()..=first.saturating_sub(1);
    let above = last.saturating_add(1)..=u16::MAX;
    let is_enough = |range: &RangeInclusive<u16>| range.end().saturating_sub(*range.start()) >= QUIET_MIN;
    [below, above]
        .into_iter()
        .find(is_enough)
        .unwrap_or(*QUIET.start()..=u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_that_no_connection_gets() {
        assert_eq!(quiet("32768\t60999\n"), 10_000..=32_767);
        assert_eq!(quiet("1024 40000"), 40_001..=65_535);
        assert_eq!(quiet("1024\t65535\n"), 10_000..=65_535);
        assert_eq!(quiet(""), QUIET);
        let [one, other] = free().unwrap();
        assert_ne!(one, other);
    }
}
