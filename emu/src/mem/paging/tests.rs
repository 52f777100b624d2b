use super::*;
use crate::arch::exception::{GP, PF};
use crate::test_bench::Bench;

/// A way to map a page: mode and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    /// 2, 3 (PAE) or 4 levels.
    levels: u32,
    /// Page size as a power of two.
    shift: u32,
}

const fn format(levels: u32, shift: u32) -> Format {
    Format { levels, shift }
}

const FORMATS: [Format; 7] = [
    format(2, 12),
    format(2, 22),
    format(3, 12),
    format(3, 21),
    format(4, 12),
    format(4, 21),
    format(4, 30),
];
const LINEAR: u64 = 0x1234_5678;
const ROOT: u64 = 0x1000;
const USABLE: u64 = PRESENT | WRITABLE | USER;

impl Format {
    fn entry_bytes(self) -> u64 {
        if self.levels == 2 { 4 } else { 8 }
    }

    /// Physical addresses of the entries that map [`LINEAR`], from the top. The PDPTE of PAE paging
    /// is not among them. Tables stand at 1000h, 2000h, ...
    fn entries(self) -> Vec<u64> {
        let shifts: &[u32] = match self.levels {
            2 => &[22, 12],
            3 => &[21, 12],
            _ => &[39, 30, 21, 12],
        };
        let mask = 4096 / self.entry_bytes() - 1;
        (0..)
            .zip(shifts.iter().filter(|&&s| s >= self.shift))
            .map(|(at, &s)| ROOT + 0x1000 * at + (LINEAR >> s & mask) * self.entry_bytes())
            .collect()
    }

    fn bench(self) -> Bench {
        let mut bench = if self.levels == 4 {
            Bench::long()
        } else {
            Bench::protected()
        };
        let cpu = &mut bench.cpu;
        cpu.cr0 |= Cr0::PG | Cr0::WP;
        cpu.cr3 = ROOT;
        match self.levels {
            2 => cpu.cr4 |= Cr4::PSE,
            3 => {
                cpu.cr4 |= Cr4::PAE;
                cpu.cr3 = 0x8000;
                cpu.pdpte = [ROOT | PRESENT; 4];
            }
            _ => {}
        }
        cpu.efer |= Efer::NXE;
        cpu.update_mode();
        bench
    }

    /// Maps [`LINEAR`] to the page at physical 0 (large) or 9000h.
    fn map(self, bench: &Bench, upper: u64, leaf: u64) {
        let entries = self.entries();
        for (at, &address) in (1..).zip(&entries) {
            let value = match at == entries.len() as u64 {
                true if self.shift > 12 => leaf | LARGE,
                true => leaf | 0x9000,
                false => upper | (ROOT + 0x1000 * at),
            };
            self.put(bench, address, value);
        }
    }

    fn put(self, bench: &Bench, address: u64, value: u64) {
        let bytes = value.to_le_bytes();
        bench.write(address, &bytes[..self.entry_bytes() as usize]);
    }

    fn get(self, bench: &Bench, address: u64) -> u64 {
        bench.read(address, self.entry_bytes())
    }
}

const ACCESSES: [Access; 3] = [Access::Read, Access::Write, Access::Execute];
const PRIVILEGES: [Privilege; 3] = [
    Privilege::Supervisor,
    Privilege::SupervisorAc,
    Privilege::User,
];

fn attempt(bench: &mut Bench, access: Access, privilege: Privilege) -> Result<u64, u32> {
    let result = bench.cpu.translate(LINEAR, access, privilege);
    match bench.outcome(result) {
        Ok(translation) => Ok(translation.physical),
        Err(exception) => {
            assert_eq!((exception.vector, exception.cr2), (PF, Some(LINEAR)));
            Err(exception.error_code.unwrap_or(u32::MAX))
        }
    }
}

/// One combination of everything that decides about rights.
#[derive(Clone, Copy, Debug)]
struct Combination {
    format: Format,
    access: Access,
    privilege: Privilege,
    upper: u64,
    leaf: u64,
    wp: bool,
    smep: bool,
    smap: bool,
    nxe: bool,
}

impl Combination {
    /// The error code by the letter of SDM Vol. 3A, "Page-Fault Exceptions"; `None`: no fault.
    fn expected(&self) -> Option<u32> {
        let wide = self.format.levels > 2;
        let user = self.privilege == Privilege::User;
        let fetch = self.access == Access::Execute;
        let mut code = if user { 4 } else { 0 };
        if self.access == Access::Write {
            code |= 2;
        }
        if fetch && (self.nxe && wide || self.smep) {
            code |= 16;
        }
        if self.leaf & PRESENT == 0 {
            return Some(code);
        }
        if self.leaf & NO_EXECUTE != 0 && wide && !self.nxe {
            return Some(code | 1 | 8);
        }
        let single = self.format.entries().len() == 1;
        let all = |bit| self.leaf & bit != 0 && (single || self.upper & bit != 0);
        let (user_page, writable) = (all(USER), all(WRITABLE));
        let no_execute = self.leaf & NO_EXECUTE != 0 && wide;
        let denied = if user {
            !user_page || self.access == Access::Write && !writable || fetch && no_execute
        } else if fetch {
            no_execute || user_page && self.smep
        } else {
            let protected = user_page && self.smap && self.privilege != Privilege::SupervisorAc;
            protected || self.access == Access::Write && !writable && self.wp
        };
        denied.then_some(code | 1)
    }

    fn check(&self, bench: &mut Bench) {
        let cpu = &mut bench.cpu;
        cpu.cr0.set(Cr0::WP, self.wp);
        cpu.cr4.set(Cr4::SMEP, self.smep);
        cpu.cr4.set(Cr4::SMAP, self.smap);
        cpu.efer.set(Efer::NXE, self.nxe);
        self.format.map(bench, self.upper, self.leaf);
        let found = attempt(bench, self.access, self.privilege).err();
        assert_eq!(found, self.expected(), "{self:x?}");
    }
}

#[test]
fn every_combination_of_rights() {
    for format in FORMATS {
        let mut bench = format.bench();
        for bits in 0..1u32 << 10 {
            let bit = |n: u32, value: u64| if bits >> n & 1 != 0 { value } else { 0 };
            for access in ACCESSES {
                for privilege in PRIVILEGES {
                    let leaf = bit(0, PRESENT) | bit(1, WRITABLE) | bit(2, USER);
                    let combination = Combination {
                        format,
                        access,
                        privilege,
                        upper: PRESENT | bit(4, WRITABLE) | bit(5, USER),
                        leaf: leaf | bit(3, NO_EXECUTE),
                        wp: bit(6, 1) != 0,
                        smep: bit(7, 1) != 0,
                        smap: bit(8, 1) != 0,
                        nxe: bit(9, 1) != 0,
                    };
                    combination.check(&mut bench);
                }
            }
        }
    }
}

#[test]
fn a_missing_upper_entry_is_not_present() {
    for format in FORMATS {
        for &address in &format.entries() {
            let mut bench = format.bench();
            format.map(&bench, USABLE, USABLE);
            format.put(&bench, address, !PRESENT & 0xFFFF_FFFF);
            assert_eq!(attempt(&mut bench, Access::Write, Privilege::User), Err(6));
        }
    }
    let mut bench = format(3, 12).bench();
    bench.cpu.pdpte = [0; 4];
    assert_eq!(
        attempt(&mut bench, Access::Read, Privilege::Supervisor),
        Err(0)
    );
}

/// Bits of an entry that are reserved: at a leaf of this size or a table.
fn reserved(format: Format, shift: u32, leaf: bool) -> u64 {
    match (format.levels, leaf, shift) {
        (2, true, 22) => 1 << 21,
        (2, ..) => 0,
        (levels, leaf, shift) => {
            let high = 0x000F_FF00_0000_0000 | if levels == 3 { 0x7FF << 52 } else { 0 };
            high | match (leaf, shift) {
                (true, 30) => 0x3FFF_E000,
                (true, 21) => 0x1F_E000,
                (false, 30 | 39) => LARGE,
                _ => 0,
            }
        }
    }
}

#[test]
fn reserved_bits_fault_and_others_do_not() {
    for format in FORMATS {
        let entries = format.entries();
        for (at, &address) in entries.iter().enumerate() {
            let leaf = at + 1 == entries.len();
            let top = match format.levels {
                2 => 22,
                3 => 21,
                _ => 39,
            };
            let step = if format.levels == 2 { 10 } else { 9 };
            let shift = top - step * at as u32;
            for bit in 0..8 * format.entry_bytes() as u32 {
                let flag = 1 << bit;
                // Flags with a meaning, and those that lead elsewhere.
                let address_bit = (12..40).contains(&bit) && (!leaf || bit >= format.shift);
                if flag & (USABLE | NO_EXECUTE) != 0 || address_bit && bit < 40 {
                    continue;
                }
                if !leaf && flag == LARGE && shift != 39 {
                    continue;
                }
                let mut bench = format.bench();
                format.map(&bench, USABLE, USABLE);
                let value = format.get(&bench, address);
                format.put(&bench, address, value | flag);
                let wanted = if reserved(format, shift, leaf) & flag != 0 {
                    Err(9)
                } else {
                    Ok(())
                };
                let found = attempt(&mut bench, Access::Read, Privilege::Supervisor).map(|_| ());
                assert_eq!(found, wanted, "{format:?} level {at} bit {bit}");
            }
        }
    }
}

#[test]
fn pages_of_one_gigabyte_need_their_feature() {
    let format = format(4, 30);
    let mut bench = format.bench();
    let model = crate::arch::cpuid::CpuModel::by_name("qemu64");
    bench.cpu.model = std::sync::Arc::new(model.unwrap_or_else(|| panic!("no qemu64")));
    format.map(&bench, USABLE, USABLE);
    assert_eq!(attempt(&mut bench, Access::Read, Privilege::User), Err(13));
}

#[test]
fn accessed_and_dirty() {
    for format in FORMATS {
        let entries = format.entries();
        let marks = |bench: &Bench| -> Vec<u64> {
            let mark = |&e: &u64| format.get(bench, e) & (ACCESSED | DIRTY);
            entries.iter().map(mark).collect()
        };
        let mut bench = format.bench();
        format.map(&bench, USABLE, PRESENT | USER);
        assert_eq!(attempt(&mut bench, Access::Write, Privilege::User), Err(7));
        assert_eq!(
            marks(&bench).last(),
            Some(&0),
            "a fault leaves the page's entry"
        );
        assert!(attempt(&mut bench, Access::Read, Privilege::User).is_ok());
        assert!(marks(&bench).iter().all(|&m| m == ACCESSED), "{format:?}");
        format.map(&bench, USABLE, USABLE);
        assert!(attempt(&mut bench, Access::Write, Privilege::User).is_ok());
        let (leaf, upper) = match marks(&bench).as_slice() {
            [upper @ .., leaf] => (*leaf, upper.to_vec()),
            [] => panic!("no entries"),
        };
        assert_eq!(leaf, ACCESSED | DIRTY);
        assert!(upper.iter().all(|&m| m == ACCESSED));
    }
}

#[test]
fn addresses() {
    for format in FORMATS {
        let mut bench = format.bench();
        format.map(&bench, USABLE, USABLE);
        let inside = LINEAR & ((1 << format.shift) - 1);
        let page = if format.shift == 12 { 0x9000 } else { 0 };
        let found = attempt(&mut bench, Access::Read, Privilege::User);
        assert_eq!(found, Ok(page + inside), "{format:?}");
    }
    // PSE-36: bits 20:13 of the entry are address bits 39:32.
    let format = format(2, 22);
    let mut bench = format.bench();
    format.map(&bench, USABLE, USABLE | 0x1F_E000 | 0xFFC0_0000);
    let found = attempt(&mut bench, Access::Read, Privilege::User);
    assert_eq!(found, Ok(0xFF_FFC0_0000 | LINEAR & 0x3F_FFFF));
    // Without CR4.PSE the bit means nothing: the entry leads to a table.
    bench.cpu.cr4 -= Cr4::PSE;
    format.map(&bench, USABLE, USABLE | 0x2000);
    let inner = 0x2000 + (LINEAR >> 12 & 0x3FF) * 4;
    format.put(&bench, inner, USABLE | 0xA000);
    assert_eq!(
        attempt(&mut bench, Access::Read, Privilege::User),
        Ok(0xA678)
    );
}

#[test]
fn pdpte_registers_are_loaded_by_mov_to_cr3_and_refuse_reserved_bits() {
    const MOV_CR3_EAX: [u8; 3] = [0x0F, 0x22, 0xD8];
    let mut bench = format(3, 12).bench();
    bench.cpu.regs[0] = 0x8020;
    bench.write(0x8028, &(0x5000 | PRESENT).to_le_bytes());
    assert_eq!(bench.execute(&MOV_CR3_EAX), Ok(()));
    assert_eq!(bench.cpu.pdpte, [0, 0x5000 | PRESENT, 0, 0]);
    for bit in 1..64 {
        let value = PRESENT | 1 << bit;
        bench.write(0x8028, &u64::to_le_bytes(value));
        let refused = matches!(bit, 1 | 2 | 5..=8) || bit >= 40;
        let result = bench.execute(&MOV_CR3_EAX);
        let fault = Exception::with_code(GP, 0);
        assert_eq!(
            result,
            if refused { Err(fault) } else { Ok(()) },
            "bit {bit}"
        );
        // Not present: nothing is reserved.
        bench.write(0x8028, &u64::to_le_bytes(value & !PRESENT));
        assert_eq!(bench.execute(&MOV_CR3_EAX), Ok(()), "bit {bit}");
    }
}

/// What a read at [`LINEAR`] finds, by way of the TLB.
fn peek(bench: &mut Bench) -> u8 {
    let result = bench.cpu.read_linear(LINEAR, false);
    bench.outcome(result).unwrap_or(0xEE)
}

/// Changes the mapping behind the TLB's back, does `flush`, and looks whether it was seen.
fn sees_change(format: Format, global: bool, flush: impl Fn(&mut Bench)) -> bool {
    let mut bench = format.bench();
    bench.cpu.cr4 |= Cr4::PGE;
    let g = if global { GLOBAL } else { 0 };
    format.map(&bench, USABLE, USABLE | g);
    assert_eq!(peek(&mut bench), if format.shift == 12 { 0 } else { 0xEE });
    format.map(&bench, USABLE, 0);
    flush(&mut bench);
    peek(&mut bench) == 0xEE
}

#[test]
fn invalidations() {
    let small = format(4, 12);
    let mov_cr3 = |bench: &mut Bench| {
        bench.cpu.regs[0] = ROOT;
        assert_eq!(bench.execute(&[0x0F, 0x22, 0xD8]), Ok(()));
    };
    let invlpg = |bench: &mut Bench| {
        bench.cpu.regs[0] = LINEAR & !0xFFF;
        assert_eq!(bench.execute(&[0x0F, 0x01, 0x38]), Ok(()));
    };
    let toggle_pge = |bench: &mut Bench| {
        bench.cpu.regs[0] = (bench.cpu.cr4 ^ Cr4::PGE).bits();
        assert_eq!(bench.execute(&[0x0F, 0x22, 0xE0]), Ok(()));
    };
    assert!(!sees_change(small, false, |_| {}));
    assert!(sees_change(small, false, mov_cr3));
    assert!(!sees_change(small, true, mov_cr3));
    assert!(sees_change(small, true, invlpg));
    assert!(sees_change(small, true, toggle_pge));
    assert!(!small.bench().cpu.cr4.contains(Cr4::PGE));
    let mut bench = small.bench();
    small.map(&bench, USABLE, USABLE | GLOBAL);
    let found = bench.cpu.translate(LINEAR, Access::Read, Privilege::User);
    let found = bench.outcome(found).map(|found| found.global);
    assert_eq!(found, Ok(false), "G without CR4.PGE");
    assert!(sees_change(small, true, |bench| {
        // A fault drops what is cached of its page: here a fetch from a page that is not there.
        let found = attempt(bench, Access::Execute, Privilege::User);
        assert_eq!(found, Err(20));
    }));
}

#[test]
fn invlpg_drops_all_of_a_large_page() {
    let format = format(4, 21);
    let mut bench = format.bench();
    // 200000h..400000h to 0.
    for (at, value) in [(0x1000, 0x2000), (0x2000, 0x3000)] {
        bench.write(at, &u64::to_le_bytes(value | USABLE));
    }
    bench.write(0x3008, &u64::to_le_bytes(USABLE | LARGE));
    bench.write(0x3010, &u64::to_le_bytes(USABLE | LARGE));
    let peek = |bench: &mut Bench, at: u64| {
        let result = bench.cpu.read_linear::<u8>(at, false);
        bench.outcome(result).is_ok()
    };
    assert!(peek(&mut bench, 0x20_5000) && peek(&mut bench, 0x40_6000));
    bench.write(0x3008, &[0; 16]);
    bench.cpu.regs[0] = 0x20_0000;
    assert_eq!(bench.execute(&[0x0F, 0x01, 0x38]), Ok(()));
    assert!(!peek(&mut bench, 0x20_5000));
    assert!(peek(&mut bench, 0x40_6000));
}

#[test]
fn addresses_that_are_not_canonical_are_no_page_faults() {
    let mut bench = format(4, 12).bench();
    for linear in [1 << 47, 1 << 63, 0xFFFF_0000_0000_0000] {
        let data = bench.cpu.read_linear::<u32>(linear, false);
        assert_eq!(bench.outcome(data), Err(Exception::with_code(GP, 0)));
        let stack = bench.cpu.read_linear::<u32>(linear, true);
        let vector = crate::arch::exception::SS;
        assert_eq!(bench.outcome(stack), Err(Exception::with_code(vector, 0)));
    }
}
