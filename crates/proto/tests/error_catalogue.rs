//! `src/error_code.rs` says exactly what `spec/errors.toml` says. `UPDATE=1` writes it anew.

// In a test a panic is the failure.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fmt::Write as _;
use std::{env, fs};

const CATALOGUE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/errors.toml");
const GENERATED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/error_code.rs");

struct Row {
    variant: String,
    code: String,
    fault: String,
    retryable: bool,
    close: Option<i64>,
    raw_close: Option<i64>,
    http: i64,
    text: String,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(CATALOGUE).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    table["error"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let word = |key: &str| row[key].as_str().unwrap().to_owned();
            let number = |key: &str| row.get(key).map(|number| number.as_integer().unwrap());
            Row {
                variant: word("code").split('_').map(capital).collect(),
                code: word("code"),
                fault: capital(&word("fault")),
                retryable: row["retryable"].as_bool().unwrap(),
                close: number("close"),
                raw_close: number("raw_close"),
                http: row["http"].as_integer().unwrap(),
                text: word("text"),
            }
        })
        .collect()
}

fn generate(rows: &[Row]) -> String {
    let mut out = String::from(
        "//! The error codes of the protocol. Generated from `spec/errors.toml` by the test `error_catalogue`; do not edit.\n\n\
         /// Who has to change something.\n#[derive(Clone, Copy, PartialEq, Eq, Debug)]\npub enum Fault {\n\
         \x20   /// The client program.\n    Peer,\n    /// Its backend or its users.\n    Application,\n\
         \x20   /// This server or its operator.\n    Us,\n    /// The network between.\n    Network,\n}\n\n\
         /// A word for what went wrong.\n#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]\npub enum ErrorCode {\n",
    );
    for row in rows {
        writeln!(out, "    /// {}\n    {},", row.text, row.variant).unwrap();
    }
    out += "}\n\nimpl ErrorCode {\n    /// All of them, in the order of the catalogue.\n    pub const ALL: &[ErrorCode] = &[\n";
    for row in rows {
        writeln!(out, "        ErrorCode::{},", row.variant).unwrap();
    }
    out += "    ];\n";
    let mut table = |doc: &str, name: &str, kind: &str, value: &dyn Fn(&Row) -> String| {
        writeln!(
            out,
            "\n    /// {doc}\n    pub const fn {name}(self) -> {kind} {{\n        match self {{"
        )
        .unwrap();
        for row in rows {
            writeln!(out, "            ErrorCode::{} => {},", row.variant, value(row)).unwrap();
        }
        out += "        }\n    }\n";
    };
    let option = |number: Option<i64>| number.map_or("None".to_owned(), |number| format!("Some({number})"));
    table("The word on the wire.", "as_str", "&'static str", &|row| {
        format!("{:?}", row.code)
    });
    table("Who has to change something.", "fault", "Fault", &|row| {
        format!("Fault::{}", row.fault)
    });
    table(
        "Whether the same command may succeed later.",
        "retryable",
        "bool",
        &|row| row.retryable.to_string(),
    );
    table(
        "The close code that follows in every dialect.",
        "close_code",
        "Option<u16>",
        &|row| option(row.close),
    );
    table(
        "The close code in a dialect that cannot say an error.",
        "raw_close_code",
        "Option<u16>",
        &|row| option(row.raw_close.or(row.close)),
    );
    table(
        "The status of an HTTP answer that says it.",
        "http_status",
        "u16",
        &|row| row.http.to_string(),
    );
    table("The default sentence.", "text", "&'static str", &|row| {
        format!("{:?}", row.text)
    });
    out += "}\n";
    out
}

#[test]
fn error_code_rs_is_the_catalogue() {
    let expected = generate(&rows());
    if env::var_os("UPDATE").is_some() {
        fs::write(GENERATED, &expected).unwrap();
    }
    assert!(
        fs::read_to_string(GENERATED).unwrap() == expected,
        "stale: UPDATE=1 cargo test -p switchboard-proto --test error_catalogue"
    );
}

#[test]
fn every_error_can_be_told_or_closes_the_connection() {
    for row in rows() {
        for code in [row.close, row.raw_close].into_iter().flatten() {
            assert!(
                matches!(code, 1001 | 1007..=1013 | 4000..=4999),
                "{} {code}",
                row.code
            );
        }
        // Only what a later attempt may get is a status after which programs try again.
        assert_eq!(
            matches!(row.http, 429 | 500..=599),
            row.retryable,
            "{} {}",
            row.code,
            row.http
        );
    }
}
