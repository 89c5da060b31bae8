use std::time::Duration;

use super::*;
use crate::config::field::BadValue;
use crate::config::{Auto, OnLag, Refusal, UNLIMITED};

fn sources(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Sources {
    Sources {
        file: (!file.is_empty()).then(|| ("switchboard.toml".to_owned(), file.to_owned())),
        variables: variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        flags: flags
            .iter()
            .map(|(flag, value)| (*flag, (*value).to_owned()))
            .collect(),
    }
}

fn config(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Config {
    match sources(file, variables, flags).load() {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("{error}"),
    }
}

/// The only misdeed, and its place as text.
fn misdeed(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> (String, Misdeed) {
    let error = sources(file, variables, flags).load().unwrap_err();
    assert_eq!(error.problems.len(), 1, "{error}");
    let problem = error.problems.into_iter().next().unwrap();
    (problem.place.to_string(), problem.misdeed)
}

/// What a person reads.
fn shown(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> String {
    let error = sources(file, variables, flags).load().unwrap_err();
    anstream::adapter::strip_str(&error.to_string()).to_string()
}

#[test]
fn flags_beat_variables_beat_the_file_beats_the_defaults() {
    let file = "[listen]\npublic = \"127.0.0.1:1\"\n";
    let variable = [("SWITCHBOARD_LISTEN__PUBLIC", "127.0.0.1:2")];
    let flag = [("--listen", "127.0.0.1:3")];
    let port = |config: Config| config.listen.public.port();
    assert_eq!(port(config("", &[], &[])), 8000);
    assert_eq!(port(config(file, &[], &[])), 1);
    assert_eq!(port(config(file, &variable, &[])), 2);
    assert_eq!(port(config(file, &variable, &flag)), 3);
}

#[test]
fn where_a_value_is_from_is_known() {
    let file = "[listen]\npublic = \"127.0.0.1:1\"\ninternal = \"127.0.0.1:2\"\n";
    let loaded = sources(file, &[("SWITCHBOARD_LISTEN__PUBLIC", "127.0.0.1:3")], &[])
        .load()
        .unwrap();
    let place = |path: &str| loaded.place(path).to_string();
    assert_eq!(
        place("listen.public"),
        "environment variable SWITCHBOARD_LISTEN__PUBLIC"
    );
    assert_eq!(place("listen.internal"), "switchboard.toml:3:12");
    assert_eq!(place("server.shards"), "the default");
}

#[test]
fn every_kind_of_value_from_a_file() {
    let file = r#"
        [server]
        shards = 2
        drain_deadline = "3s"
        [auth]
        anonymous = true
        [origins]
        allow = ["https://chat.example", "https://admin.example:8443"]
        [limits]
        message_bytes_max = 32768
        outbox_bytes_max = "512KiB"
        subscriptions_max = "unlimited"
        commands_per_s = "unlimited"
        inbound_bytes_per_s = "1MiB/s"
        [compression]
        enabled = false
        [channels]
        log_messages_max = "none"
        log_age_max = "unlimited"
        on_lag = "disconnect"
    "#;
    let config = config(file, &[], &[]);
    assert_eq!(config.server.shards, Auto::Fixed(2));
    assert_eq!(config.server.drain_deadline, Duration::from_secs(3));
    assert_eq!(config.auth.anonymous, Auto::Fixed(true));
    let origins: Vec<String> = config.origins.allow.iter().map(ToString::to_string).collect();
    assert_eq!(origins, ["https://chat.example", "https://admin.example:8443"]);
    let session = &config.limits.session;
    assert_eq!(session.message_bytes_max, 32_768);
    assert_eq!(session.outbox_bytes_max, 524_288);
    assert_eq!(session.subscriptions_max, UNLIMITED);
    assert_eq!(session.commands.per_second, 0);
    assert_eq!(session.inbound_bytes.per_second, 1_048_576);
    assert!(!config.compression.enabled);
    assert_eq!(config.channels.log_messages_max, 0);
    assert_eq!(config.channels.log_age_max, Duration::MAX);
    assert_eq!(config.channels.on_lag, OnLag::Disconnect);
}

#[test]
fn every_kind_of_value_from_variables() {
    let variables = [
        ("SWITCHBOARD_SERVER__SHARDS", "3"),
        ("SWITCHBOARD_AUTH__ANONYMOUS", "false"),
        (
            "SWITCHBOARD_ORIGINS__ALLOW",
            "https://a.example, https://b.example",
        ),
        ("SWITCHBOARD_LIMITS__CONNECTIONS_MAX", "unlimited"),
        ("SWITCHBOARD_limits__ping_interval", "1m"),
        ("SWITCHBOARD_LOG__LEVEL", "debug"),
        ("HOME", "/nowhere"),
        ("SWITCHBOARDING", "1"),
    ];
    let config = config("", &variables, &[]);
    assert_eq!(config.server.shards, Auto::Fixed(3));
    assert_eq!(config.auth.anonymous, Auto::Fixed(false));
    assert_eq!(config.origins.allow.len(), 2);
    assert_eq!(config.limits.connections_max, Auto::Fixed(UNLIMITED));
    assert_eq!(config.limits.session.ping_interval, Duration::from_secs(60));
}

#[test]
fn a_namespace_takes_from_channels_what_it_leaves_open() {
    let file = r#"
        [namespaces.room]
        log_messages_max = 50
        [namespaces."räume"]
        on_lag = "disconnect"
        [channels]
        log_bytes_max = "2MiB"
    "#;
    let variables = [
        ("SWITCHBOARD_CHANNELS__LOG_AGE_MAX", "1h"),
        ("SWITCHBOARD_NAMESPACES__room__LOG_MESSAGES_MAX", "60"),
        ("SWITCHBOARD_NAMESPACES__my__team__ON_LAG", "disconnect"),
    ];
    let config = config(file, &variables, &[]);
    let room = &config.namespaces["room"];
    assert_eq!(room.log_messages_max, 60);
    assert_eq!(room.log_bytes_max, 2 * 1024 * 1024);
    assert_eq!(room.log_age_max, Duration::from_secs(3_600));
    assert_eq!(config.namespaces["räume"].on_lag, OnLag::Disconnect);
    assert_eq!(config.namespaces["my__team"].on_lag, OnLag::Disconnect);
}

#[test]
fn an_unknown_key_is_refused_and_the_nearest_one_is_named() {
    assert_eq!(
        shown("[limits]\nmax_connections = 10\n", &[], &[]),
        "error: there is no setting `max_connections` in [limits]\n\
         \x20 --> switchboard.toml:2:1\n\
         \x20  |\n\
         \x202 | max_connections = 10\n\
         \x20  | ^^^^^^^^^^^^^^^\n\
         \x20  = help: did you mean `connections_max`?\n"
    );
    let nearest = |file: &str| match misdeed(file, &[], &[]).1 {
        Misdeed::UnknownKey { nearest, .. } => nearest,
        Misdeed::UnknownSection { nearest, .. } => nearest,
        Misdeed::OutsideSection { nearest, .. } => nearest,
        other => panic!("{other}"),
    };
    assert_eq!(
        nearest("[server]\nping_interval = \"1s\"\n").as_deref(),
        Some("[limits] ping_interval")
    );
    assert_eq!(
        nearest("ping_interval = \"1s\"\n").as_deref(),
        Some("[limits] ping_interval")
    );
    assert_eq!(nearest("[limit]\n").as_deref(), Some("[limits]"));
    assert_eq!(nearest("[namespace.room]\n").as_deref(), Some("[namespaces]"));
    assert_eq!(
        nearest("[namespaces.room]\nlog_age = \"1s\"\n").as_deref(),
        Some("log_age_max")
    );
    assert_eq!(nearest("[broker]\n"), None);
}

#[test]
fn an_unknown_variable_is_refused_and_the_nearest_one_is_named() {
    let nearest = |name: &str| match misdeed("", &[(name, "1")], &[]) {
        (place, Misdeed::UnknownVariable { nearest, .. }) => {
            assert_eq!(place, format!("environment variable {name}"));
            nearest
        }
        (_, other) => panic!("{other}"),
    };
    let listen = Some("SWITCHBOARD_LISTEN__PUBLIC");
    assert_eq!(nearest("SWITCHBOARD_LISTEN_PUBLIC").as_deref(), listen);
    assert_eq!(nearest("SWITCHBOARD_LISTEN__PUBLIK").as_deref(), listen);
    assert_eq!(
        nearest("SWITCHBOARD_LIMITS__PINGINTERVAL").as_deref(),
        Some("SWITCHBOARD_LIMITS__PING_INTERVAL")
    );
    nearest("SWITCHBOARD_NAMESPACES__room");
    nearest("SWITCHBOARD_PORT");
    nearest("SWITCHBOARD_");
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_of_our_name_are_passed_over() {
    let variables = [
        ("SWITCHBOARD_SERVICE_HOST", "10.0.0.11"),
        ("SWITCHBOARD_SERVICE_PORT", "8000"),
        ("SWITCHBOARD_SERVICE_PORT_HTTP", "8000"),
        ("SWITCHBOARD_PORT", "tcp://10.0.0.11:8000"),
        ("SWITCHBOARD_PORT_8000_TCP", "tcp://10.0.0.11:8000"),
        ("SWITCHBOARD_PORT_8000_TCP_PROTO", "tcp"),
        ("SWITCHBOARD_PORT_8000_TCP_PORT", "8000"),
        ("SWITCHBOARD_PORT_8000_TCP_ADDR", "10.0.0.11"),
        ("SWITCHBOARD_INTERNAL_SERVICE_HOST", "10.0.0.12"),
        ("SWITCHBOARD_INTERNAL_PORT_8001_TCP_ADDR", "10.0.0.12"),
    ];
    assert_eq!(config("", &variables, &[]), Config::default());
}

#[test]
fn a_value_is_refused_with_what_is_allowed() {
    assert_eq!(
        shown("[limits]\nping_interval = 25\n", &[], &[]),
        "error: limits.ping_interval: 25 has no unit\n\
         \x20 --> switchboard.toml:2:17\n\
         \x20  |\n\
         \x202 | ping_interval = 25\n\
         \x20  |                 ^^\n\
         \x20  = allowed: a whole number with ms, s, m, h or d behind it, from \"100ms\" to \"1h\"\n"
    );
    assert_eq!(
        shown("", &[("SWITCHBOARD_LIMITS__MESSAGE_BYTES_MAX", "64KB")], &[]),
        "error: limits.message_bytes_max: `64KB` has the unknown unit `KB`\n\
         \x20 --> environment variable SWITCHBOARD_LIMITS__MESSAGE_BYTES_MAX\n\
         \x20  = allowed: bytes, as a whole number or with B, KiB, MiB or GiB, from \"1KiB\" to \"64MiB\"\n\
         \x20  = help: did you mean KiB (1024 bytes)?\n"
    );
    let problem = |file: &str| match misdeed(file, &[], &[]).1 {
        Misdeed::Value { problem, .. } => problem,
        other => panic!("{other}"),
    };
    assert_eq!(problem("[limits]\nchannels_max = 0\n"), BadValue::Zero);
    assert_eq!(problem("[compression]\nenabled = \"true\"\n"), BadValue::Quoted);
    assert_eq!(
        problem("[log]\nlevel = \"warning\"\n"),
        BadValue::UnknownWord {
            nearest: Some("warn")
        }
    );
    assert_eq!(
        problem("[origins]\nallow = \"https://a.example\"\n"),
        BadValue::WrongType("a string")
    );
    assert_eq!(
        problem("[channels]\nlog_age_max = { seconds = 3 }\n"),
        BadValue::WrongType("a table")
    );
}

#[test]
fn a_flag_that_is_wrong_is_named() {
    let (place, misdeed) = misdeed("", &[], &[("--listen", ":9000")]);
    assert_eq!(place, "flag --listen");
    assert!(matches!(
        misdeed,
        Misdeed::Value {
            problem: BadValue::HostMissing(9000),
            ..
        }
    ));
}

#[test]
fn every_problem_is_said_at_once() {
    let file = "[limits]\nping_interval = 25\nlinger = \"2\"\n[nowhere]\n";
    let error = sources(file, &[("SWITCHBOARD_X__Y", "")], &[])
        .load()
        .unwrap_err();
    let places: Vec<String> = error.problems.iter().map(|p| p.place.to_string()).collect();
    assert_eq!(
        places,
        [
            "switchboard.toml:2:17",
            "switchboard.toml:3:10",
            "switchboard.toml:4:2",
            "environment variable SWITCHBOARD_X__Y"
        ]
    );
}

#[test]
fn what_is_not_toml_is_shown_where_it_is() {
    let (place, misdeed) = misdeed("[listen]\npublic = 127.0.0.1:8000\n", &[], &[]);
    assert!(place.starts_with("switchboard.toml:2:"), "{place}");
    assert!(matches!(misdeed, Misdeed::Syntax(_)));
}

#[test]
fn a_section_is_not_a_value_and_a_namespace_has_a_name() {
    let (_, not_a_setting) = misdeed("listen = \"127.0.0.1:8000\"\n", &[], &[]);
    assert_eq!(not_a_setting, Misdeed::NotASetting("listen".to_owned()));
    let (_, not_a_section) = misdeed("[namespaces]\nroom = 3\n", &[], &[]);
    assert_eq!(not_a_section, Misdeed::NotASetting("namespaces.room".to_owned()));
    for file in [
        "[namespaces.\"a:b\"]\n",
        "[namespaces.\"\"]\n",
        "[namespaces.\"a*\"]\n",
    ] {
        let (_, misdeed) = misdeed(file, &[], &[]);
        assert!(matches!(misdeed, Misdeed::BadNamespace { .. }), "{file}");
    }
}

#[test]
fn a_public_listener_without_authentication_is_refused_with_both_ways_out() {
    assert_eq!(
        shown("", &[], &[("--listen", "0.0.0.0:9000")]),
        "error: the public listener 0.0.0.0:9000 can be reached from other machines, but nothing settles who may \
         connect\n\
         \x20 --> flag --listen\n\
         \x20  = help: for this machine alone, which is development mode: --listen 127.0.0.1:9000\n\
         \x20  = help: if everyone who reaches it may read and write every channel: [auth] anonymous = true, or \
         SWITCHBOARD_AUTH__ANONYMOUS=true\n"
    );
    let allowed = [("SWITCHBOARD_AUTH__ANONYMOUS", "true")];
    config("", &allowed, &[("--listen", "0.0.0.0:9000")]);
}

#[test]
fn a_contradiction_is_shown_where_a_part_of_it_stands() {
    let (place, refused) = misdeed(
        "[limits]\nmessage_bytes_max = \"1MiB\"\noutbox_bytes_max = \"2MiB\"\n",
        &[],
        &[],
    );
    assert_eq!(place, "switchboard.toml:2:21");
    let expected = Refusal::BurstBelowMessage {
        message: 1024 * 1024,
        burst: 512 * 1024,
    };
    assert_eq!(refused, Misdeed::Refused(expected));
}

#[test]
fn any_text_as_a_file_is_an_error_or_settings() {
    use proptest::prelude::*;
    let lines = prop::sample::select(vec![
        "[limits]",
        "[namespaces.a]",
        "[[listen]]",
        "[channels]",
        "ping_interval = ",
        "log_age_max",
        "=",
        "\"25s\"",
        "0",
        "-7",
        "1e9",
        "{",
        "}",
        "'''",
        "\u{0}",
        "ü",
        "\n",
        "\r",
    ]);
    proptest!(|(parts in prop::collection::vec(lines, 0..20))| {
        let _ = sources(&parts.concat(), &[], &[]).load().map_err(|error| error.to_string());
    });
}
