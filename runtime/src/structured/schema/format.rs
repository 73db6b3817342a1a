//! Values of `format`.

/// A format: an expression in ECMAScript's syntax, and the longest text.
pub(super) struct Format {
    pub(super) pattern: String,
    pub(super) max: Option<usize>,
}

/// Date of the calendar with leap years (RFC 3339, appendix C).
const DATE: &str = "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|\
                    (?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|\
                    (?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|\
                    (?:[02468][048]|[13579][26])00)-02-29)";

/// Time with an offset, without leap seconds.
const TIME: &str = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?\
                    (?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";

/// Part of a host's name.
const LABEL: &str = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";

const BYTE: &str = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

/// The format with this name.
pub(super) fn format(name: &str) -> Option<Format> {
    let (body, max) = match name {
        "date" => (DATE.to_string(), None),
        "time" => (TIME.to_string(), None),
        "date-time" => (format!("{DATE}T{TIME}"), None),
        // RFC 3339, appendix A.
        "duration" => (
            "P(?:[0-9]{1,9}W|(?:[0-9]{1,9}Y(?:[0-9]{1,9}M(?:[0-9]{1,9}D)?)?|[0-9]{1,9}M(?:[0-9]{1,9}D)?|\
             [0-9]{1,9}D)(?:T(?:[0-9]{1,9}H(?:[0-9]{1,9}M(?:[0-9]{1,9}S)?)?|[0-9]{1,9}M(?:[0-9]{1,9}S)?|\
             [0-9]{1,9}S))?|T(?:[0-9]{1,9}H(?:[0-9]{1,9}M(?:[0-9]{1,9}S)?)?|[0-9]{1,9}M(?:[0-9]{1,9}S)?|\
             [0-9]{1,9}S))"
                .to_string(),
            None,
        ),
        // RFC 5321, 4.1.2: a local part without quotation marks, at a domain.
        "email" => {
            let atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]";
            (format!(r"{atom}{{1,30}}(?:\.{atom}{{1,30}})?@{LABEL}(?:\.{LABEL}){{0,2}}"), Some(254))
        }
        "hostname" => (format!(r"{LABEL}(?:\.{LABEL}){{0,3}}"), Some(253)),
        "ipv4" => (format!(r"(?:{BYTE}\.){{3}}{BYTE}"), None),
        // RFC 5952 without the rule where `::` stands; RFC 4291 without an IPv4 address at the end.
        "ipv6" => {
            let h = "[0-9A-Fa-f]{1,4}";
            let mut forms = vec![format!("(?:{h}:){{7}}{h}"), "::".to_string()];
            for before in 0..7 {
                let left = match before {
                    0 => ":".to_string(),
                    1 => format!("{h}:"),
                    n => format!("(?:{h}:){{{n}}}"),
                };
                // `::` stands for two groups at least.
                let after = 6 - before;
                if after > 0 {
                    forms.push(format!("{left}(?::{h}){{1,{after}}}"));
                }
                if before > 0 {
                    forms.push(format!("{left}:"));
                }
            }
            (format!("(?:{})", forms.join("|")), None)
        }
        "uuid" => (
            "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}".to_string(),
            None,
        ),
        // RFC 3986, with a host.
        "uri" => {
            let character = "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})";
            let host = format!(r"{LABEL}(?:\.{LABEL}){{0,3}}(?::[0-9]{{1,4}})?");
            let rest = format!(
                r"(?:/{character}*)*(?:\?(?:{character}|[/?])*)?(?:#(?:{character}|[/?])*)?"
            );
            (format!("[A-Za-z][A-Za-z0-9+.-]{{0,30}}://{host}{rest}"), None)
        }
        _ => return None,
    };
    Some(Format { pattern: format!("^(?:{body})$"), max })
}

/// Names of formats of strings, for messages.
pub(super) const NAMES: &str =
    "date, time, date-time, duration, email, hostname, ipv4, ipv6, uuid and uri";

/// Bounds of formats of numbers (<https://spec.openapis.org/registry/format/>); `Some(None)` for one
/// without.
pub(super) fn number(name: &str) -> Option<Option<(&'static str, &'static str)>> {
    Some(Some(match name {
        "int8" => ("-128", "127"),
        "int16" => ("-32768", "32767"),
        "int32" => ("-2147483648", "2147483647"),
        "int64" | "int" => ("-9223372036854775808", "9223372036854775807"),
        "uint8" => ("0", "255"),
        "uint16" => ("0", "65535"),
        "uint32" => ("0", "4294967295"),
        "uint64" | "uint" => ("0", "18446744073709551615"),
        "float" | "double" => return Some(None),
        _ => return None,
    }))
}
