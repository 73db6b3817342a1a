//! The function `strftime_now`, which transformers adds: a date and time as C's `strftime` writes it,
//! in English. In UTC: std knows no other zone.

use super::error::{Fault, Res};
use super::limits::Meter;
use super::value::{Buf, Value};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A date and time.
struct Time {
    seconds: i64,
    year: i64,
    /// From 0.
    month: usize,
    /// From 1.
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    /// From 0, which is Sunday.
    weekday: i64,
    /// From 0.
    of_year: i64,
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

impl Time {
    /// The time some seconds after the start of 1970; years are 1 to 9999.
    fn at(seconds: i64) -> Time {
        let seconds = seconds.clamp(-62_135_596_800, 253_402_300_799);
        let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days since the start of the year 1, in cycles of 400, 100, 4 and 1 years.
        let mut rest = days + 719_162;
        let mut year = 1 + rest / 146_097 * 400;
        rest %= 146_097;
        let centuries = (rest / 36_524).min(3);
        (year, rest) = (year + centuries * 100, rest - centuries * 36_524);
        (year, rest) = (year + rest / 1461 * 4, rest % 1461);
        let years = (rest / 365).min(3);
        (year, rest) = (year + years, rest - years * 365);
        let of_year = rest;
        let february = 28 + i64::from(is_leap(year));
        let mut month = 0;
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            if rest < length {
                break;
            }
            rest -= length;
            month += 1;
        }
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        let weekday = (days + 4).rem_euclid(7);
        Time { seconds, year, month, day: rest + 1, hour, minute, second, weekday, of_year }
    }

    /// Year and number of the week as ISO 8601 counts them.
    fn iso_week(&self) -> (i64, i64) {
        let monday = (self.weekday + 6) % 7;
        let week = (self.of_year - monday + 10) / 7;
        if week < 1 {
            let before = self.year - 1;
            let last = self.of_year + 365 + i64::from(is_leap(before));
            return (before, (last - monday + 10) / 7);
        }
        let days = 365 + i64::from(is_leap(self.year));
        // The first Thursday of the next year may be in this week.
        if week == 53 && self.of_year - monday + 3 >= days {
            return (self.year + 1, 1);
        }
        (self.year, week)
    }
}

/// A part: a number with a width and what it is filled with, or a text.
enum Part {
    Number(i64, usize, char),
    Text(String),
}

/// Writes the time some seconds after the start of 1970.
pub(super) fn strftime(format: &str, seconds: i64, meter: &Meter<'_>) -> Res<Value> {
    let time = Time::at(seconds);
    let mut out = Buf::new(meter)?;
    // C's texts end at a zero.
    let format = format.split('\0').next().unwrap_or("");
    write(format, &time, 0, &mut out)?;
    out.finish(false)
}

fn write(format: &str, time: &Time, depth: usize, out: &mut Buf<'_>) -> Res<()> {
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c)?;
            continue;
        }
        let directive = chars.clone();
        let mut pad = None;
        let (mut upper, mut swap) = (false, false);
        let mut code = chars.next();
        while let Some(flag @ ('-' | '_' | '0' | '^' | '#')) = code {
            match flag {
                '^' => upper = true,
                '#' => swap = true,
                flag => pad = Some(flag),
            }
            code = chars.next();
        }
        let mut width = None;
        while let Some(digit) = code.and_then(|c| c.to_digit(10)) {
            let next = width.unwrap_or(0usize).saturating_mul(10).saturating_add(digit as usize);
            width = Some(next);
            code = chars.next();
        }
        let mut modifier = None;
        if let Some('E' | 'O') = code {
            modifier = code;
            code = chars.next();
        }
        let plain =
            directive.as_str().len() - chars.as_str().len() == code.map_or(0, char::len_utf8);
        let known = match code {
            // Python's own, which has no width.
            Some('f') if !plain => None,
            Some(code) if takes(code, modifier) => part(code, time, depth, out.meter())?,
            _ => None,
        };
        let Some((part, code)) = known.zip(code) else {
            // As it stands.
            let written = directive.as_str().len() - chars.as_str().len();
            let text = directive.as_str().get(..written).unwrap_or("");
            let length = 1 + text.chars().count();
            let fill = if pad == Some('0') { '0' } else { ' ' };
            out.fill(fill, width.unwrap_or(0).saturating_sub(length))?;
            out.push('%')?;
            match upper {
                true => out.push_str(&text.to_uppercase())?,
                false => out.push_str(text)?,
            }
            continue;
        };
        if code == 'z' {
            // There is no zone, and it has no width either.
            continue;
        }
        let (text, fill, least) = match part {
            Part::Number(n, digits, fill) => {
                let fill = match pad {
                    Some('_' | '-') => ' ',
                    Some('0') => '0',
                    _ => fill,
                };
                (n.to_string(), fill, if pad == Some('-') { 0 } else { digits })
            }
            Part::Text(text) => (text, if pad == Some('0') { '0' } else { ' ' }, 0),
        };
        let swapped = swap && matches!(code, 'a' | 'A' | 'b' | 'B' | 'h');
        let text = match (upper && code != 'P' || swapped, swap && code == 'p') {
            (true, _) => text.to_uppercase(),
            (_, true) => text.to_lowercase(),
            _ => text,
        };
        let width = width.unwrap_or(0).max(least);
        out.fill(fill, width.saturating_sub(text.chars().count()))?;
        out.push_str(&text)?;
    }
    Ok(())
}

/// True if a directive can stand behind `E` or `O`, which ask for another calendar or other digits.
fn takes(code: char, modifier: Option<char>) -> bool {
    match modifier {
        Some('E') => "cCnprstuxyzPRTXYZ%".contains(code),
        Some(_) => !"acxADFXY".contains(code),
        None => true,
    }
}

/// The meaning of a directive; `None` for an unknown one.
fn part(code: char, time: &Time, depth: usize, meter: &Meter<'_>) -> Res<Option<Part>> {
    let number = |n, width| Part::Number(n, width, '0');
    let name = |all: &[&str], at: usize| all.get(at).copied().unwrap_or("").to_owned();
    let short = |text: String| text.chars().take(3).collect::<String>();
    let several = |format: &str| -> Res<Part> {
        if depth > 2 {
            return Err(Fault::internal("a date within a date"));
        }
        let mut out = Buf::new(meter)?;
        write(format, time, depth + 1, &mut out)?;
        Ok(Part::Text(out.into_string()))
    };
    let weekday = usize::try_from(time.weekday).unwrap_or(0);
    let twelve = (time.hour + 11) % 12 + 1;
    let monday = (time.weekday + 6) % 7;
    Ok(Some(match code {
        'Y' => Part::Number(time.year, 0, '0'),
        'C' => number(time.year / 100, 2),
        'y' => number(time.year % 100, 2),
        'm' => number(time.month as i64 + 1, 2),
        'd' => number(time.day, 2),
        'e' => Part::Number(time.day, 2, ' '),
        'j' => number(time.of_year + 1, 3),
        'H' => number(time.hour, 2),
        'I' => number(twelve, 2),
        'k' => Part::Number(time.hour, 2, ' '),
        'l' => Part::Number(twelve, 2, ' '),
        'M' => number(time.minute, 2),
        'S' => number(time.second, 2),
        's' => Part::Number(time.seconds, 0, '0'),
        'f' => Part::Text("000000".into()),
        'u' => number(if time.weekday == 0 { 7 } else { time.weekday }, 1),
        'w' => number(time.weekday, 1),
        'U' => number((time.of_year + 7 - time.weekday) / 7, 2),
        'W' => number((time.of_year + 7 - monday) / 7, 2),
        'V' => number(time.iso_week().1, 2),
        'G' => Part::Number(time.iso_week().0, 0, '0'),
        'g' => number(time.iso_week().0 % 100, 2),
        'p' => Part::Text(if time.hour < 12 { "AM" } else { "PM" }.into()),
        'P' => Part::Text(if time.hour < 12 { "am" } else { "pm" }.into()),
        'B' => Part::Text(name(&MONTHS, time.month)),
        'b' | 'h' => Part::Text(short(name(&MONTHS, time.month))),
        'A' => Part::Text(name(&DAYS, weekday)),
        'a' => Part::Text(short(name(&DAYS, weekday))),
        'D' | 'x' => several("%m/%d/%y")?,
        'F' => several("%Y-%m-%d")?,
        'T' | 'X' => several("%H:%M:%S")?,
        'R' => several("%H:%M")?,
        'r' => several("%I:%M:%S %p")?,
        'c' => several("%a %b %e %H:%M:%S %Y")?,
        'n' => Part::Text("\n".into()),
        't' => Part::Text("\t".into()),
        '%' => Part::Text("%".into()),
        // There is no zone.
        'z' | 'Z' => Part::Text(String::new()),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::TemplateLimits;

    #[test]
    fn dates_are_those_of_c() {
        let meter = Meter::new(TemplateLimits::default(), None);
        let at = |format: &str, seconds| {
            strftime(format, seconds, &meter).unwrap().as_str().unwrap().to_owned()
        };
        assert_eq!(at("%d %b %Y", 1_709_164_800), "29 Feb 2024");
        assert_eq!(
            at("%A, %B %-d, %Y; %j %H:%M:%S %I %p", 1_735_689_599),
            "Tuesday, December 31, 2024; 366 23:59:59 11 PM"
        );
        assert_eq!(at("%F %T %y%% %-M %Q", 0), "1970-01-01 00:00:00 70% 0 %Q");
        assert_eq!(
            at("%c|%x|%D|%e|%^a|%U|%W|%G-W%V-%u", 1_735_689_599),
            "Tue Dec 31 23:59:59 2024|12/31/24|12/31/24|31|TUE|52|53|2025-W01-2"
        );
        assert_eq!(at("%G-W%V", 1_609_459_200), "2020-W53");
        assert_eq!(at("%Y", i64::MAX), "9999");
        assert_eq!(at("%6Y|%-m|%_m|%10B|%^10B", 0), "001970|1| 1|   January|   JANUARY");
        assert_eq!(at("%#a %#p %#c %^P", 0), "THU am Thu Jan  1 00:00:00 1970 am");
    }

    #[test]
    fn what_is_no_directive_stays_and_is_padded() {
        let meter = Meter::new(TemplateLimits::default(), None);
        let at = |format: &str| strftime(format, 0, &meter).unwrap().as_str().unwrap().to_owned();
        assert_eq!(at("%5.2f|%^q|%#q|%010q"), "  %5.2f|%^Q|%#q|00000%010q");
        assert_eq!(at("%f|%5f|%-5q|%5"), "000000|  %5f| %-5q|   %5");
        assert_eq!(at("%Ey %Od|%Ed %OY %5E"), "70 01|%Ed %OY   %5E");
        assert_eq!(at("%EEy %E5y %"), "%EEy %E5y %");
        assert_eq!(at("a\0b%Y|"), "a");
        assert_eq!(at("%-5I|%-I|%5z|%5Z|"), "   12|12||     |");
    }
}
