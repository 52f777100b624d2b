//! What this machine's partial KVM (`kvm_pvm`: the kernel's instruction emulator, and the processor
//! itself for 64-bit ring 3) is known to do wrong. Each row counts on its own in a campaign's table.

use super::{Case, Mode};

/// One known error.
pub struct Known {
    /// What is wrong, and which document says so.
    pub what: &'static str,
    /// Whether it explains that a case differs in these lines.
    pub explains: fn(&Case, &[String]) -> bool,
}

/// The row that explains a difference.
pub fn explain(case: &Case, lines: &[String]) -> Option<&'static str> {
    let row = KNOWN.iter().find(|known| (known.explains)(case, lines));
    row.map(|known| known.what)
}

/// Whether the case runs on the processor itself.
fn native(case: &Case) -> bool {
    case.mode == Mode::Long && case.cpl == 3
}

/// The list.
const KNOWN: &[Known] = &[];
