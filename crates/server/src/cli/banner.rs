//! What the server in development mode tells the person who started it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anstyle::{AnsiColor, Color, Style};

use super::terminal::{grouped, plural};
use crate::config::UNLIMITED;

/// What the banner says. All of it is known only once the server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The version of this program.
    pub version: &'static str,
    /// Where clients connect, with the port that was taken.
    pub public: SocketAddr,
    /// Where the backend connects, with the port that was taken.
    pub internal: SocketAddr,
    /// Whether sessions need no user.
    pub anonymous: bool,
    /// Whether there is a playground.
    pub playground: bool,
    /// Whether there is `/echo`.
    pub echo: bool,
    /// Files that this process may open; [`u64::MAX`] is no limit.
    pub open_files: u64,
    /// Most connections, or [`UNLIMITED`].
    pub connections_max: usize,
    /// Threads that own connections.
    pub shards: usize,
}

const NAME: Style = Style::new().bold();
const LOUD: Style = Style::new()
    .fg_color(Some(Color::Ansi(AnsiColor::Black)))
    .bg_color(Some(Color::Ansi(AnsiColor::Yellow)))
    .bold();
const LABEL: Style = Style::new().dimmed();
const ADDRESS: Style = AnsiColor::Cyan.on_default();

/// Columns of the labels on the left.
const LABEL_WIDTH: usize = 12;

/// The banner, with colours; whoever prints it strips them where they are not wanted.
pub fn banner(facts: &Facts) -> String {
    let Facts { public, internal, .. } = facts;
    let mut out = String::new();
    let who = if facts.anonymous {
        "anonymous, loopback only"
    } else {
        "loopback only"
    };
    let _ = writeln!(
        out,
        "\n  {NAME}Switchboard {}{NAME:#}   {LOUD} development mode: {who} {LOUD:#}\n",
        facts.version
    );
    if facts.playground {
        address(&mut out, "playground", &format!("http://{public}/"));
    }
    address(&mut out, "WebSocket", &format!("ws://{public}/ws"));
    address(&mut out, "SSE, polls", &format!("http://{public}/sse, /poll"));
    if facts.echo {
        address(&mut out, "echo", &format!("ws://{public}/echo"));
    }
    address(&mut out, "internal API", &format!("http://{internal}/api/v1/"));

    let _ = writeln!(
        out,
        "\n  {LABEL}join a room, and speak in it from another terminal{LABEL:#}"
    );
    let _ = writeln!(out, "  websocat 'ws://{public}/ws?channel=room:lobby'");
    let _ = writeln!(out, "  curl -N 'http://{public}/sse?channel=room:lobby'");
    let _ = writeln!(
        out,
        "  curl -d '{{\"text\":\"hello\"}}' 'http://{internal}/api/v1/publish?channel=room:lobby'"
    );

    let _ = writeln!(out);
    line(&mut out, "room for", &capacity(facts));
    line(&mut out, "runs on", &plural(facts.shards as u64, "shard"));
    line(&mut out, "stop with", "Ctrl-C");
    let _ = writeln!(out);
    out
}

fn capacity(facts: &Facts) -> String {
    let connections = match facts.connections_max {
        UNLIMITED => "any number of connections".to_owned(),
        connections => plural(connections as u64, "connection"),
    };
    match facts.open_files {
        u64::MAX => format!("{connections} (open files are not limited)"),
        files => format!("{connections} (open-file limit {})", grouped(files)),
    }
}

fn address(out: &mut String, label: &str, url: &str) {
    line(out, label, &format!("{ADDRESS}{url}{ADDRESS:#}"));
}

fn line(out: &mut String, label: &str, text: &str) {
    let _ = writeln!(out, "  {LABEL}{label:<LABEL_WIDTH$}{LABEL:#}   {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            version: "1.2.3",
            public: "127.0.0.1:8000".parse().unwrap(),
            internal: "127.0.0.1:8001".parse().unwrap(),
            anonymous: true,
            playground: true,
            echo: true,
            open_files: 20_000,
            connections_max: 18_000,
            shards: 2,
        }
    }

    fn plain(facts: &Facts) -> String {
        anstream::adapter::strip_str(&banner(facts)).to_string()
    }

    #[test]
    fn the_banner_says_what_to_do_next() {
        let expected = "
  Switchboard 1.2.3    development mode: anonymous, loopback only \n
  playground     http://127.0.0.1:8000/
  WebSocket      ws://127.0.0.1:8000/ws
  SSE, polls     http://127.0.0.1:8000/sse, /poll
  echo           ws://127.0.0.1:8000/echo
  internal API   http://127.0.0.1:8001/api/v1/

  join a room, and speak in it from another terminal
  websocat 'ws://127.0.0.1:8000/ws?channel=room:lobby'
  curl -N 'http://127.0.0.1:8000/sse?channel=room:lobby'
  curl -d '{\"text\":\"hello\"}' 'http://127.0.0.1:8001/api/v1/publish?channel=room:lobby'

  room for       18,000 connections (open-file limit 20,000)
  runs on        2 shards
  stop with      Ctrl-C

";
        assert_eq!(plain(&facts()), expected);
    }

    #[test]
    fn the_banner_names_only_what_exists() {
        let facts = Facts {
            public: "[::1]:4000".parse().unwrap(),
            anonymous: false,
            playground: false,
            echo: false,
            open_files: u64::MAX,
            connections_max: UNLIMITED,
            shards: 1,
            ..facts()
        };
        let banner = plain(&facts);
        assert!(
            !banner.contains("playground") && !banner.contains("echo"),
            "{banner}"
        );
        assert!(!banner.contains("anonymous"), "{banner}");
        assert!(banner.contains("ws://[::1]:4000/ws\n"), "{banner}");
        assert!(
            banner.contains("any number of connections (open files are not limited)"),
            "{banner}"
        );
        assert!(banner.contains("1 shard\n"), "{banner}");
    }
}
