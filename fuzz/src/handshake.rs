//! `proto::ws::handshake` and `proto::ws::extension`: both ends of the opening handshake.

use http::header::{CONTENT_LENGTH, HeaderValue, SEC_WEBSOCKET_EXTENSIONS, UPGRADE};
use http::{Request, Response, StatusCode, Version};
use switchboard_proto::ws::deflate::{Agreed, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use switchboard_proto::ws::extension::{DeflatePolicy, check_none};
use switchboard_proto::ws::handshake::{
    Accepted, ClientHandshake, ClientOptions, Connected, Failed, HeadError, HeadLimits, HeadReader, Refused,
    ServerOptions, accept, encode_response,
};

use crate::script::Script;
use crate::wire;

/// The length of a whole head, or why it is none; what is in it is of another type.
type Ended = Option<Result<usize, HeadError>>;

/// Heads of requests and responses, and the extensions in them.
///
/// - A head is read the same in any pieces, and every request gets an answer that is a whole response. Only what RFC 6455
///   calls a handshake is accepted.
/// - What a server of ours accepts of a client of ours, that client accepts, and both agreed on the same.
/// - What a server agrees to is within its policy and is what its response says; what a client accepts is within what it
///   offered.
pub fn handshake(data: &[u8]) {
    let mut script = Script::new(data);
    match script.choose(4) {
        0 => any_request(&mut script),
        1 => any_response(&mut script),
        2 => ours(&mut script),
        _ => extensions(&mut script),
    }
}

fn any_request(script: &mut Script<'_>) {
    let (limits, options, lengths) = (head_limits(script), server_options(script), script.array::<4>());
    let bytes = script.rest();
    let mut request = None;
    let mut read = |reader: &mut HeadReader, bytes: &[u8]| {
        reader.request(bytes).map(|whole| {
            whole.map(|(read, length)| {
                request = Some(read);
                length
            })
        })
    };
    let ended = in_pieces(bytes, &lengths, &mut HeadReader::new(limits), &mut read);
    assert_eq!(
        in_pieces(bytes, &[0], &mut HeadReader::new(limits), &mut read),
        ended
    );
    check_bounds(bytes, limits, ended);
    match (request, ended) {
        (Some(request), _) => answer(&request, &options),
        (None, Some(Err(error))) => check_refusal(error.status(), &error.response()),
        (None, _) => {}
    }
}

/// The first end that `read` sees, given more and more of `bytes`.
fn in_pieces(
    bytes: &[u8],
    lengths: &[u8],
    reader: &mut HeadReader,
    read: &mut impl FnMut(&mut HeadReader, &[u8]) -> Result<Option<usize>, HeadError>,
) -> Ended {
    let mut arrived = 0;
    wire::pieces(bytes, lengths).find_map(|piece| {
        arrived += piece.len();
        read(reader, &bytes[..arrived]).transpose()
    })
}

fn check_bounds(bytes: &[u8], limits: HeadLimits, ended: Ended) {
    match ended {
        Some(Ok(length)) => {
            assert!(length <= limits.bytes_max && bytes[..length].ends_with(b"\r\n\r\n"));
            let lines = bytes[..length].windows(2).filter(|two| two == b"\r\n").count();
            assert!(lines - 2 <= limits.headers_max, "{lines} lines");
        }
        Some(Err(_)) => {}
        None => assert!(bytes.len() < limits.bytes_max.max(1), "a head must end somewhere"),
    }
}

fn answer(request: &Request<()>, options: &ServerOptions) {
    match accept(request, options) {
        Ok(accepted) => {
            check_acceptable(request, accepted.subprotocol);
            let read = reread(&encode(&accepted.response));
            assert_eq!(read.status(), StatusCode::SWITCHING_PROTOCOLS);
            assert_eq!(read.headers(), accepted.response.headers());
            let offered = request.headers().get_all(SEC_WEBSOCKET_EXTENSIONS);
            let says = read.headers().get(SEC_WEBSOCKET_EXTENSIONS);
            check_agreed(options.compression, offered, accepted.compression, says);
        }
        Err(refused) => {
            check_refusal(refused.status(), &refused.response());
            let needs_upgrade = refused.status() == StatusCode::UPGRADE_REQUIRED;
            assert_eq!(refused.response().headers().contains_key(UPGRADE), needs_upgrade);
        }
    }
}

/// What RFC 6455, section 4.2.1, wants of a request, and that what follows it can be nothing but frames.
fn check_acceptable(request: &Request<()>, subprotocol: Option<&str>) {
    let lines = |name: &str| -> Vec<&[u8]> {
        let values = request.headers().get_all(name).iter();
        values.map(|value| value.as_bytes().trim_ascii()).collect()
    };
    let words = |name: &str| -> Vec<String> {
        let words = lines(name).join(&b',');
        let words = words.split(|byte| *byte == b',').map(|word| word.trim_ascii());
        let words = words.filter(|word| !word.is_empty());
        words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    };
    let lists = |name: &str, wanted: &str| words(name).iter().any(|word| word.eq_ignore_ascii_case(wanted));
    assert_eq!(
        (request.method().as_str(), request.version()),
        ("GET", Version::HTTP_11)
    );
    assert_eq!(lines("host").len(), 1);
    assert!(lists("upgrade", "websocket") && lists("connection", "upgrade"));
    assert_eq!(lines("sec-websocket-version"), [b"13"]);
    let keys = lines("sec-websocket-key");
    assert!(
        keys.len() == 1 && keys[0].len() == 24 && keys[0].ends_with(b"=="),
        "{keys:?}"
    );
    assert!(lines("transfer-encoding").is_empty());
    assert!(words("content-length").iter().all(|length| length == "0"));
    match subprotocol {
        Some(name) => assert!(words("sec-websocket-protocol").iter().any(|word| word == name)),
        None => assert!(words("sec-websocket-protocol").is_empty()),
    }
}

fn check_refusal(status: StatusCode, response: &Response<String>) {
    assert!(status.is_client_error() || status == StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    let mut bytes = Vec::new();
    encode_response(response, &mut bytes);
    let read = reread(&bytes);
    assert_eq!(read.status(), status);
    let length = response.body().len().to_string();
    assert_eq!(
        read.headers().get(CONTENT_LENGTH),
        HeaderValue::from_str(&length).ok().as_ref()
    );
    assert!(bytes.ends_with(response.body().as_bytes()));
}

fn encode(response: &Response<()>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_response(&response.clone().map(|()| ""), &mut bytes);
    bytes
}

/// The response as another end reads it.
fn reread(bytes: &[u8]) -> Response<()> {
    match HeadReader::new(HeadLimits::default()).response(bytes) {
        Ok(Some((response, _))) => response,
        other => panic!("our response is no response: {other:?}"),
    }
}

fn any_response(script: &mut Script<'_>) {
    let lengths = script.array::<4>();
    let Ok(client) = ClientHandshake::new(client_options(script), script.array()) else {
        return;
    };
    // Some of what the server says is right, so that the rest is looked at.
    let mut bytes = Vec::new();
    if script.one_in(2)
        && let Ok(accepted) = accept(&client.request(), &server_options(script))
    {
        bytes = encode(&accepted.response);
        bytes.truncate(bytes.len() - 2);
    }
    bytes.extend_from_slice(script.rest());
    let at_once = client.clone().read(&bytes);
    let mut arrived = 0;
    let mut reader = client.clone();
    let in_pieces = wire::pieces(&bytes, &lengths).find_map(|piece| {
        arrived += piece.len();
        reader.read(&bytes[..arrived]).transpose()
    });
    assert_eq!(in_pieces.transpose(), at_once);
    if let Ok(Some((_, length))) = at_once {
        assert!(bytes[..length].ends_with(b"\r\n\r\n"));
    }
}

/// A client and a server of ours.
fn ours(script: &mut Script<'_>) {
    let (options, server, nonce) = (client_options(script), server_options(script), script.array());
    let Ok(mut client) = ClientHandshake::new(options.clone(), nonce) else {
        return;
    };
    let mut bytes = Vec::new();
    client.encode(&mut bytes);
    let request = match HeadReader::new(wide()).request(&bytes) {
        Ok(Some((request, length))) => {
            assert_eq!(length, bytes.len());
            request
        }
        other => panic!("our request is no request: {other:?}"),
    };
    assert_eq!(request.headers(), client.request().headers());
    let shared = options
        .subprotocols
        .iter()
        .find(|name| server.subprotocols.contains(name));
    match accept(&request, &server) {
        Ok(Accepted {
            response,
            subprotocol,
            compression,
        }) => {
            assert_eq!(subprotocol, shared.map(String::as_str));
            let both = options.compression.is_some() && server.compression.is_some();
            assert_eq!(compression.is_some(), both);
            let connected = Connected {
                subprotocol: subprotocol.map(str::to_owned),
                compression,
            };
            let mut bytes = encode(&response);
            let length = bytes.len();
            bytes.extend_from_slice(script.rest());
            assert_eq!(client.read(&bytes), Ok(Some((connected, length))));
        }
        Err(Refused::SubprotocolUnknown { .. }) => {
            assert!(shared.is_none() && !options.subprotocols.is_empty());
            let mut bytes = Vec::new();
            if let Err(refused) = accept(&request, &server) {
                encode_response(&refused.response(), &mut bytes);
            }
            let status = StatusCode::BAD_REQUEST;
            let failed = Failed::Status {
                status,
                retry_after_s: None,
            };
            assert_eq!(client.read(&bytes), Err(failed));
        }
        Err(refused) => panic!("our client is refused: {refused}"),
    }
}

/// Any offers to a server, any responses to a client.
fn extensions(script: &mut Script<'_>) {
    let policy = policy(script);
    let first = script.some();
    let lines = [first, script.rest()];
    let agreed = policy.negotiate(lines);
    // A list may stand in one line or in several; only an open quote reaches beyond its line.
    if !first.contains(&b'"') {
        assert_eq!(policy.negotiate([lines.join(&b',')]), agreed);
    }
    let says = agreed
        .as_ref()
        .and_then(|(_, says)| HeaderValue::from_str(says).ok());
    check_agreed(
        Some(policy),
        lines,
        agreed.map(|(agreed, _)| agreed),
        says.as_ref(),
    );

    if let Ok(Some(agreed)) = policy.check(lines) {
        check_within(policy, agreed);
    }
    let names_none = check_none(lines).is_ok();
    assert_eq!(names_none, policy.check(lines) == Ok(None));
}

/// `says` is the response to a client that made these offers.
fn check_agreed(
    policy: Option<DeflatePolicy>,
    offers: impl IntoIterator<Item: AsRef<[u8]>>,
    agreed: Option<Agreed>,
    says: Option<&HeaderValue>,
) {
    let Some(agreed) = agreed else {
        assert_eq!(says, None);
        return;
    };
    let (Some(policy), Some(says)) = (policy, says) else {
        panic!("{agreed:?} without a policy or a word");
    };
    check_within(policy, agreed);
    let everything = DeflatePolicy {
        server_takeover: true,
        client_takeover: true,
        server_max_window_bits: WINDOW_BITS_MAX,
        client_max_window_bits: WINDOW_BITS_MAX,
    };
    // The parameters mean in a response what they mean in an offer to a server without wishes of its own.
    let (said, _) = everything.negotiate([says]).expect("the response is well-formed");
    assert_eq!(said, agreed, "{says:?}");
    // A parameter that limits the client is answered only to one that said it knows it.
    let names_client_bits = |value: &[u8]| contains(value, b"client_max_window_bits");
    if names_client_bits(says.as_bytes()) {
        assert!(offers.into_iter().any(|offer| names_client_bits(offer.as_ref())));
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn check_within(policy: DeflatePolicy, agreed: Agreed) {
    assert!(policy.server_takeover || agreed.server_no_context_takeover);
    assert!(policy.client_takeover || agreed.client_no_context_takeover);
    let clamp = |bits: u8| bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
    assert!(
        (WINDOW_BITS_MIN..=clamp(policy.server_max_window_bits)).contains(&agreed.server_max_window_bits)
    );
    assert!((WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&agreed.client_max_window_bits));
    // A client that cannot be told a smaller window is not followed with one either.
    assert!(
        agreed.client_max_window_bits <= clamp(policy.client_max_window_bits)
            || agreed.client_no_context_takeover
    );
}

fn head_limits(script: &mut Script<'_>) -> HeadLimits {
    HeadLimits {
        bytes_max: script.pick(&[16 * 1024, 200, 16, 4, 3, 0]),
        headers_max: script.pick(&[64, 3, 1, 0]),
    }
}

fn wide() -> HeadLimits {
    HeadLimits {
        bytes_max: 1 << 20,
        headers_max: 1_000,
    }
}

fn policy(script: &mut Script<'_>) -> DeflatePolicy {
    let flags = script.byte();
    DeflatePolicy {
        server_takeover: flags & 1 != 0,
        client_takeover: flags & 2 != 0,
        server_max_window_bits: 7 + (flags >> 2) % 10,
        client_max_window_bits: 7 + script.byte() % 10,
    }
}

fn subprotocols(script: &mut Script<'_>) -> Vec<String> {
    const KNOWN: [&str; 4] = ["switchboard.v1.json", "switchboard.v1.msgpack", "chat", "CHAT"];
    let mut names: Vec<String> = Vec::new();
    for _ in 0..script.choose(4) {
        let name = match script.choose(5) {
            4 => script.text(),
            known => KNOWN[known].to_owned(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && http::HeaderName::from_bytes(name.as_bytes()).is_ok()
}

fn server_options(script: &mut Script<'_>) -> ServerOptions {
    let mut names = subprotocols(script);
    // Its own are the operator's to choose; these are tokens.
    names.retain(|name| is_token(name));
    ServerOptions {
        subprotocols: names,
        compression: script.one_in(2).then(|| policy(script)),
    }
}

fn client_options(script: &mut Script<'_>) -> ClientOptions {
    let addresses = [
        "ws://localhost:8000/ws",
        "wss://example.com",
        "http://[::1]:80?channel=room:42",
    ];
    let address = match script.choose(4) {
        3 => script.text().parse().unwrap_or_default(),
        known => http::Uri::from_static(addresses[known]),
    };
    let mut options = ClientOptions::new(address);
    options.subprotocols = subprotocols(script);
    options.compression = script.one_in(2).then(|| policy(script));
    if script.one_in(4)
        // Blanks around a value are not part of it.
        && let Ok(value) = HeaderValue::from_bytes(script.some().trim_ascii())
    {
        options.headers.append("authorization", value);
    }
    options
}
