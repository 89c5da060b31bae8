//! Reports: what is computed from the samples, and how it is written down for people and programs.

use switchboard_bench::report::{Figure, Machine, Report, Series, Unit, chart, markdown, table};

fn figure(what: &str, unit: Unit, samples: &[f64]) -> Figure {
    Figure {
        what: what.to_owned(),
        unit,
        samples: samples.to_vec(),
        ratio: None,
    }
}

fn series(name: &str, variant: &str, figures: &[Figure]) -> Series {
    Series {
        name: name.to_owned(),
        version: None,
        variant: variant.to_owned(),
        is_reference: name.starts_with("reference"),
        figures: figures.to_vec(),
        fault: None,
    }
}

fn report(series: &[Series]) -> Report {
    let mut report = Report {
        bench: "fanout".to_owned(),
        version: "0.1.0".to_owned(),
        command: "switchboard bench fanout --subscribers 5000".to_owned(),
        machine: Machine {
            processor: "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz".to_owned(),
            cores: 2,
            kernel: "6.1.0".to_owned(),
            date: "2026-11-25".to_owned(),
        },
        parameters: "5,000 subscribers, 64 bytes".to_owned(),
        series: series.to_vec(),
        notes: Vec::new(),
        interrupted: false,
    };
    report.settle();
    report
}

/// CPU per delivery of `median` nanoseconds.
fn cpu(median: f64) -> Figure {
    figure(
        "CPU per delivery",
        Unit::Nanoseconds,
        &[median + 40.0, median - 10.0, median],
    )
}

/// Two servers and a reference, two figures; one server lost messages, and then the run was interrupted.
fn sample() -> Report {
    let memory = |median| figure("memory per connection", Unit::Bytes, &[median]);
    let mut report = report(&[
        series("switchboard", "", &[cpu(2_222.0), memory(1_434.0)]),
        series("nats", "", &[cpu(5_000.0), memory(9_216.0)]),
        series("reference", "", &[cpu(2_000.0), memory(980.0)]),
    ]);
    report.series[0].version = Some("0.1.0".to_owned());
    report.series[1].fault = Some("12 of 50,000 messages did not arrive".to_owned());
    report.notes = vec!["mercure was left out: it is not installed".to_owned()];
    report.interrupted = true;
    report
}

mod figures {
    use super::*;

    fn check(samples: &[f64], expected: Option<[f64; 3]>) {
        let figure = figure("what", Unit::Count, samples);
        let [minimum, median, maximum] = expected.map_or([None; 3], |[minimum, median, maximum]| {
            [Some(minimum), Some(median), Some(maximum)]
        });
        assert_eq!(figure.minimum(), minimum, "{samples:?}");
        assert_eq!(figure.median(), median, "{samples:?}");
        assert_eq!(figure.maximum(), maximum, "{samples:?}");
    }

    #[test]
    fn are_summed_up_whatever_the_order_of_samples() {
        check(&[], None);
        check(&[3.0], Some([3.0, 3.0, 3.0]));
        check(&[9.0, 1.0, 2.0], Some([1.0, 2.0, 9.0]));
        check(&[9.0, 1.0, 2.0, 4.0], Some([1.0, 3.0, 9.0]));
    }

    #[test]
    fn are_found_by_what_they_measure() {
        let series = series(
            "nats",
            "",
            &[cpu(1.0), figure("latency", Unit::Nanoseconds, &[2.0])],
        );
        assert_eq!(series.figure("latency").and_then(Figure::median), Some(2.0));
        assert!(series.figure("echo").is_none());
    }
}

mod ratios {
    use super::*;

    /// `expected` is the ratio of the first figure of each series.
    fn check(all: &[Series], expected: &[Option<f64>]) {
        let ratios: Vec<Option<f64>> = report(all)
            .series
            .iter()
            .map(|series| series.figures[0].ratio)
            .collect();
        assert_eq!(ratios, expected);
    }

    #[test]
    fn are_taken_from_the_reference_of_the_same_variant() {
        check(
            &[
                series("switchboard", "one", &[cpu(300.0)]),
                series("switchboard", "bursts of 10", &[cpu(300.0)]),
                series("reference", "one", &[cpu(200.0)]),
                series("reference", "bursts of 10", &[cpu(100.0)]),
            ],
            &[Some(1.5), Some(3.0), Some(1.0), Some(1.0)],
        );
    }

    #[test]
    fn are_taken_from_the_first_reference_where_the_variant_has_none() {
        check(
            &[
                series("switchboard", "TLS", &[cpu(300.0)]),
                series("reference", "one", &[cpu(200.0)]),
                series("reference", "bursts of 10", &[cpu(100.0)]),
            ],
            &[Some(1.5), Some(1.0), Some(1.0)],
        );
    }

    #[test]
    fn are_missing_where_the_reference_is() {
        check(&[series("switchboard", "", &[cpu(300.0)])], &[None]);
    }

    #[test]
    fn are_missing_where_the_reference_lacks_the_figure() {
        let latency = figure("latency", Unit::Nanoseconds, &[5.0]);
        check(
            &[
                series("switchboard", "", &[latency]),
                series("reference", "", &[cpu(200.0)]),
            ],
            &[None, Some(1.0)],
        );
    }

    #[test]
    fn are_missing_where_the_reference_needs_nothing() {
        let idle = |samples| figure("idle", Unit::PercentOfCore, samples);
        let check_reference = |samples| {
            check(
                &[
                    series("switchboard", "", &[idle(&[0.4])]),
                    series("reference", "", &[idle(samples)]),
                ],
                &[None, None],
            );
        };
        check_reference(&[0.0]);
        check_reference(&[]);
    }

    #[test]
    fn that_were_measured_in_turns_stay() {
        let mut report = report(&[
            series("nats", "", &[cpu(300.0)]),
            series("reference", "", &[cpu(200.0)]),
        ]);
        report.series[0].figures[0].ratio = Some(1.25);
        report.settle();
        assert_eq!(report.series[0].figures[0].ratio, Some(1.25));
    }
}

mod tables {
    use super::*;

    #[test]
    fn say_at_a_glance_who_costs_what() {
        let expected = "\
fanout · 5,000 subscribers, 64 bytes · Intel Xeon Platinum 8370C, 2 cores, Linux 6.1.0

CPU per delivery     min     median        max    ratio
  switchboard    2.21 µs    2.22 µs    2.26 µs   1.11 ×
  nats           4.99 µs    5.00 µs    5.04 µs   2.50 ×
  reference      1.99 µs    2.00 µs    2.04 µs      1 ×

memory per connection
  switchboard   1.40 KiB   1.40 KiB   1.40 KiB   1.46 ×
  nats          9.00 KiB   9.00 KiB   9.00 KiB   9.40 ×
  reference        980 B      980 B      980 B      1 ×

nats: 12 of 50,000 messages did not arrive

Interrupted: fewer rounds than asked for. The figures stand on what was finished.

Notes
  - mercure was left out: it is not installed
";
        assert_eq!(table(&sample(), false), expected);
    }

    #[test]
    fn put_one_variant_below_the_other() {
        let mut sample = sample();
        let bursts: Vec<Series> = sample
            .series
            .iter()
            .map(|series| Series {
                variant: "bursts of 10".to_owned(),
                fault: None,
                ..series.clone()
            })
            .collect();
        for (index, series) in bursts.into_iter().enumerate() {
            sample.series.insert(2 * index + 1, series);
        }
        let table = table(&sample, false);
        let rows: Vec<Vec<&str>> = table
            .lines()
            .skip(3)
            .take(6)
            .map(|row| row.split_whitespace().collect())
            .collect();
        let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
        assert_eq!(
            names,
            [
                "switchboard",
                "nats",
                "reference",
                "switchboard",
                "nats",
                "reference"
            ]
        );
        assert!(
            rows[3..].iter().all(|row| row[1..4] == ["bursts", "of", "10"]),
            "{table}"
        );
    }

    #[test]
    fn are_coloured_only_if_that_is_allowed() {
        let sample = sample();
        assert!(!table(&sample, false).contains('\x1b'));
        let coloured = table(&sample, true);
        assert!(coloured.contains("\x1b[1m   1.11 ×\x1b[0m"), "the ratio is bold");
        assert!(
            coloured.contains("\x1b[31mnats: 12 of 50,000 messages did not arrive\x1b[0m"),
            "a fault is red"
        );
        assert!(
            coloured
                .lines()
                .any(|line| line.starts_with("\x1b[2m  reference ") && line.ends_with("1 ×\x1b[0m"))
        );
    }

    #[test]
    fn fit_into_100_columns_however_long_the_names() {
        let mut sample = sample();
        sample.series[1].name = format!("wss://{}.example.com/connection", "long".repeat(40));
        sample.series[1].variant = "bursts of 10, TLS".to_owned();
        sample.notes.push("a word and ".repeat(40));
        sample.parameters = "5,000 subscribers, 64 bytes, over TLS and through a proxy".to_owned();
        // The fault names its server in full, and that is one word.
        sample.series[1].fault = None;
        let table = table(&sample, false);
        for line in table.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        assert!(table.contains("…  bursts of 10, TLS"), "{table}");
    }

    #[test]
    fn of_nothing_say_so() {
        assert!(table(&report(&[]), false).ends_with("\nNothing was measured.\n"));
        let without_samples = table(
            &report(&[series("nats", "", &[figure("echo", Unit::Count, &[])])]),
            false,
        );
        assert!(
            without_samples.ends_with("  nats     –        –     –       –\n"),
            "{without_samples}"
        );
    }

    /// A fault can quote what a peer sent.
    #[test]
    fn pass_no_escape_sequence_of_a_peer_on() {
        let mut sample = sample();
        sample.series[1].fault = Some("closed with \u{1b}[2J\u{7}".to_owned());
        sample.series[1].name = "na\u{1b}ts".to_owned();
        assert!(!table(&sample, false).contains(['\u{1b}', '\u{7}']));
    }
}

#[test]
fn json_gives_back_the_report() {
    let sample = sample();
    let json = serde_json::to_string(&sample).unwrap();
    let back: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(format!("{back:?}"), format!("{sample:?}"));
}

mod documents {
    use super::*;

    #[test]
    fn have_a_table_the_remarks_and_how_to_reproduce_it() {
        let expected = "\
## fanout

### 5,000 subscribers, 64 bytes

| server | CPU per delivery | ratio | memory per connection | ratio |
|---|---:|---:|---:|---:|
| switchboard 0.1.0 | 2.22 µs (2.21–2.26 µs) | 1.11 × | 1.40 KiB | 1.46 × |
| nats | 5.00 µs (4.99–5.04 µs) | 2.50 × | 9.00 KiB | 9.40 × |
| reference | 2.00 µs (1.99–2.04 µs) | 1 × | 980 B | 1 × |

- **nats: 12 of 50,000 messages did not arrive**
- Interrupted: fewer rounds than asked for. The figures stand on what was finished.
- mercure was left out: it is not installed

```sh
switchboard bench fanout --subscribers 5000
```

Intel Xeon Platinum 8370C, 2 cores, Linux 6.1.0. Version 0.1.0, 2026-11-25.
";
        assert_eq!(markdown(&[sample()]), expected);
    }

    #[test]
    fn have_one_table_for_the_same_parameters_and_one_heading_for_the_same_bench() {
        let [mut other, mut idle] = [sample(), sample()];
        other.parameters = "1 subscriber".to_owned();
        idle.bench = "idle".to_owned();
        let document = markdown(&[sample(), other, idle, sample()]);
        let headings: Vec<&str> = document.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(headings, ["## fanout", "## idle"]);
        assert_eq!(document.matches("| server |").count(), 3);
        assert_eq!(document.matches("| nats |").count(), 4);
    }

    #[test]
    fn escape_what_is_markup() {
        let mut sample = sample();
        sample.series[1].name = "<b>|*x*\n".to_owned();
        let document = markdown(&[sample]);
        assert!(document.contains(r"| &lt;b&gt;\|\*x\*  |"), "{document}");
        assert!(!document.contains("<b>"));
    }

    #[test]
    fn close_the_code_block_after_the_command_whatever_is_in_it() {
        let mut sample = sample();
        sample.command = "switchboard bench ```".to_owned();
        assert!(markdown(&[sample]).contains("````sh\nswitchboard bench ```\n````\n"));
    }
}

mod charts {
    use super::*;

    /// What stands in the picture's texts, from top to bottom.
    fn texts(svg: &str) -> Vec<&str> {
        svg.lines()
            .filter_map(|line| {
                line.strip_prefix("<text ")?
                    .strip_suffix("</text>")?
                    .split_once('>')
            })
            .map(|(_, text)| text)
            .collect()
    }

    #[test]
    fn show_everyone_by_rising_ratio_with_the_median() {
        let svg = chart(&[sample()], "CPU per delivery");
        let expected = [
            "CPU per delivery",
            "fanout: 5,000 subscribers, 64 bytes · Intel Xeon Platinum 8370C, 2 cores, Linux 6.1.0",
            "0 ×",
            "0.5 ×",
            "1 ×",
            "1.5 ×",
            "2 ×",
            "2.5 ×",
            "reference",
            "1 ×",
            "2.00 µs",
            "switchboard",
            "1.11 ×",
            "2.22 µs",
            "nats *",
            "2.50 ×",
            "5.00 µs",
            "reference 1 ×",
            "ratio",
            "median",
            "times the reference; less is better; whiskers: least and greatest sample",
            "* messages did not arrive, or arrived wrong",
        ];
        assert_eq!(texts(&svg), expected);
        assert_eq!(svg.matches("class=\"bar own\"").count(), 1);
        assert_eq!(svg.matches("class=\"bar\"").count(), 2);
    }

    #[test]
    fn of_several_runs_show_the_reference_once() {
        let svg = chart(&[sample(), sample()], "CPU per delivery");
        let count = |name| texts(&svg).into_iter().filter(|text| *text == name).count();
        assert_eq!([count("reference"), count("switchboard")], [1, 2]);
    }

    #[test]
    fn of_different_runs_say_with_each_bar_what_it_is() {
        let mut other = sample();
        other.parameters = "1 subscriber".to_owned();
        let svg = chart(&[sample(), other], "CPU per delivery");
        let count = |detail| texts(&svg).into_iter().filter(|text| *text == detail).count();
        assert_eq!(
            [
                count("fanout: 5,000 subscribers, 64 bytes"),
                count("fanout: 1 subscriber")
            ],
            [3, 3]
        );
    }

    #[test]
    fn escape_what_is_markup() {
        let mut sample = sample();
        sample.series[1].name = "<b>|&\"\u{1b}".to_owned();
        sample.series[1].figures[0].what = "CPU per delivery".to_owned();
        let svg = chart(&[sample], "CPU per delivery");
        assert!(texts(&svg).contains(&"&lt;b&gt;|&amp;&quot;  *"), "{svg}");
        assert!(!svg.contains("<b>"));
    }

    #[test]
    fn of_nothing_say_so() {
        assert!(texts(&chart(&[sample()], "<echo>")).contains(&"Nobody has a ratio of this figure."));
        assert!(!chart(&[], "<echo>").contains("<echo>"));
    }

    /// Every length comes from the samples: none may leave the picture, nor be something else than a number.
    #[test]
    fn stay_within_the_picture() {
        let ratios = [0.0, 1e-9, 0.15, 1.0, 12.0, -3.0];
        let mut all: Vec<Series> = ratios
            .iter()
            .map(|ratio| {
                series(
                    "nats",
                    "",
                    &[figure(
                        "echo",
                        Unit::Count,
                        &[ratio * 7.0, ratio * 7.0, ratio * 1e6],
                    )],
                )
            })
            .collect();
        all.push(series("reference", "", &[figure("echo", Unit::Count, &[7.0])]));
        let svg = chart(&[report(&all)], "echo");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        for whisker in svg.lines().filter(|line| line.contains("class=\"whisker\"")) {
            let end: f64 = whisker
                .split_once('H')
                .unwrap()
                .1
                .split(['M', '"'])
                .next()
                .unwrap()
                .parse()
                .unwrap();
            assert!(end <= 820.0, "{whisker}");
        }
    }
}
