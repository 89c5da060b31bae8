//! Origins of web pages ([RFC 6454](https://www.rfc-editor.org/rfc/rfc6454)).

use std::fmt;
use std::net::IpAddr;

/// A scheme, a host and a port, in the one spelling in which two equal origins are equal.
///
/// An international domain is written as browsers send it, in its ASCII form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Lower case.
    scheme: String,
    /// Lower case; an IPv6 address in brackets.
    host: String,
    /// `None` where it is the scheme's own.
    port: Option<u16>,
}

impl Origin {
    /// Reads `scheme://host[:port]`, with nothing behind it.
    pub fn parse(text: &str) -> Result<Origin, BadOrigin> {
        let (scheme, authority) = text.split_once("://").ok_or(BadOrigin::NoScheme)?;
        let is_scheme_character = |c: u8| c.is_ascii_alphanumeric() || b"+-.".contains(&c);
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(is_scheme_character)
        {
            return Err(BadOrigin::NoScheme);
        }
        if authority.contains(['/', '?', '#', '@']) {
            return Err(BadOrigin::MoreThanAnOrigin);
        }
        if authority.contains('*') {
            return Err(BadOrigin::Pattern);
        }
        let (host, port) = split_port(authority)?;
        let is_host_character = |c: u8| c.is_ascii_alphanumeric() || b"-._[]:".contains(&c);
        if host.is_empty() || !host.bytes().all(is_host_character) {
            return Err(BadOrigin::Host);
        }
        let scheme = scheme.to_ascii_lowercase();
        Ok(Origin {
            host: host.to_ascii_lowercase(),
            port: port.filter(|port| default_port(&scheme) != Some(*port)),
            scheme,
        })
    }

    /// Whether the host is an address, so that no name leads there.
    pub fn is_address(&self) -> bool {
        self.address().is_some()
    }

    fn address(&self) -> Option<IpAddr> {
        let address = self.host.trim_start_matches('[').trim_end_matches(']');
        address.parse().ok()
    }

    /// Whether the page came from this machine. `localhost` and its subdomains never leave it
    /// ([RFC 6761 section 6.3](https://www.rfc-editor.org/rfc/rfc6761#section-6.3)).
    pub fn is_loopback(&self) -> bool {
        match self.address() {
            Some(address) => address.is_loopback(),
            None => self.host == "localhost" || self.host.ends_with(".localhost"),
        }
    }
}

/// Splits the port off, if there is one.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), BadOrigin> {
    let after_host = match authority.rfind(']') {
        Some(end) => end + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(after_host);
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, None)),
        None => Err(BadOrigin::Host),
        Some(digits) if digits.starts_with('+') => Err(BadOrigin::Port),
        Some(digits) => Ok((host, Some(digits.parse().map_err(|_| BadOrigin::Port)?))),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Why a text is not an origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadOrigin {
    /// It does not begin with `scheme://`.
    #[error("begins with no scheme such as https://")]
    NoScheme,
    /// A path, a query, a fragment or a user.
    #[error("is more than scheme://host:port")]
    MoreThanAnOrigin,
    /// It has a `*`.
    #[error("is a pattern; each origin is written out")]
    Pattern,
    /// The host is missing or has characters that no host has.
    #[error("has no valid host (an international name is written in its ASCII form, xn--…)")]
    Host,
    /// The port is no number from 0 to 65535.
    #[error("has no valid port")]
    Port,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, BadOrigin>) {
        let result = Origin::parse(text).map(|origin| origin.to_string());
        assert_eq!(result, expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn equal_origins_have_one_spelling() {
        check("https://chat.example", Ok("https://chat.example"));
        check("HTTPS://Chat.Example:443", Ok("https://chat.example"));
        check("http://localhost:3000", Ok("http://localhost:3000"));
        check("http://[::1]:80", Ok("http://[::1]"));
        check("chrome-extension://abcdef", Ok("chrome-extension://abcdef"));
    }

    #[test]
    fn what_is_not_an_origin() {
        check("chat.example", Err(BadOrigin::NoScheme));
        check("null", Err(BadOrigin::NoScheme));
        check("://chat.example", Err(BadOrigin::NoScheme));
        check("https://chat.example/", Err(BadOrigin::MoreThanAnOrigin));
        check("https://ana@chat.example", Err(BadOrigin::MoreThanAnOrigin));
        check("https://*.example", Err(BadOrigin::Pattern));
        check("https://", Err(BadOrigin::Host));
        check("https://a b", Err(BadOrigin::Host));
        check("https://küche.example", Err(BadOrigin::Host));
        check("https://[::1]x", Err(BadOrigin::Host));
        check("https://chat.example:", Err(BadOrigin::Port));
        check("https://chat.example:65536", Err(BadOrigin::Port));
        check("https://chat.example:+80", Err(BadOrigin::Port));
    }
}
