//! Two logs of the same boot: where they part, times and addresses aside.

use std::collections::BTreeMap;

/// A difference with its cause.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Part of the lines it excuses, as [`normal`] gives them.
    pub part: &'static str,
    /// Why it is so, for people.
    pub cause: &'static str,
}

/// A line without what may differ from run to run: a time stamp in front, and all numbers.
pub fn normal(line: &str) -> String {
    let line = line.trim_end();
    let line = match line.split_once("] ") {
        Some((stamp, rest)) if stamp.starts_with(['[', '<']) => rest,
        _ => line,
    };
    let mut out = String::new();
    for part in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        out.push_str(&numberless(word));
        out.push_str(&part[word.len()..]);
    }
    out
}

/// A word with each number as `#`: all of it if it is a hexadecimal one, `bfff` too.
fn numberless(word: &str) -> String {
    let digit = |c: char| c.is_ascii_digit();
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let hex = digits.chars().all(|c| c.is_ascii_hexdigit());
    if hex && (digits.contains(digit) || digits.len() >= 4) {
        return "#".to_owned();
    }
    let mut out = String::new();
    for c in word.chars().map(|c| if digit(c) { '#' } else { c }) {
        if c != '#' || !out.ends_with('#') {
            out.push(c);
        }
    }
    out
}

/// The lines that one side has and the other has not, `-` theirs and `+` ours, in no order of time
/// (what SeaBIOS's threads and a kernel's workers say comes in any order), without what is `known`.
pub fn apart(ours: &str, theirs: &str, known: &[Known]) -> Vec<String> {
    let mut lines: BTreeMap<String, i64> = BTreeMap::new();
    for (text, one) in [(ours, 1), (theirs, -1)] {
        for line in text.lines().map(normal).filter(|line| !line.is_empty()) {
            *lines.entry(line).or_default() += one;
        }
    }
    let excused = |line: &str| known.iter().any(|k| line.contains(k.part));
    let mut out = Vec::new();
    for (line, count) in lines {
        let sign = if count > 0 { '+' } else { '-' };
        for _ in 0..count.unsigned_abs() {
            if !excused(&line) {
                out.push(format!("{sign} {line}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Known, apart, normal};

    #[test]
    fn numbers_do_not_count() {
        let line = "<4>[    0.1] ata1.00: at 0xC040, fd000000 1234:1111 face 2.5+ 103ms\r";
        assert_eq!(normal(line), "ata#.#: at #, # #:# # #.#+ #ms");
    }

    #[test]
    fn lines_of_one_side() {
        let known = [Known {
            part: "PIRQ",
            cause: "a test",
        }];
        let (ours, theirs) = ("a 1\nc\nPIRQ x\nb", "b\na 2\nd\nd\n");
        assert_eq!(apart(ours, theirs, &known), ["+ c", "- d", "- d"]);
    }
}
