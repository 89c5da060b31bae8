//! One figure of several runs as a picture: a bar for everyone, as long as the ratio to the reference.
//!
//! ```text
//!  CPU per delivery
//!  fanout: 5,000 subscribers, 64 bytes · machine
//!                     reference 1 ×          ratio   median
//!  switchboard  ████████─┼─|              1.11 ×  2.35 µs
//!  nats         ─────────┼───────         2.40 ×  5.06 µs
//!               0 ×     1 ×     2 ×
//!               times the reference; less is better
//! ```
//!
//! The numbers stand in columns of their own and not at the ends of the bars, where they would cross the line of the reference.

use super::quantity::{self, Quantity};
use super::{Report, Series, Unit, shortened};

/// All lengths are in pixels of the picture's own size.
const WIDTH: f64 = 820.0;
const MARGIN: f64 = 28.0;
const LABEL_WIDTH_MAX: f64 = 250.0;
const MEDIAN_RIGHT: f64 = WIDTH - MARGIN;
const RATIO_RIGHT: f64 = MEDIAN_RIGHT - 88.0;
const PLOT_RIGHT: f64 = RATIO_RIGHT - 76.0;
const PLOT_TOP: f64 = 112.0;
const BAR_HEIGHT: f64 = 16.0;
const ROW_HEIGHT: f64 = 30.0;
/// With the variant below the name.
const TALL_ROW_HEIGHT: f64 = 40.0;

/// An SVG with one bar for each series that has a ratio of the figure `what`, the least ratio on top; whiskers reach from the
/// least to the greatest sample. The axis is linear and starts at 0. Call [`Report::settle`] before.
///
/// Where the reports differ in bench or parameters, these stand with each bar, and in the subtitle otherwise. References that
/// would have the same label, because every report has one, are shown once, with the samples of the first.
///
/// The picture is 820 pixels wide, as high as it must be, needs no fonts or scripts, and follows the reader's choice of light or
/// dark. It is a file for an `<img>`: its styles are not meant to stand among those of a page.
#[must_use]
pub fn chart(reports: &[Report], what: &str) -> String {
    let bars = bars(reports, what);
    let layout = Layout::of(&bars);
    let subtitle = subtitle(&bars);

    let mut body = String::new();
    body.push_str(&text(
        "title",
        MARGIN,
        42.0,
        &fitted(what, 18.0, WIDTH - 2.0 * MARGIN),
    ));
    body.push_str(&text(
        "small muted",
        MARGIN,
        65.0,
        &fitted(&subtitle, 12.0, WIDTH - 2.0 * MARGIN),
    ));
    if bars.is_empty() {
        body.push_str(&text(
            "muted",
            MARGIN,
            PLOT_TOP,
            "Nobody has a ratio of this figure.",
        ));
    } else {
        body.push_str(&axis(&layout));
        for (index, bar) in bars.iter().enumerate() {
            body.push_str(&row(bar, &layout, index));
        }
        body.push_str(&reference_line(&layout));
        body.push_str(&captions(&bars, &layout));
    }
    let height = layout.height(&bars);
    let (title, description) = (escaped(what), escaped(&subtitle));
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title description">
<title id="title">{title}, as a ratio to the reference</title>
<desc id="description">{description}</desc>
<style>{STYLE}</style>
<rect class="page" x="0.5" y="0.5" width="{}" height="{}" rx="8"/>
{body}</svg>
"##,
        WIDTH - 1.0,
        height - 1.0,
    )
}

/// Light, then what dark changes. The page has a ground of its own: the reader's choice need not be that of the site around it.
/// Plain classes instead of variables, which some renderers do not know.
const STYLE: &str = r#"
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif; fill: #1f2328; font-variant-numeric: tabular-nums; }
.title { font-size: 18px; font-weight: 600; }
.small { font-size: 12px; }
.strong { font-weight: 600; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.muted { fill: #656d76; }
.page { fill: #ffffff; stroke: #d8dee4; }
.grid { stroke: #eaeef2; }
.zero { stroke: #afb8c1; }
.reference { stroke: #1f2328; stroke-dasharray: 3 3; }
.bar { fill: #c4cbd3; }
.bar.own { fill: #4f6bed; }
text.own { fill: #3a54d0; }
.whisker { stroke: #57606a; stroke-width: 1.5; fill: none; }
.whisker.own { stroke: #1b2a80; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.muted { fill: #8d96a0; }
.page { fill: #0d1117; stroke: #30363d; }
.grid { stroke: #21262d; }
.zero { stroke: #484f58; }
.reference { stroke: #e6edf3; }
.bar { fill: #444c56; }
.bar.own { fill: #5b78f6; }
text.own { fill: #93a8ff; }
.whisker { stroke: #9ea7b3; }
.whisker.own { stroke: #ccd6ff; }
}
"#;

struct Bar<'a> {
    report: &'a Report,
    series: &'a Series,
    /// Below the name: the variant, and what was asked for, if that is not the same for all bars.
    detail: String,
    unit: Unit,
    median: f64,
    ratio: f64,
    ratio_written: String,
    /// Least and greatest sample, as ratios.
    range: [f64; 2],
}

impl<'a> Bar<'a> {
    fn of(report: &'a Report, series: &'a Series, what: &str) -> Option<Self> {
        let figure = series.figure(what)?;
        let median = figure.median()?;
        let ratio = figure.ratio?;
        // A median of 0 says nothing about how much 1 × is.
        let as_ratio = |value: f64| {
            if median == 0.0 {
                ratio
            } else {
                value / median * ratio
            }
        };
        Some(Self {
            report,
            series,
            detail: series.variant.clone(),
            unit: figure.unit,
            median,
            ratio,
            ratio_written: series.ratio(figure)?,
            range: [as_ratio(figure.minimum()?), as_ratio(figure.maximum()?)],
        })
    }

    fn name(&self) -> String {
        let mark = if self.series.fault.is_some() { " *" } else { "" };
        format!("{}{mark}", self.series.name)
    }

    fn classes(&self) -> Classes {
        match self.series {
            series if series.is_reference => REFERENCE,
            // The server that this project makes, in whichever variant.
            series if series.name.starts_with("switchboard") => OWN,
            _ => OTHER,
        }
    }
}

/// Classes of a row's parts.
#[derive(Clone, Copy)]
struct Classes {
    name: &'static str,
    bar: &'static str,
    whisker: &'static str,
    ratio: &'static str,
}

const OWN: Classes = Classes {
    name: "strong own",
    bar: "bar own",
    whisker: "whisker own",
    ratio: "strong own end",
};
const OTHER: Classes = Classes {
    name: "",
    bar: "bar",
    whisker: "whisker",
    ratio: "strong end",
};
const REFERENCE: Classes = Classes {
    name: "muted",
    bar: "bar",
    whisker: "whisker",
    ratio: "muted end",
};

/// Sorted by ratio.
fn bars<'a>(reports: &'a [Report], what: &str) -> Vec<Bar<'a>> {
    let all = reports
        .iter()
        .flat_map(|report| report.series.iter().map(move |series| (report, series)));
    let mut all: Vec<Bar<'_>> = all
        .filter_map(|(report, series)| Bar::of(report, series, what))
        .collect();
    if differ(&all) {
        for bar in &mut all {
            let parts = [bar.detail.as_str(), &asked(bar.report)];
            bar.detail = parts
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(" · ");
        }
    }
    let mut bars: Vec<Bar<'_>> = Vec::new();
    for bar in all {
        let is_same = |other: &Bar<'_>| {
            other.series.is_reference && other.series.name == bar.series.name && other.detail == bar.detail
        };
        if !(bar.series.is_reference && bars.iter().any(is_same)) {
            bars.push(bar);
        }
    }
    bars.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    bars
}

/// Not all bars show the same measurement.
fn differ(bars: &[Bar<'_>]) -> bool {
    bars.windows(2)
        .any(|pair| asked(pair[0].report) != asked(pair[1].report))
}

/// What was asked for.
fn asked(report: &Report) -> String {
    match report.parameters.as_str() {
        "" => report.bench.clone(),
        parameters => format!("{}: {parameters}", report.bench),
    }
}

/// What was asked for, if it is one thing, and where it ran.
fn subtitle(bars: &[Bar<'_>]) -> String {
    let asked = bars
        .first()
        .filter(|_| !differ(bars))
        .map(|bar| asked(bar.report));
    let mut parts: Vec<String> = asked.into_iter().collect();
    for machine in bars.iter().map(|bar| bar.report.machine.to_string()) {
        if !parts.contains(&machine) {
            parts.push(machine);
        }
    }
    parts.join(" · ")
}

struct Layout {
    plot_left: f64,
    plot_bottom: f64,
    row_height: f64,
    /// Ratio at the right end of the axis.
    extent: f64,
    /// Ratio between two ticks.
    step: f64,
}

impl Layout {
    fn of(bars: &[Bar<'_>]) -> Self {
        let label_width = bars
            .iter()
            .flat_map(|bar| [width(&bar.name(), 13.0), width(&bar.detail, 12.0)])
            .fold(0.0, f64::max)
            .min(LABEL_WIDTH_MAX);
        let is_tall = bars.iter().any(|bar| !bar.detail.is_empty());
        let row_height = if is_tall { TALL_ROW_HEIGHT } else { ROW_HEIGHT };
        // One sample far off must not press all bars flat: whiskers are cut where they are half as long again as any bar.
        let longest = bars.iter().map(|bar| bar.ratio).fold(1.0, f64::max);
        let reach = bars
            .iter()
            .map(|bar| bar.range[1])
            .fold(longest, f64::max)
            .min(1.5 * longest);
        Self {
            plot_left: (MARGIN + label_width + 16.0).round(),
            plot_bottom: PLOT_TOP + row_height * bars.len() as f64,
            row_height,
            extent: reach,
            step: step(reach),
        }
    }

    /// Where a ratio stands, within the axis.
    fn x(&self, ratio: f64) -> f64 {
        let share = (ratio / self.extent).clamp(0.0, 1.0);
        self.plot_left + share * (PLOT_RIGHT - self.plot_left)
    }

    fn height(&self, bars: &[Bar<'_>]) -> f64 {
        let below = match (bars.is_empty(), bars.iter().any(|bar| bar.series.fault.is_some())) {
            (true, _) => MARGIN,
            (false, false) => 44.0 + MARGIN,
            (false, true) => 62.0 + MARGIN,
        };
        self.plot_bottom + below
    }
}

/// The least of 1, 2 and 5, times a power of ten, that makes no more than six steps.
fn step(reach: f64) -> f64 {
    let decade = 10_f64.powf((reach / 6.0).log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|step| step * decade)
        .find(|step| reach <= 6.0 * step)
        .unwrap_or(10.0 * decade)
}

fn axis(layout: &Layout) -> String {
    let mut out = String::new();
    let (top, bottom) = (PLOT_TOP, layout.plot_bottom);
    let decimals = (-layout.step.log10().floor()).max(0.0) as usize;
    for index in 0..=(layout.extent / layout.step).floor() as u32 {
        let ratio = f64::from(index) * layout.step;
        let x = layout.x(ratio);
        let class = if index == 0 { "zero" } else { "grid" };
        out.push_str(&format!(
            "<path class=\"{class}\" d=\"M{x:.1} {top}V{bottom}\"/>\n"
        ));
        // The zero and whole numbers need no decimals, even if others do.
        let digits = if ratio.fract() == 0.0 {
            format!("{ratio:.0}")
        } else {
            format!("{ratio:.decimals$}")
        };
        let label = format!("{} ×", quantity::commas(&digits));
        out.push_str(&text("small muted middle", x, bottom + 18.0, &label));
    }
    out
}

fn row(bar: &Bar<'_>, layout: &Layout, index: usize) -> String {
    let middle = PLOT_TOP + layout.row_height * (index as f64 + 0.5);
    let baseline = middle + 4.5;
    let classes = bar.classes();

    let name_baseline = if bar.detail.is_empty() {
        baseline
    } else {
        middle - 3.0
    };
    let mut out = text(
        classes.name,
        MARGIN,
        name_baseline,
        &fitted(&bar.name(), 13.0, LABEL_WIDTH_MAX),
    );
    if !bar.detail.is_empty() {
        out.push_str(&text(
            "small muted",
            MARGIN,
            middle + 13.0,
            &fitted(&bar.detail, 12.0, LABEL_WIDTH_MAX),
        ));
    }
    out.push_str(&rectangle(bar, layout, middle));
    out.push_str(&whisker(bar, layout, middle));
    out.push_str(&text(classes.ratio, RATIO_RIGHT, baseline, &bar.ratio_written));
    out.push_str(&text(
        "muted end",
        MEDIAN_RIGHT,
        baseline,
        &Quantity::of(bar.median, bar.unit).to_string(),
    ));
    out
}

/// The bar itself: square where it starts, round where it ends, and no rounder than it is long.
fn rectangle(bar: &Bar<'_>, layout: &Layout, middle: f64) -> String {
    let left = layout.x(0.0);
    let length = layout.x(bar.ratio) - left;
    let radius = length.min(3.0);
    let (top, straight, side) = (
        middle - BAR_HEIGHT / 2.0,
        length - radius,
        BAR_HEIGHT - 2.0 * radius,
    );
    format!(
        "<path class=\"{}\" d=\"M{left:.1} {top:.1}h{straight:.1}q{radius:.1} 0 {radius:.1} {radius:.1}v{side:.1}\
         q0 {radius:.1} -{radius:.1} {radius:.1}h-{straight:.1}z\"/>\n",
        bar.classes().bar,
    )
}

/// From the least to the greatest sample; where the axis ends before, an arrow. A short one has no caps: they would hide the bar.
fn whisker(bar: &Bar<'_>, layout: &Layout, middle: f64) -> String {
    let [from, to] = bar.range.map(|ratio| layout.x(ratio));
    let low = middle - 4.0;
    let start = format!("M{from:.1} {low:.1}v8");
    let end = format!("M{to:.1} {low:.1}v8");
    let arrow = format!("M{:.1} {low:.1}l4 4l-4 4", to - 4.0);
    let caps = match to - from {
        same if same < 0.1 => return String::new(),
        short if short < 6.0 => String::new(),
        _ if bar.range[1] > layout.extent => start + &arrow,
        _ => start + &end,
    };
    let class = bar.classes().whisker;
    format!("<path class=\"{class}\" d=\"M{from:.1} {middle:.1}H{to:.1}{caps}\"/>\n")
}

fn reference_line(layout: &Layout) -> String {
    let x = layout.x(1.0);
    let half = width("reference 1 ×", 12.0) / 2.0;
    // Over the line, but neither over the labels nor over the columns of numbers.
    let label = x.clamp(layout.plot_left + half, PLOT_RIGHT + 16.0 - half);
    let line = format!(
        "<path class=\"reference\" d=\"M{x:.1} {:.1}V{:.1}\"/>\n",
        PLOT_TOP - 6.0,
        layout.plot_bottom
    );
    line + &text("small middle", label, PLOT_TOP - 12.0, "reference 1 ×")
}

/// The heads of the columns and what stands below the axis.
fn captions(bars: &[Bar<'_>], layout: &Layout) -> String {
    let better = match bars.first().map(|bar| bar.unit) {
        Some(Unit::Nanoseconds | Unit::Bytes | Unit::PercentOfCore) => "; less is better",
        Some(Unit::PerSecond) => "; more is better",
        Some(Unit::Count) | None => "",
    };
    let caption = format!("times the reference{better}; whiskers: least and greatest sample");
    let mut out = text("small muted end", RATIO_RIGHT, PLOT_TOP - 12.0, "ratio");
    out.push_str(&text("small muted end", MEDIAN_RIGHT, PLOT_TOP - 12.0, "median"));
    out.push_str(&text(
        "small muted",
        layout.plot_left,
        layout.plot_bottom + 42.0,
        &caption,
    ));
    if bars.iter().any(|bar| bar.series.fault.is_some()) {
        let fault = "* messages did not arrive, or arrived wrong";
        out.push_str(&text(
            "small muted",
            layout.plot_left,
            layout.plot_bottom + 60.0,
            fault,
        ));
    }
    out
}

fn text(class: &str, x: f64, y: f64, text: &str) -> String {
    format!(
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n",
        escaped(text)
    )
}

/// As much of `text` as surely fits into `room`.
fn fitted(text: &str, size: f64, room: f64) -> String {
    if width(text, size) <= room {
        return shortened(text, usize::MAX);
    }
    let mut end = width("…", size);
    let fits = text.chars().take_while(|c| {
        end += advance(*c) * size;
        end <= room
    });
    shortened(text, fits.count() + 1)
}

/// An upper estimate of the width of `text` in a font of `size`: which font it will be is not known here.
fn width(text: &str, size: f64) -> f64 {
    text.chars().map(|c| advance(c) * size).sum()
}

/// In widths of an em; a little more than the wider ones of the usual sans-serif fonts have.
fn advance(c: char) -> f64 {
    match c {
        ' ' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | 'i' | 'j' | 'l' | 'I' | '·' => 0.34,
        'f' | 't' | 'r' | '/' | '(' | ')' | '[' | ']' | '-' => 0.42,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 1.0,
        'A'..='Z' => 0.74,
        _ if c.is_ascii() => 0.64,
        _ => 1.0,
    }
}

/// For text and attributes. Control characters, which XML does not allow, become spaces.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML's own two exceptions besides controls.
            '\u{fffe}' | '\u{ffff}' => out.push(' '),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
