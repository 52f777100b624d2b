use super::*;
use crate::arch::exception::{GP, UD};
use crate::cpu::CodeSize;
use crate::test_bench::Bench;

const GP0: Result<(), Exception> = Err(Exception::with_code(GP, 0));

/// MOV CRn, EAX (or RAX).
fn mov_cr(bench: &mut Bench, n: u8, value: u64) -> Result<(), Exception> {
    bench.cpu.regs[0] = value;
    bench.execute(&[0x0F, 0x22, 0xC0 | n << 3])
}

/// MOV DRn, EAX (or RAX).
fn mov_dr(bench: &mut Bench, n: u8, value: u64) -> Result<(), Exception> {
    bench.cpu.regs[0] = value;
    bench.execute(&[0x0F, 0x23, 0xC0 | n << 3])
}

#[test]
fn cr0_refuses_what_makes_no_sense() {
    let mut bench = Bench::protected();
    assert_eq!(mov_cr(&mut bench, 0, 0x8000_0010), GP0, "PG without PE");
    assert_eq!(mov_cr(&mut bench, 0, 0x2000_0011), GP0, "NW without CD");
    assert_eq!(
        mov_cr(&mut bench, 0, 0x0FF0_0001),
        Ok(()),
        "reserved bits are ignored"
    );
    assert_eq!(bench.cpu.cr0, Cr0::PE | Cr0::ET);
    let mut bench = Bench::long();
    let value = bench.cpu.cr0.bits();
    assert_eq!(mov_cr(&mut bench, 0, value | 1 << 32), GP0);
    assert_eq!(
        mov_cr(&mut bench, 0, value & !(1 << 31)),
        GP0,
        "paging off in 64-bit code"
    );
}

#[test]
fn to_long_mode_and_back() {
    let mut bench = Bench::protected();
    bench.cpu.efer |= Efer::LME;
    let on = (Cr0::PE | Cr0::PG).bits();
    assert_eq!(mov_cr(&mut bench, 0, on), GP0, "without PAE");
    assert_eq!(mov_cr(&mut bench, 4, Cr4::PAE.bits()), Ok(()));
    bench.cpu.segments[Seg::Cs as usize].access |= Segment::L;
    assert_eq!(mov_cr(&mut bench, 0, on), GP0, "CS.L");
    bench.cpu.segments[Seg::Cs as usize].access &= !Segment::L;
    assert_eq!(mov_cr(&mut bench, 0, on), Ok(()));
    assert!(bench.cpu.long_mode());
    assert_eq!(bench.cpu.mode.code, CodeSize::Bits32, "compatibility mode");
    assert_eq!(mov_cr(&mut bench, 4, 0), GP0, "PAE stays while LMA");
    bench.cpu.regs[1] = 0xC000_0080;
    bench.cpu.regs[0] = 0;
    bench.cpu.regs[2] = 0;
    assert_eq!(bench.execute(&[0x0F, 0x30]), GP0, "LME stays while paging");
    assert_eq!(mov_cr(&mut bench, 0, Cr0::PE.bits()), Ok(()));
    assert!(!bench.cpu.long_mode());
    assert_eq!(bench.cpu.efer, Efer::LME);
}

#[test]
fn turning_pae_paging_on_loads_the_pdptes() {
    let mut bench = Bench::protected();
    bench.cpu.cr3 = 0x3000;
    bench.write(0x3010, &0x5001u64.to_le_bytes());
    assert_eq!(mov_cr(&mut bench, 4, Cr4::PAE.bits()), Ok(()));
    assert_eq!(bench.cpu.pdpte, [0; 4]);
    assert_eq!(mov_cr(&mut bench, 0, (Cr0::PE | Cr0::PG).bits()), Ok(()));
    assert_eq!(bench.cpu.pdpte, [0, 0, 0x5001, 0]);
    bench.write(0x3010, &0x5003u64.to_le_bytes());
    let pge = (Cr4::PAE | Cr4::PGE).bits();
    assert_eq!(mov_cr(&mut bench, 4, pge), GP0);
    assert_eq!(bench.cpu.cr4, Cr4::PAE, "a fault changes nothing");
}

#[test]
fn cr4_bits_follow_cpuid() {
    let mut bench = Bench::new("qemu64");
    for (bit, there) in [
        (Cr4::VME, false),
        (Cr4::TSD, true),
        (Cr4::PSE, true),
        (Cr4::PCE, true),
        (Cr4::UMIP, false),
        (Cr4::PCIDE, false),
        (Cr4::SMEP, false),
        (Cr4::SMAP, false),
        (Cr4::OSXSAVE, false),
        (Cr4::VMXE, false),
        (Cr4::LA57, false),
        (Cr4::PKE, false),
    ] {
        let result = mov_cr(&mut bench, 4, bit.bits());
        assert_eq!(result, if there { Ok(()) } else { GP0 }, "{bit:?}");
    }
    let mut bench = Bench::long();
    let value = (Cr4::PAE | Cr4::SMEP | Cr4::SMAP | Cr4::UMIP | Cr4::FSGSBASE).bits();
    assert_eq!(mov_cr(&mut bench, 4, value), Ok(()));
    assert_eq!(mov_cr(&mut bench, 4, value | 1 << 40), GP0);
}

#[test]
fn cr3_has_forty_address_bits() {
    let mut bench = Bench::long();
    assert_eq!(mov_cr(&mut bench, 3, 0xFF_FFFF_F018), Ok(()));
    assert_eq!(bench.cpu.cr3, 0xFF_FFFF_F018);
    assert_eq!(mov_cr(&mut bench, 3, 1 << 40), GP0);
    assert_eq!(mov_cr(&mut bench, 3, 1 << 63), GP0);
}

#[test]
fn cr8_is_the_task_priority() {
    let mut bench = Bench::long();
    bench.cpu.regs[0] = 9;
    assert_eq!(bench.execute(&[0x44, 0x0F, 0x22, 0xC0]), Ok(()));
    assert_eq!(
        bench.board.tpr.load(std::sync::atomic::Ordering::Relaxed),
        9
    );
    assert_eq!(bench.execute(&[0x44, 0x0F, 0x20, 0xC3]), Ok(()));
    assert_eq!(bench.cpu.regs[3], 9);
    bench.cpu.regs[0] = 16;
    assert_eq!(bench.execute(&[0x44, 0x0F, 0x22, 0xC0]), GP0);
    // AMD's other encoding, which no model has: LOCK MOV CR0.
    let undefined = Err(Exception::new(UD));
    assert_eq!(bench.execute(&[0xF0, 0x0F, 0x22, 0xC0]), undefined);
}

#[test]
fn registers_that_do_not_exist_and_users() {
    let mut bench = Bench::protected();
    let undefined = Err(Exception::new(UD));
    for n in [1, 5, 6, 7] {
        assert_eq!(mov_cr(&mut bench, n, 0), undefined, "CR{n}");
    }
    assert_eq!(
        bench.execute(&[0xF0, 0x0F, 0x22, 0xC0]),
        undefined,
        "LOCK MOV CR0"
    );
    bench.user();
    for n in [0, 2, 3, 4] {
        assert_eq!(mov_cr(&mut bench, n, 0), GP0);
        assert_eq!(bench.execute(&[0x0F, 0x20, 0xC0 | n << 3]), GP0);
    }
    assert_eq!(mov_cr(&mut bench, 1, 0), undefined, "before the privilege");
    assert_eq!(mov_dr(&mut bench, 0, 0), GP0);
    assert_eq!(bench.execute(&[0x0F, 0x06]), GP0, "CLTS");
    assert_eq!(bench.execute(&[0x0F, 0x01, 0xF0]), GP0, "LMSW");
    assert_eq!(bench.execute(&[0x0F, 0x01, 0xCB]), undefined, "STAC");
}

#[test]
fn lmsw_sets_pe_and_never_clears_it() {
    let mut bench = Bench::new("max");
    bench.cpu.regs[0] = 0xFFF1;
    assert_eq!(bench.execute(&[0x0F, 0x01, 0xF0]), Ok(()));
    assert!(bench.cpu.protected());
    bench.cpu.regs[0] = 0x000E;
    assert_eq!(bench.execute(&[0x0F, 0x01, 0xF0]), Ok(()));
    let low = Cr0::PE | Cr0::MP | Cr0::EM | Cr0::TS;
    assert!(bench.cpu.cr0.contains(low));
    assert_eq!(bench.execute(&[0x0F, 0x06]), Ok(()));
    assert!(!bench.cpu.cr0.contains(Cr0::TS));
    assert_eq!(bench.execute(&[0x66, 0x0F, 0x01, 0xE3]), Ok(()), "SMSW EBX");
    assert_eq!(bench.cpu.regs[3], bench.cpu.cr0.bits());
}

#[test]
fn debug_registers() {
    let mut bench = Bench::protected();
    assert_eq!(mov_dr(&mut bench, 4, 0xFFFF_FFFF), Ok(()), "DR4 is DR6");
    assert_eq!(bench.cpu.dr6, 0xFFFF_EFFF);
    assert_eq!(mov_dr(&mut bench, 5, 0xFFFF_DFFF), Ok(()), "DR5 is DR7");
    assert_eq!(bench.cpu.dr7, 0xFFFF_07FF);
    bench.cpu.cr4 |= Cr4::DE;
    assert_eq!(mov_dr(&mut bench, 4, 0), Err(Exception::new(UD)));
    assert_eq!(mov_dr(&mut bench, 6, 0), Ok(()));
    assert_eq!(bench.cpu.dr6, 0xFFFF_0FF0);
    assert_eq!(mov_dr(&mut bench, 7, 1 << 13), Ok(()));
    assert_eq!(bench.execute(&[0x0F, 0x21, 0xC0]), Err(Exception::new(DB)));
    assert_eq!(bench.cpu.dr6, 0xFFFF_2FF0, "BD");
    let mut bench = Bench::long();
    assert_eq!(mov_dr(&mut bench, 7, 1 << 32), GP0);
    assert_eq!(mov_dr(&mut bench, 6, 1 << 63), GP0);
    assert_eq!(mov_dr(&mut bench, 3, 1 << 63), Ok(()));
    assert_eq!(bench.cpu.dr[3], 1 << 63);
}

#[test]
fn ac_suspends_smap() {
    let mut bench = Bench::long();
    assert_eq!(bench.execute(&[0x0F, 0x01, 0xCB]), Ok(()));
    assert!(bench.cpu.rflags().contains(RFlags::AC));
    assert_eq!(
        bench.cpu.privilege,
        crate::mem::tlb::Privilege::SupervisorAc
    );
    assert_eq!(bench.execute(&[0x0F, 0x01, 0xCA]), Ok(()));
    assert_eq!(bench.cpu.privilege, crate::mem::tlb::Privilege::Supervisor);
}
