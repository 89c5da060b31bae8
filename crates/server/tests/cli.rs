//! The `switchboard` command from outside: what it prints, where, and how it ends.

#![allow(clippy::unwrap_used)] // a test ends where it fails

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A command in an environment where nothing is set.
fn switchboard(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn ended(args: &[&str]) -> Ended {
    run(switchboard(args))
}

/// A file of this test, gone when the value goes.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let help = ended(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    for part in [
        "serve",
        "listen",
        "publish",
        "doctor",
        "config",
        "--listen <ADDR>",
        "--internal-listen <ADDR>",
        "--shards <N>",
        "Examples:",
        "Exit codes:",
    ] {
        assert!(help.out.contains(part), "{part}:\n{}", help.out);
    }
    let version = ended(&["--version"]);
    assert_eq!(version.code, Some(0));
    assert_eq!(
        version.out,
        format!("switchboard {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn every_command_has_help_with_exit_codes_or_examples() {
    for command in ["serve", "listen", "publish", "doctor", "config"] {
        let help = ended(&[command, "--help"]);
        assert_eq!(help.code, Some(0), "{command}");
        assert!(
            help.out.starts_with(|c: char| c.is_uppercase()),
            "{command}: {}",
            help.out
        );
        assert!(!help.out.contains('\u{1b}'), "{command} has colours in a pipe");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_what_was_meant() {
    let flag = ended(&["--listn", "127.0.0.1:0"]);
    assert_eq!((flag.code, flag.out.as_str()), (Some(2), ""));
    assert!(flag.err.contains("'--listen'"), "{}", flag.err);
    let command = ended(&["docter"]);
    assert_eq!(command.code, Some(2));
    assert!(command.err.contains("'doctor'"), "{}", command.err);
    let channel = ended(&["listen", "room:"]);
    assert_eq!(channel.code, Some(2));
    assert!(channel.err.contains("empty segment"), "{}", channel.err);
    let data = ended(&["publish", "room:1", "--json", "{broken"]);
    assert_eq!(data.code, Some(2));
    assert_eq!(data.err, "error: DATA: not valid JSON\n");
    let both = ended(&["publish", "room:1", "--json", "--text", "1"]);
    assert_eq!(both.code, Some(2));
}

#[test]
fn serve_refuses_a_public_listener_that_nobody_guards() {
    for args in [
        &["--listen", "0.0.0.0:0"][..],
        &["serve", "--listen", "0.0.0.0:0"],
    ] {
        let refused = ended(args);
        assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""));
        assert!(
            refused.err.contains("nothing settles who may connect"),
            "{}",
            refused.err
        );
        assert!(
            refused.err.contains("SWITCHBOARD_AUTH__ANONYMOUS=true"),
            "{}",
            refused.err
        );
    }
}

#[test]
fn a_wrong_file_is_shown_where_it_is_wrong() {
    let file = File::new("wrong.toml", "[limits]\nmax_connections = 10\nlinger = 2\n");
    for args in [
        &["config", "check", file.path()][..],
        &["serve", "--config", file.path()],
    ] {
        let wrong = ended(args);
        assert_eq!((wrong.code, wrong.out.as_str()), (Some(2), ""));
        let place = |line: &str| format!("  --> {}:{line}\n", file.path());
        assert_eq!(
            wrong.err,
            format!(
                "error: there is no setting `max_connections` in [limits]\n{}\
                 \x20  |\n\
                 \x202 | max_connections = 10\n\
                 \x20  | ^^^^^^^^^^^^^^^\n\
                 \x20  = help: did you mean `connections_max`?\n\
                 \n\
                 error: limits.linger: 2 has no unit\n{}\
                 \x20  |\n\
                 \x203 | linger = 2\n\
                 \x20  |          ^\n\
                 \x20  = allowed: a whole number with ms, s, m, h or d behind it, from \"10ms\" to \"1h\"\n",
                place("2:1"),
                place("3:10")
            )
        );
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let missing = ended(&["config", "check", "/nonexistent/switchboard.toml"]);
    assert_eq!(missing.code, Some(2));
    assert!(
        missing
            .err
            .starts_with("error: cannot read /nonexistent/switchboard.toml: "),
        "{}",
        missing.err
    );
}

/// Whoever asks for a data directory gets one, or an error.
#[test]
fn a_data_directory_without_a_name_is_refused() {
    let flag = ended(&["serve", "--data-dir", ""]);
    assert_eq!(flag.code, Some(2));
    assert!(flag.err.contains("is empty"), "{}", flag.err);
    let mut command = switchboard(&["serve"]);
    command.env("SWITCHBOARD_DATA__DIR", "");
    let variable = run(command);
    assert_eq!(variable.code, Some(2));
    assert!(variable.err.contains("is empty"), "{}", variable.err);
}

#[test]
fn a_wrong_variable_is_named_by_every_command_that_reads_settings() {
    for args in [
        &["config", "check"][..],
        &["config", "show"],
        &["doctor"],
        &["serve"],
        &[],
    ] {
        let mut command = switchboard(args);
        command.env("SWITCHBOARD_LIMITS__PINGINTERVAL", "1s");
        let wrong = run(command);
        assert_eq!(wrong.code, Some(2), "{args:?}");
        assert!(
            wrong
                .err
                .contains("did you mean `SWITCHBOARD_LIMITS__PING_INTERVAL`?"),
            "{args:?}: {}",
            wrong.err
        );
    }
}

#[test]
fn the_printed_default_file_is_a_file_of_settings() {
    let printed = ended(&["config", "default"]);
    assert_eq!(printed.code, Some(0));
    let file = File::new("default.toml", &printed.out);
    let checked = ended(&["config", "check", file.path()]);
    assert_eq!(
        (checked.code, checked.out.as_str(), checked.err.as_str()),
        (Some(0), "ok: the server would start with these settings\n", "")
    );
}

#[test]
fn show_says_what_is_in_force_and_why() {
    let file = File::new(
        "show.toml",
        "[server]\nshards = 3\n[namespaces.room]\non_lag = \"disconnect\"\n",
    );
    let mut command = switchboard(&[
        "config",
        "show",
        "--listen",
        "127.0.0.1:9",
        "--config",
        file.path(),
    ]);
    command.env("SWITCHBOARD_LOG__LEVEL", "debug");
    let shown = run(command);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    let has = |line: &str| assert!(shown.out.contains(line), "{line}\n{}", shown.out);
    has("public = \"127.0.0.1:9\"                   # flag --listen\n");
    has(&format!(
        "shards = 3                               # {}:2:10\n",
        file.path()
    ));
    has("level = \"debug\"                          # environment variable SWITCHBOARD_LOG__LEVEL\n");
    has("internal = \"127.0.0.1:8001\"\n");
    has("[namespaces.room]\n");
}

#[test]
fn what_an_operator_should_know_is_said_by_check() {
    let mut command = switchboard(&["config", "check"]);
    command
        .env("SWITCHBOARD_LISTEN__PUBLIC", "0.0.0.0:8000")
        .env("SWITCHBOARD_LISTEN__INTERNAL", "0.0.0.0:8001")
        .env("SWITCHBOARD_AUTH__ANONYMOUS", "true");
    let checked = run(command);
    assert_eq!(checked.code, Some(0));
    assert!(
        checked
            .out
            .contains("warning: the internal listener 0.0.0.0:8001 can be reached"),
        "{}",
        checked.out
    );
    assert!(
        checked
            .out
            .contains("warning: anonymous sessions are allowed on 0.0.0.0:8000"),
        "{}",
        checked.out
    );
}

#[test]
fn doctor_tells_machines_what_it_tells_people() {
    let anywhere = ["--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"];
    let anywhere: Vec<&str> = anywhere.to_vec();
    let json = ended(&[&["doctor", "--json"][..], &anywhere].concat());
    let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let people = ended(&[&["doctor"][..], &anywhere].concat());
    for finding in findings {
        let check = finding["check"].as_str().unwrap();
        assert!(people.out.contains(check), "{check}\n{}", people.out);
        let needs_change = finding["status"] != "ok";
        assert_eq!(
            finding["change"].as_array().unwrap().is_empty(),
            !needs_change,
            "{finding}"
        );
    }
    let to_change = report["warn"].as_u64().unwrap() + report["bad"].as_u64().unwrap();
    let expected = if to_change > 0 { 3 } else { 0 };
    assert_eq!((json.code, people.code), (Some(expected), Some(expected)));
}

#[test]
fn doctor_finds_an_address_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let doctor = ended(&["doctor", "--json", "--listen", &address]);
    assert_eq!(doctor.code, Some(3));
    let report: serde_json::Value = serde_json::from_str(&doctor.out).unwrap();
    let finding = &report["findings"][0];
    assert_eq!(finding["check"], "listen.public");
    assert_eq!(finding["status"], "bad");
    assert!(
        finding["found"]
            .as_str()
            .unwrap()
            .starts_with(&format!("{address} is held by ")),
        "{finding}"
    );
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let mut command = switchboard(&["config", "default"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn a_key_that_no_server_takes_is_refused_before_anything_is_sent() {
    let key = "k".repeat(129);
    let refused = ended(&["publish", "room:1", "--key", &key, "hello"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("at most 128 bytes"), "{}", refused.err);
    // Lines get a number behind the key.
    let mut command = switchboard(&["publish", "room:1", "--key", &key[..120], "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it reads.
    let _ = child.stdin.take().unwrap().write_all(b"hello\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// It listened all the same, without the shards that had found no file.
#[test]
fn a_server_that_may_open_too_few_files_says_so_and_does_not_start() {
    let serve = "exec \"$0\" serve --listen 127.0.0.1:0 --internal-listen 127.0.0.1:0 --shards 40";
    let start = |files: u32| {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {files} && {serve}");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_switchboard")]);
        shell.env_clear().stdin(Stdio::null());
        run(shell)
    };
    for files in [6, 40, 63] {
        let ended = start(files);
        let says =
            format!("error: the open-file limit (ulimit -n) is {files}, and a server needs at least 64\n");
        assert_eq!((ended.code, ended.err), (Some(1), says));
    }
    // There is room for the listeners, and then for some of the shards.
    for files in (64..=208).step_by(16) {
        let ended = start(files);
        assert_eq!(ended.code, Some(1), "{files}: {}", ended.err);
        assert!(
            ended.err.contains("Too many open files"),
            "{files}: {}",
            ended.err
        );
        assert!(!ended.err.contains("listening"), "{files}: {}", ended.err);
    }
}
