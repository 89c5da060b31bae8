//! The short table at the end of a run: everyone who was measured, one figure after the other.

use super::quantity::Quantity;
use super::{Figure, INTERRUPTED, Report, Series, shortened, whats};

/// Characters in a line. Only a number, a parameter or a word that is too long by itself goes past it.
const COLUMNS_MAX: usize = 100;

/// Characters that a name and a variant keep, however little room there is.
const WHO_COLUMNS_MIN: usize = 12;

/// What a person sees when a run is over, for a terminal of 100 columns: what was measured and where; for each figure everyone
/// who was measured, below each other and variant by variant; then faults, an interruption and notes.
///
/// `colour` allows ANSI escape sequences; without it the text is plain. Ends with a line break.
#[must_use]
pub fn table(report: &Report, colour: bool) -> String {
    let paint = Paint { colour };
    let mut out = head(report, paint);
    out.push('\n');
    out.push_str(&figures(report, paint));

    let faults: Vec<String> = report
        .series
        .iter()
        .filter_map(|series| Some(format!("{}: {}", series.who(), series.fault.as_ref()?)))
        .collect();
    if !faults.is_empty() {
        out.push('\n');
    }
    for fault in faults {
        out.push_str(&paragraph("", &fault, |line| paint.red(line)));
    }
    if report.interrupted {
        out.push('\n');
        let words = match whats([report]).is_empty() {
            true => "Interrupted before a round was over.",
            false => INTERRUPTED,
        };
        out.push_str(&paragraph("", words, |line| paint.yellow(line)));
    }
    if !report.notes.is_empty() {
        out.push_str("\nNotes\n");
    }
    for note in &report.notes {
        out.push_str(&paragraph("  - ", note, str::to_owned));
    }
    out
}

/// One line; two if it would be too long.
fn head(report: &Report, paint: Paint) -> String {
    let asked = if report.parameters.is_empty() {
        report.bench.clone()
    } else {
        format!("{} · {}", report.bench, report.parameters)
    };
    let asked = shortened(&asked, usize::MAX);
    let machine = shortened(&report.machine.to_string(), usize::MAX);
    let line = format!("{asked} · {machine}");
    if line.chars().count() <= COLUMNS_MAX {
        format!("{}\n", paint.dim(&line))
    } else {
        format!("{}\n{}\n", paint.dim(&asked), paint.dim(&machine))
    }
}

const CELLS: usize = 4;
const CELL_HEADS: [&str; CELLS] = ["min", "median", "max", "ratio"];
const NOTHING: &str = "–";

struct Row<'a> {
    series: &'a Series,
    cells: [String; CELLS],
}

impl<'a> Row<'a> {
    fn of(series: &'a Series, figure: &Figure) -> Self {
        let quantity = |value: Option<f64>| {
            value.map_or_else(
                || NOTHING.to_owned(),
                |value| Quantity::of(value, figure.unit).to_string(),
            )
        };
        let ratio = series.ratio(figure).unwrap_or_else(|| NOTHING.to_owned());
        let cells = [
            quantity(figure.minimum()),
            quantity(figure.median()),
            quantity(figure.maximum()),
            ratio,
        ];
        Self { series, cells }
    }
}

/// The rows in groups, each below what it measures. All groups share their columns.
fn figures(report: &Report, paint: Paint) -> String {
    let mut series: Vec<&Series> = report.series.iter().collect();
    // Everyone of one variant below each other, in the order of the variants' first.
    series.sort_by_key(|series| {
        report
            .series
            .iter()
            .position(|first| first.variant == series.variant)
    });
    let groups: Vec<(&str, Vec<Row<'_>>)> = whats([report])
        .into_iter()
        .map(|what| {
            let rows = series
                .iter()
                .filter_map(|series| Some(Row::of(series, series.figure(what)?)));
            (what, rows.collect())
        })
        .collect();
    if groups.is_empty() {
        return "Nothing was measured.\n".to_owned();
    }
    let columns = Columns::of(&groups);
    let mut out = String::new();
    for (index, (what, rows)) in groups.iter().enumerate() {
        if index == 0 {
            out.push_str(&columns.first_heading(what, paint));
        } else {
            out.push_str(&format!("\n{}\n", shortened(what, COLUMNS_MAX)));
        }
        for row in rows {
            out.push_str(&columns.row(row, paint));
        }
    }
    out
}

/// Widths in characters. Names are ASCII, and of the units each character takes one column.
struct Columns {
    name: usize,
    variant: usize,
    cells: [usize; CELLS],
}

impl Columns {
    fn of(groups: &[(&str, Vec<Row<'_>>)]) -> Self {
        let rows = || groups.iter().flat_map(|(_, rows)| rows);
        let widest = |text: fn(&Series) -> &str| {
            rows()
                .map(|row| text(row.series).chars().count())
                .max()
                .unwrap_or(0)
        };
        let name = widest(|series| &series.name);
        let variant = widest(|series| &series.variant);
        let cells = std::array::from_fn(|index| {
            let widest = rows()
                .map(|row| row.cells[index].chars().count())
                .max()
                .unwrap_or(0);
            widest.max(CELL_HEADS[index].len())
        });

        let room = COLUMNS_MAX.saturating_sub(2 + 2 + cells.iter().map(|width| width + 3).sum::<usize>());
        // A long name gives way first: it is a URL, and its end says less than the variant.
        let name = name.min(room.saturating_sub(variant).max(WHO_COLUMNS_MIN));
        let variant = variant.min(room.saturating_sub(name).max(WHO_COLUMNS_MIN));
        Self { name, variant, cells }
    }

    fn who_width(&self) -> usize {
        let variant = if self.variant == 0 { 0 } else { 2 + self.variant };
        2 + self.name + variant
    }

    /// What the first group measures, and on the same line, if there is room for it, the heads of the columns.
    fn first_heading(&self, what: &str, paint: Paint) -> String {
        let what = shortened(what, COLUMNS_MAX);
        let mut heads = String::new();
        for (head, width) in CELL_HEADS.iter().zip(self.cells) {
            heads.push_str(&format!("   {head:>width$}"));
        }
        let who = self.who_width();
        // The first cell is wider than its head most of the time; what is left of it can be written into.
        let spare = heads.len() - heads.trim_start().len() - 2;
        let over = what.chars().count().saturating_sub(who);
        if over <= spare {
            format!("{what:who$}{}\n", paint.dim(&heads[over..]))
        } else {
            format!("{:who$}{}\n{what}\n", "", paint.dim(&heads))
        }
    }

    fn row(&self, row: &Row<'_>, paint: Paint) -> String {
        let Self { name, variant, cells } = *self;
        let mut line = format!("  {:name$}", shortened(&row.series.name, name));
        if variant > 0 {
            line.push_str(&format!("  {:variant$}", shortened(&row.series.variant, variant)));
        }
        let [numbers @ .., ratio] = &row.cells;
        let [number_widths @ .., ratio_width] = cells;
        for (number, width) in numbers.iter().zip(number_widths) {
            line.push_str(&format!("   {number:>width$}"));
        }
        let ratio = format!("   {ratio:>ratio_width$}");
        if row.series.is_reference {
            format!("{}\n", paint.dim(&(line + &ratio)))
        } else {
            format!("{line}{}\n", paint.bold(&ratio))
        }
    }
}

/// `text` in lines of at most [`COLUMNS_MAX`], the first behind `mark`, the others below it.
fn paragraph(mark: &str, text: &str, paint: impl Fn(&str) -> String) -> String {
    let indent = mark.chars().count().max(2);
    let mut lines = Vec::new();
    let mut line = mark.to_owned();
    let mut is_bare = true;
    for word in shortened(text, usize::MAX).split_whitespace() {
        if !is_bare && line.chars().count() + 1 + word.chars().count() > COLUMNS_MAX {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            is_bare = true;
        }
        if !is_bare {
            line.push(' ');
        }
        line.push_str(word);
        is_bare = false;
    }
    lines.push(line);
    lines.iter().map(|line| format!("{}\n", paint(line))).collect()
}

#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
