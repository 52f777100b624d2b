//! `info mem` and `info tlb`: what is mapped, by the page tables as they lie in memory.
//!
//! Tables can lead to each other and map more pages than anybody reads: the walk and what is shown of it
//! are bounded, and it is said where something is missing.

use std::fmt::Write;

use super::Session;
use super::arguments::Arguments;
use super::commands::Reply;
use crate::inspect::Page;

/// The most lines shown.
const MOST_LINES: usize = 1 << 16;

const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// What the letters of `info tlb` stand for: bits of an entry.
#[rustfmt::skip]
const LETTERS: [(u32, char); 9] = [
    (63, 'X'), (8, 'G'), (7, 'P'), (6, 'D'), (5, 'A'), (4, 'C'), (3, 'T'), (2, 'U'), (1, 'W'),
];

const CUT: &str = "... there is more: the listing ends here\n";

fn letter(set: bool, letter: char) -> char {
    if set { letter } else { '-' }
}

/// `info tlb`.
pub(super) fn tlb(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    let memory = session.snapshot()?.linear();
    if !memory.paged() {
        return Ok("PG disabled\n".to_string());
    }
    let mut text = String::new();
    let mut lines = 0;
    let whole = memory.pages(|page| {
        lines += 1;
        if lines > MOST_LINES {
            return false;
        }
        let letters = LETTERS.map(|(bit, c)| letter(page.entry >> bit & 1 != 0, c));
        let letters: String = letters.iter().collect();
        let _ = writeln!(
            text,
            "{:016x}: {:016x} {letters}",
            page.linear, page.physical
        );
        true
    });
    if !whole {
        text.push_str(CUT);
    }
    Ok(text)
}

/// Pages one behind the other with the same rights.
#[derive(Clone, Copy)]
struct Stretch {
    first: u64,
    size: u64,
    rights: u64,
}

impl Stretch {
    fn of(page: &Page) -> Self {
        Self {
            first: page.linear,
            size: page.size,
            rights: page.rights & (USER | WRITABLE),
        }
    }

    /// Takes a stretch in, if it goes on here.
    fn join(&mut self, next: &Self) -> bool {
        let joins = self.first.wrapping_add(self.size) == next.first && self.rights == next.rights;
        if joins {
            self.size = self.size.wrapping_add(next.size);
        }
        joins
    }

    fn show(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "{:016x}-{:016x} {:016x} {}r{}",
            self.first,
            self.first.wrapping_add(self.size),
            self.size,
            letter(self.rights & USER != 0, 'u'),
            letter(self.rights & WRITABLE != 0, 'w')
        );
    }
}

/// `info mem`.
pub(super) fn mem(session: &mut Session, arguments: Arguments<'_>) -> Reply {
    arguments.end()?;
    let memory = session.snapshot()?.linear();
    if !memory.paged() {
        return Ok("PG disabled\n".to_string());
    }
    let mut text = String::new();
    let mut lines = 0;
    let mut now: Option<Stretch> = None;
    let whole = memory.pages(|page| {
        let next = Stretch::of(&page);
        if now.as_mut().is_some_and(|stretch| stretch.join(&next)) {
            return true;
        }
        if let Some(before) = now.replace(next) {
            before.show(&mut text);
            lines += 1;
        }
        lines < MOST_LINES
    });
    if let Some(last) = now {
        last.show(&mut text);
    }
    if !whole {
        text.push_str(CUT);
    }
    Ok(text)
}
