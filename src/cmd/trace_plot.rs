//! The roofline plot of `teff trace`, as SVG: operations per byte against operations per second.

use std::fmt::Write;

use super::roofline::Limits;
use super::trace_tree::Node;

/// Size of the picture, and the margins around the plot.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 600.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 60.0;
/// Height of a line of labels, and the usual width of a character.
const LINE: f64 = 13.0;
const CHARACTER: f64 = 6.2;

const STYLE: &str = "\
svg{--back:#fff;--text:#222;--grid:#ddd;--roof:#666;--prefill:#1f6fb4;--decode:#c4501b}\
@media(prefers-color-scheme:dark){svg{--back:#16181c;--text:#ddd;--grid:#33363c;--roof:#999;\
--prefill:#6db3f2;--decode:#f28c5a}}\
text{font:11px sans-serif;fill:var(--text)}\
.title{font-size:14px}.grid{stroke:var(--grid)}.roof{stroke:var(--roof);fill:none;stroke-width:2}\
.prefill{fill:var(--prefill)}.decode{fill:var(--decode)}circle{fill-opacity:.75}\
.lead{stroke:var(--grid)}";

/// Products of one kind of operation.
struct Dot {
    stage: &'static str,
    name: String,
    /// Operations per byte.
    intensity: f64,
    /// Operations per second.
    rate: f64,
    /// Share of the stage's time.
    share: f64,
    roofline: Option<f64>,
}

/// A logarithmic axis over whole decades.
struct Axis {
    /// Exponents of 10 at both ends.
    decades: (i32, i32),
    /// Positions of both ends.
    ends: (f64, f64),
}

impl Axis {
    /// The axis that has all positive values of `values`.
    fn new(values: impl Iterator<Item = f64>, ends: (f64, f64)) -> Axis {
        let logs = values.filter(|x| x.is_finite() && *x > 0.0).map(f64::log10);
        let (low, high) = logs.fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(x), b.max(x)));
        let decades = if low > high {
            (0, 1)
        } else {
            let low = low.floor() as i32;
            (low, (high.ceil() as i32).max(low + 1))
        };
        Axis { decades, ends }
    }

    fn at(&self, x: f64) -> f64 {
        let (low, high) = (f64::from(self.decades.0), f64::from(self.decades.1));
        let share = ((x.log10() - low) / (high - low)).clamp(0.0, 1.0);
        self.ends.0 + share * (self.ends.1 - self.ends.0)
    }

    /// Values of both ends.
    fn range(&self) -> (f64, f64) {
        (10f64.powi(self.decades.0), 10f64.powi(self.decades.1))
    }
}

/// A rectangle: left, top, right and bottom.
type Place = [f64; 4];

fn overlap(a: &Place, b: &Place) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/// The picture. Rates are in units of 10^9.
pub(super) fn plot(title: &str, trees: &[(&'static str, Node)], limits: &Limits) -> String {
    let mut dots = dots(trees, limits);
    let bandwidth = limits.bandwidth / 1e9;
    let peaks = [("int8", limits.int8), ("f32", limits.fma)];
    let peaks: Vec<_> = peaks.into_iter().filter_map(|(n, p)| Some((n, p? / 1e9))).collect();
    let ridges = peaks.iter().map(|(_, peak)| peak / bandwidth);
    let across = dots.iter().map(|d| d.intensity).chain(ridges);
    let x = Axis::new(across, (LEFT, WIDTH - RIGHT));
    // With room for labels below the lowest dot.
    let rates = dots
        .iter()
        .flat_map(|d| [d.rate / 3e9, d.rate / 1e9])
        .chain(peaks.iter().map(|(_, peak)| *peak));
    let y = Axis::new(rates, (HEIGHT - BOTTOM, TOP));

    let mut t = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\">\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" style=\"fill:var(--back)\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">{}</text>\n",
        escaped(title)
    );
    // Writing to a string does not fail.
    let _ = axes(&mut t, &x, &y);
    let _ = roofs(&mut t, (&x, &y), bandwidth, &peaks);
    let _ = legend(&mut t, trees);
    dots.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    let mut taken: Vec<Place> = Vec::new();
    for d in &dots {
        let (cx, cy, r) = (x.at(d.intensity), y.at(d.rate / 1e9), radius(d));
        taken.push([cx - r, cy - r, cx + r, cy + r]);
    }
    for d in &dots {
        let _ = dot(&mut t, d, (x.at(d.intensity), y.at(d.rate / 1e9)), &mut taken);
    }
    t.push_str("</svg>\n");
    t
}

/// Dots for all kinds of operations with products.
fn dots(trees: &[(&'static str, Node)], limits: &Limits) -> Vec<Dot> {
    let mut dots = Vec::new();
    for (stage, tree) in trees {
        for node in tree.children.iter().flat_map(|part| &part.children) {
            let (bytes, operations) = (node.work.bytes, node.work.operations());
            if let (true, Some(rate)) = (bytes > 0.0, node.operations_per_second()) {
                dots.push(Dot {
                    stage,
                    name: node.name.clone(),
                    intensity: operations / bytes,
                    rate,
                    share: node.seconds / tree.seconds.max(1e-9),
                    roofline: node.roofline(limits),
                });
            }
        }
    }
    dots
}

/// The area of a dot is its share of the time.
fn radius(d: &Dot) -> f64 {
    3.0 + 12.0 * d.share.clamp(0.0, 1.0).sqrt()
}

fn axes(t: &mut String, x: &Axis, y: &Axis) -> std::fmt::Result {
    let (left, right, top, bottom) = (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM);
    for e in x.decades.0..=x.decades.1 {
        let (at, value) = (x.at(10f64.powi(e)), number(e));
        writeln!(t, "<path class=\"grid\" d=\"M{at:.1} {top}V{bottom}\"/>")?;
        let below = bottom + 16.0;
        writeln!(t, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{value}</text>")?;
    }
    for e in y.decades.0..=y.decades.1 {
        let (at, value) = (y.at(10f64.powi(e)), number(e));
        writeln!(t, "<path class=\"grid\" d=\"M{left} {at:.1}H{right}\"/>")?;
        let (beside, base) = (left - 8.0, at + 4.0);
        writeln!(t, "<text x=\"{beside}\" y=\"{base:.1}\" text-anchor=\"end\">{value}</text>")?;
    }
    let (middle, below) = (f64::midpoint(left, right), bottom + 36.0);
    writeln!(
        t,
        "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">operations per byte of weights</text>"
    )?;
    writeln!(t, "<text x=\"{}\" y=\"{}\">GOP/s</text>", left - 50.0, top - 14.0)
}

/// A power of ten.
fn number(exponent: i32) -> String {
    match exponent {
        0.. => format!("{:.0}", 10f64.powi(exponent)),
        _ => format!("{:.1$}", 10f64.powi(exponent), exponent.unsigned_abs() as usize),
    }
}

/// The bandwidth as a slope, and the peaks as lines from it on.
fn roofs(
    t: &mut String,
    (x, y): (&Axis, &Axis),
    bandwidth: f64,
    peaks: &[(&str, f64)],
) -> std::fmt::Result {
    let ((left, right), (low, high)) = (x.range(), y.range());
    let highest = peaks.iter().map(|(_, peak)| *peak).fold(0.0, f64::max);
    let end = if highest > 0.0 { highest } else { high };
    // As far as the slope is inside of the plot.
    let from = left.max(low / bandwidth);
    let to = right.min(end / bandwidth).max(from);
    let point = |at: f64, rate: f64| format!("{:.1} {:.1}", x.at(at), y.at(rate));
    let (a, b) = (point(from, from * bandwidth), point(to, to * bandwidth));
    writeln!(t, "<path class=\"roof\" d=\"M{a}L{b}\"/>")?;
    let (at, rate) = ((from * to).sqrt(), (from * to).sqrt() * bandwidth);
    let (cx, cy) = (x.at(at), y.at(rate));
    let run = (x.at(to) - x.at(from)).max(1e-9);
    let angle = ((y.at(to * bandwidth) - y.at(from * bandwidth)) / run).atan().to_degrees();
    writeln!(
        t,
        "<text x=\"{cx:.1}\" y=\"{cy:.1}\" dy=\"-6\" text-anchor=\"middle\" \
         transform=\"rotate({angle:.1} {cx:.1} {cy:.1})\">{bandwidth:.1} GB/s from memory</text>"
    )?;
    for (name, peak) in peaks {
        let ridge = (peak / bandwidth).clamp(left, right);
        let (a, b) = (point(ridge, *peak), point(right, *peak));
        writeln!(t, "<path class=\"roof\" d=\"M{a}L{b}\"/>")?;
        let (cx, cy) = (WIDTH - RIGHT - 4.0, y.at(*peak) - 6.0);
        writeln!(
            t,
            "<text x=\"{cx}\" y=\"{cy:.1}\" text-anchor=\"end\">{peak:.0} GOP/s on {name}</text>"
        )?;
    }
    Ok(())
}

fn legend(t: &mut String, trees: &[(&'static str, Node)]) -> std::fmt::Result {
    let mut at = LEFT;
    for (stage, tree) in trees {
        let text = format!("{stage}, {:.1} ms", tree.seconds * 1e3);
        writeln!(t, "<circle class=\"{stage}\" cx=\"{}\" cy=\"40\" r=\"5\"/>", at + 5.0)?;
        writeln!(t, "<text x=\"{}\" y=\"44\">{text}</text>", at + 15.0)?;
        at += 40.0 + CHARACTER * text.len() as f64;
    }
    writeln!(t, "<text x=\"{at}\" y=\"44\">areas are shares of the time</text>")
}

/// A dot with its label beside it, moved to where there is room.
fn dot(t: &mut String, d: &Dot, (cx, cy): (f64, f64), taken: &mut Vec<Place>) -> std::fmt::Result {
    let (stage, name, r) = (d.stage, escaped(&d.name), radius(d));
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let mut says = format!("{name} ({stage}): {} of the time", percent(d.share));
    if let Some(roofline) = d.roofline {
        write!(says, ", {} of the roofline", percent(roofline))?;
    }
    writeln!(
        t,
        "<circle class=\"{stage}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"{r:.1}\"><title>{says}</title></circle>"
    )?;
    let width = CHARACTER * d.name.chars().count() as f64;
    let leftwards = cx > f64::midpoint(LEFT, WIDTH - RIGHT);
    let place = |offset: f64| -> Place {
        let middle = cy + offset * LINE;
        let from = if leftwards { cx - 22.0 - width } else { cx + 22.0 };
        [from, middle - LINE / 2.0, from + width, middle + LINE / 2.0]
    };
    let offsets = (0..60).map(|i| f64::from((i + 1) / 2) * if i % 2 == 0 { -1.0 } else { 1.0 });
    let inside = |p: &Place| p[1] >= TOP && p[3] <= HEIGHT - BOTTOM;
    let free = |p: &Place| inside(p) && !taken.iter().any(|other| overlap(p, other));
    let at = offsets.map(place).find(free).unwrap_or_else(|| place(0.0));
    taken.push(at);
    let (anchor, edge, side) = if leftwards { ("end", at[2], -1.0) } else { ("start", at[0], 1.0) };
    let (middle, base) = (f64::midpoint(at[1], at[3]), at[3] - 3.0);
    let (from, to) = (cx + side * r, edge - side * 2.0);
    writeln!(t, "<path class=\"lead\" d=\"M{from:.1} {cy:.1}L{to:.1} {middle:.1}\"/>")?;
    writeln!(t, "<text x=\"{edge:.1}\" y=\"{base:.1}\" text-anchor=\"{anchor}\">{name}</text>")
}

/// Text of an element, without what XML reserves or forbids.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => out.push('?'),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_whole_decades() {
        let axis = Axis::new([3.0, 250.0, f64::NAN, 0.0].into_iter(), (0.0, 300.0));
        assert_eq!(axis.range(), (1.0, 1000.0));
        assert_eq!((axis.at(1.0), axis.at(1000.0), axis.at(1e9)), (0.0, 300.0, 300.0));
        assert!((axis.at(10.0) - 100.0).abs() < 1e-9);
        assert_eq!(Axis::new(std::iter::empty(), (0.0, 1.0)).range(), (1.0, 10.0));
        assert_eq!((number(2), number(0), number(-2)), ("100".into(), "1".into(), "0.01".into()));
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("a<b & \"c\">\u{1}"), "a&lt;b &amp; &quot;c&quot;&gt;?");
    }
}
