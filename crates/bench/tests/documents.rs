//! The tables and the chart in `docs/benchmarks` are those of the reports beside them.

#![allow(clippy::unwrap_used)] // a test ends where it fails

use std::fs;
use std::path::{Path, PathBuf};

use switchboard_bench::report::{Report, chart, markdown};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/benchmarks")
}

fn report(path: &Path) -> Report {
    let bytes = fs::read(path).unwrap();
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `actual` is what `docs/benchmarks/render` writes.
fn is_fresh(file: &str, actual: &str) {
    let committed = fs::read_to_string(folder().join(file)).unwrap();
    assert!(
        committed == actual,
        "docs/benchmarks/render has to write {file} anew"
    );
}

#[test]
fn tables_are_those_of_the_reports() {
    let entries = fs::read_dir(folder()).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    assert!(!paths.is_empty());
    let reports: Vec<Report> = paths.iter().map(|path| report(path)).collect();
    is_fresh("tables.md", &markdown(&reports));
}

#[test]
fn the_chart_is_that_of_its_report() {
    let report = report(&folder().join("peers-fanout.json"));
    is_fresh("fanout.svg", &chart(&[report], "CPU per delivery"));
}

#[test]
fn no_committed_report_has_a_fault() {
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let report = report(&path);
            assert!(!report.interrupted, "{}", path.display());
            for series in &report.series {
                assert_eq!(series.fault, None, "{}: {}", path.display(), series.name);
            }
        }
    }
}
