//! Unquoted YAML 1.2 scalars by the core schema, in which `yes` and `no` are text.

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
}

/// The type an unquoted scalar has by itself.
pub(super) fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        _ => {}
    }
    if let Some(number) = integer(text) {
        return Plain::Int(number);
    }
    float(text).map_or(Plain::Text, Plain::Float)
}

/// Decimal, `0x` or `0o`.
pub(super) fn integer(text: &str) -> Option<i128> {
    if let Some(digits) = text.strip_prefix("0x") {
        return unsigned(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return unsigned(digits, 8);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn unsigned(digits: &str, radix: u32) -> Option<i128> {
    if digits.starts_with(['+', '-']) { None } else { i128::from_str_radix(digits, radix).ok() }
}

pub(super) fn float(text: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
    if has_digit && is_number { text.parse().ok() } else { None }
}

/// A word that other YAML versions take for a boolean.
pub(super) fn old_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "y" | "on" => Some(true),
        "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_mean_what_yaml_1_2_says() {
        assert_eq!(plain("yes"), Plain::Text);
        assert_eq!(plain("True"), Plain::Bool(true));
        assert_eq!(plain("~"), Plain::Null);
        assert_eq!(plain("0x1F"), Plain::Int(31));
        assert_eq!(plain("0o17"), Plain::Int(15));
        assert_eq!(plain("-12"), Plain::Int(-12));
        assert_eq!(plain("1e3"), Plain::Float(1000.0));
        assert_eq!(plain("1_000"), Plain::Text);
        assert_eq!(plain("12:30:45"), Plain::Text);
        assert_eq!(plain("1.2.3"), Plain::Text);
        assert_eq!(plain("0x+1"), Plain::Text);
        assert_eq!(plain("e"), Plain::Text);
    }
}
