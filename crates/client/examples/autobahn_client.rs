//! A client that echoes what it gets, on `switchboard_proto::ws` alone: for Autobahn's test suite in the mode `fuzzingserver`, and to
//! be read by who wants a WebSocket client without the rest.
//!
//! `autobahn_client ws://127.0.0.1:9001` asks how many cases there are, plays each, and has the report written.

use std::error::Error;

use http::Uri;
use switchboard_proto::ws::deflate::Contexts;
use switchboard_proto::ws::extension::DeflatePolicy;
use switchboard_proto::ws::handshake::{ClientHandshake, ClientOptions};
use switchboard_proto::ws::{Connection, Limits, MaskKeys, MessageKind, Received, State};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const AGENT: &str = "switchboard";
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let base = std::env::args().nth(1).ok_or("usage: autobahn_client URL")?;
    let base = base.trim_end_matches('/');
    let cases: u32 = case_count(&format!("{base}/getCaseCount")).await?;
    for case in 1..=cases {
        let url = format!("{base}/runCase?case={case}&agent={AGENT}");
        // How a case ends is the suite's to judge.
        if let Err(error) = converse(&url, |_| {}).await {
            eprintln!("case {case}: {error}");
        }
    }
    converse(&format!("{base}/updateReports?agent={AGENT}"), |_| {}).await?;
    println!("{cases} cases");
    Ok(())
}

async fn case_count(url: &str) -> Result<u32, Box<dyn Error>> {
    let mut count = None;
    converse(url, |text| count = text.parse().ok()).await?;
    count.ok_or_else(|| "the suite did not say how many cases there are".into())
}

/// Echoes until the server closes. Each text is shown to `listener` first.
async fn converse(url: &str, mut listener: impl FnMut(&str)) -> Result<(), Box<dyn Error>> {
    let (mut stream, mut connection, mut read) = open(url.parse()?).await?;
    let mut contexts = Contexts::new(6);
    let mut out = Vec::new();
    loop {
        let mut input = read.as_mut_slice();
        loop {
            let (kind, message) = match connection.receive(&mut input, &mut contexts) {
                Ok(None) => break,
                Ok(Some(Received::Text(text))) => {
                    listener(text.as_str());
                    (MessageKind::Text, text.as_bytes().to_vec())
                }
                Ok(Some(Received::Binary(bytes))) => (MessageKind::Binary, bytes.to_vec()),
                Ok(Some(Received::Ping(payload))) => {
                    let payload = payload.to_vec();
                    let _open = connection.pong(&payload, &mut out);
                    continue;
                }
                Ok(Some(Received::Pong(_))) => continue,
                Ok(Some(Received::Close(_))) => {
                    let _waited_for = connection.answer_close(&mut out);
                    continue;
                }
                Err(misdeed) => {
                    let _due = connection.close(misdeed.close_code(), &misdeed.to_string(), &mut out);
                    continue;
                }
            };
            let _open = connection.send(kind, &message, &mut contexts, &mut out);
        }
        stream.write_all(&out).await?;
        out.clear();
        read.resize(READ_BYTES, 0);
        // RFC 6455 section 7.1.1: the server closes TCP first. It may do so by a reset, for both have said their last.
        match stream.read(&mut read).await {
            Ok(0) | Err(_) if connection.state() == State::Closed => return Ok(()),
            Ok(0) => return Err("the connection ended without a Close".into()),
            Ok(length) => read.truncate(length),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the first bytes behind the handshake, too.
async fn open(uri: Uri) -> Result<(TcpStream, Connection, Vec<u8>), Box<dyn Error>> {
    let host = uri.host().ok_or("the address has no host")?;
    let mut stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    let options = ClientOptions {
        // With takeover: the suite has cases for it, and a server that does not want it says so.
        compression: Some(DeflatePolicy {
            server_takeover: true,
            client_takeover: true,
            ..DeflatePolicy::default()
        }),
        ..ClientOptions::new(uri)
    };
    let (mut nonce, mut seed) = ([0; 16], [0; 32]);
    getrandom::fill(&mut nonce)?;
    getrandom::fill(&mut seed)?;
    let mut handshake = ClientHandshake::new(options, nonce)?;
    let mut request = Vec::new();
    handshake.encode(&mut request);
    stream.write_all(&request).await?;
    let mut read = Vec::new();
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err("the connection ended in the handshake".into());
        }
        if let Some((connected, length)) = handshake.read(&read)? {
            let limits = Limits {
                message_bytes_max: MESSAGE_BYTES_MAX,
                inflate_ratio_max: usize::MAX,
            };
            let masks = MaskKeys::from_seed(seed);
            let connection = Connection::client(limits, connected.compression, masks);
            return Ok((stream, connection, read.split_off(length)));
        }
    }
}
