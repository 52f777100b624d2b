//! Each of iced's codes has one row or one reason.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::io::Write as _;

use emu::arch::cpuid::CpuModel;
use emu::insn;
use iced_x86::Code;

use crate::unimplemented::{Selector, UNIMPLEMENTED};

/// One thing an entry names: a feature, an encoding, a code.
struct Item {
    name: String,
    selects: Box<dyn Fn(Code) -> bool>,
}

fn items(selector: Selector) -> Vec<Item> {
    let item = |name: String, selects| Item { name, selects };
    match selector {
        Selector::Features(features) => {
            let one = |&f| {
                let selects = move |code: Code| code.cpuid_features().contains(&f);
                item(format!("{f:?}"), Box::new(selects) as _)
            };
            features.iter().map(one).collect()
        }
        Selector::Encodings(encodings) => {
            let one = |&e| {
                let selects = move |code: Code| code.encoding() == e;
                item(format!("{e:?}"), Box::new(selects) as _)
            };
            encodings.iter().map(one).collect()
        }
        Selector::Codes(codes) => {
            let one = |&c| {
                let selects = move |code| code == c;
                item(format!("{c:?}"), Box::new(selects) as _)
            };
            codes.iter().map(one).collect()
        }
    }
}

/// The reason of each code that an entry claims, and what is wrong with the entries.
fn claims() -> (BTreeMap<u16, &'static str>, Vec<String>) {
    let mut claimed = BTreeMap::new();
    let mut stale = Vec::new();
    for &(reason, selector) in UNIMPLEMENTED {
        for item in items(selector) {
            let mut fresh = 0;
            let mut rows = 0;
            for code in Code::values().filter(|&code| (item.selects)(code)) {
                if insn::row(code).is_some() {
                    rows += 1;
                } else if let Entry::Vacant(place) = claimed.entry(code as u16) {
                    place.insert(reason);
                    fresh += 1;
                }
            }
            if fresh == 0 {
                stale.push(format!("{} claims nothing that is left", item.name));
            }
            if rows > 0 {
                stale.push(format!("{}: {rows} of its codes have rows", item.name));
            }
        }
    }
    (claimed, stale)
}

/// A code's features, as the table names them.
fn features(code: Code) -> String {
    let names: Vec<String> = (code.cpuid_features().iter())
        .map(|f| format!("{f:?}"))
        .collect();
    names.join("+")
}

/// The coverage table: features that have rows one by one, all others by their reason.
fn table(claimed: &BTreeMap<u16, &'static str>, model: &CpuModel) -> String {
    let mut by_feature: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    let mut by_reason: BTreeMap<&str, usize> = BTreeMap::new();
    let mut shown: BTreeMap<String, bool> = BTreeMap::new();
    for code in Code::values() {
        let name = features(code);
        let row = insn::row(code).is_some();
        by_feature.entry(name.clone()).or_default()[usize::from(!row)] += 1;
        let supported = code.cpuid_features().iter().all(|&f| model.supports(f));
        shown.insert(name, supported);
        if let Some(reason) = claimed.get(&(code as u16)) {
            *by_reason.entry(reason).or_default() += 1;
        }
    }
    let mut text = format!("{:<24} rows  reasoned  in CPUID\n", "feature");
    for (name, [rows, reasoned]) in by_feature.iter().filter(|(_, counts)| counts[0] > 0) {
        let shown = if shown[name] { "max" } else { "-" };
        let _ = writeln!(text, "{name:<24} {rows:>4}  {reasoned:>8}  {shown}");
    }
    let rows: usize = by_feature.values().map(|counts| counts[0]).sum();
    let reasoned: usize = by_feature.values().map(|counts| counts[1]).sum();
    let _ = writeln!(text, "{:<24} {rows:>4}  {reasoned:>8}", "all");
    text.push_str("\n#UD  reason\n");
    for (reason, count) in by_reason {
        let _ = writeln!(text, "{count:>4} {reason}");
    }
    text
}

#[test]
fn every_code_has_a_row_or_a_reason() -> std::io::Result<()> {
    let max = CpuModel::by_name("max").expect("there is a model with everything");
    let (claimed, mut wrong) = claims();
    for code in Code::values() {
        match insn::row(code) {
            Some(row) => {
                let times = row.codes.iter().filter(|&&c| c == code).count();
                if times != 1 {
                    wrong.push(format!("{code:?} stands {times} times in its row"));
                }
            }
            None if !claimed.contains_key(&(code as u16)) => {
                wrong.push(format!("{code:?} ({}) has neither", features(code)));
            }
            None => {}
        }
    }
    std::io::stdout().write_all(table(&claimed, &max).as_bytes())?;
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// What CPUID shows is there: no model has a feature that an entry calls missing.
#[test]
fn no_model_shows_what_has_no_row() {
    for name in CpuModel::names() {
        let model = CpuModel::by_name(name).expect("a name from the list");
        for &(reason, selector) in UNIMPLEMENTED {
            if let Selector::Features(features) = selector {
                for &feature in features {
                    assert!(!model.supports(feature), "{name}: {feature:?}: {reason}");
                }
            }
        }
    }
}
