//! The tables of fixed form, and how all of them are joined.

use super::loader::{Builder, File, Files};
use super::{
    ACPI_DISABLE, ACPI_ENABLE, CENTURY, Description, GPE0, HPET_BASE, HPET_ID, IO_APIC, LOCAL_APIC,
    PM_BASE, SCI, SMI_COMMAND, dsdt,
};

/// Who made the tables: six characters, then eight for the machine.
const OEM_ID: &[u8; 6] = b"TWIN86";
const OEM_TABLE_ID: &[u8; 8] = b"TWIN86PC";
const OEM_REVISION: u32 = 1;
const CREATOR_ID: &[u8; 4] = b"TW86";
const CREATOR_REVISION: u32 = 1;

/// Size of a table's header, and where its checksum lies.
const HEADER: usize = 36;
const CHECKSUM: usize = 9;
/// Where FACP holds the addresses of FACS and DSDT, after its header.
const FACP_FACS: usize = 36;
const FACP_DSDT: usize = 40;

pub(super) fn files(machine: &Description) -> Files {
    let mut out = Builder::new();
    let facs = out.append(&facs());
    let dsdt = sealed(&mut out, &table(b"DSDT", 1, &dsdt::block(machine)));
    let facp = out.append(&table(b"FACP", 1, &facp()));
    out.point(File::Tables, facp.start + FACP_FACS, facs.start);
    out.point(File::Tables, facp.start + FACP_DSDT, dsdt);
    out.sum(File::Tables, facp.start + CHECKSUM, facp.clone());
    let mut tables = vec![facp.start];
    tables.push(sealed(&mut out, &table(b"APIC", 1, &madt(machine.cpus))));
    if machine.has(&["hpet"]) {
        tables.push(sealed(&mut out, &table(b"HPET", 1, &hpet())));
    }
    tables.push(sealed(&mut out, &table(b"WAET", 1, &waet())));
    let rsdt = out.append(&table(b"RSDT", 1, &vec![0; tables.len() * 4]));
    for (n, table) in tables.into_iter().enumerate() {
        out.point(File::Tables, rsdt.start + HEADER + 4 * n, table);
    }
    out.sum(File::Tables, rsdt.start + CHECKSUM, rsdt.clone());
    out.finish(rsdp(), rsdt.start)
}

/// Appends a table that holds no address, and has it summed up; returns its offset.
fn sealed(out: &mut Builder, table: &[u8]) -> usize {
    let place = out.append(table);
    let start = place.start;
    out.sum(File::Tables, start + CHECKSUM, place);
    start
}

/// A table: header and body.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut table = signature.to_vec();
    table.extend(((HEADER + body.len()) as u32).to_le_bytes());
    table.extend([revision, 0]);
    table.extend(OEM_ID);
    table.extend(OEM_TABLE_ID);
    table.extend(OEM_REVISION.to_le_bytes());
    table.extend(CREATOR_ID);
    table.extend(CREATOR_REVISION.to_le_bytes());
    table.extend(body);
    table
}

/// The root pointer of ACPI 1.0; the address of the RSDT is added later.
fn rsdp() -> Vec<u8> {
    let mut rsdp = b"RSD PTR \0".to_vec();
    rsdp.extend(OEM_ID);
    rsdp.extend([0; 5]);
    rsdp
}

/// The firmware control structure: the global lock, and room for a waking vector.
fn facs() -> [u8; 64] {
    let mut facs = [0; 64];
    facs[..4].copy_from_slice(b"FACS");
    facs[4] = 64;
    facs
}

/// The fixed table, of ACPI 1.0: where power management's registers are.
fn facp() -> Vec<u8> {
    /// WBINVD works, C1 on all processors, the sleep button is no fixed one, S4 can be left by the RTC, and
    /// (though ACPI 1.0 does not know it) the platform's timers are better than the processors'.
    const FLAGS: u32 = 1 << 0 | 1 << 2 | 1 << 5 | 1 << 7 | 1 << 15;
    const MULTIPLE_APIC: u8 = 1;
    /// Latencies of C2 and C3 that say there are none.
    const NO_C_STATE: u16 = 0xFFF;
    let pm = u32::from(PM_BASE);
    let mut facp = vec![0; 8];
    facp.extend([MULTIPLE_APIC, 0]);
    facp.extend(SCI.to_le_bytes());
    facp.extend(u32::from(SMI_COMMAND).to_le_bytes());
    facp.extend([ACPI_ENABLE, ACPI_DISABLE, 0, 0]);
    // Events, controls, timer; the second of each and PM2 are not there.
    let blocks = [pm, 0, pm + 4, 0, 0, pm + 8, GPE0.into(), 0];
    facp.extend(blocks.map(u32::to_le_bytes).as_flattened());
    // Their lengths; the first event of the second block.
    facp.extend([4, 2, 0, 4, 4, 0, 0, 0]);
    facp.extend([NO_C_STATE.to_le_bytes(), NO_C_STATE.to_le_bytes()].as_flattened());
    // Flush size and stride, duty cycle, alarm bytes of the RTC.
    facp.extend([0; 8]);
    facp.extend([CENTURY, 0, 0, 0]);
    facp.extend(FLAGS.to_le_bytes());
    facp
}

/// The interrupt controllers and how ISA interrupts reach them.
fn madt(cpus: u32) -> Vec<u8> {
    const PC_AT: u32 = 1;
    const ENABLED: u32 = 1;
    const ACTIVE_HIGH: u16 = 1;
    const LEVEL: u16 = 3 << 2;
    const ALL_PROCESSORS: u8 = 0xFF;
    let mut madt = LOCAL_APIC.to_le_bytes().to_vec();
    madt.extend(PC_AT.to_le_bytes());
    for id in (0..cpus).map(|id| id as u8) {
        madt.extend([0, 8, id, id]);
        madt.extend(ENABLED.to_le_bytes());
    }
    madt.extend([1, 12, 0, 0]);
    madt.extend(IO_APIC.to_le_bytes());
    madt.extend(0u32.to_le_bytes());
    // The 8254 is at input 2. What PCI may use is level and active high on the way to the IOAPIC.
    let shared = ACTIVE_HIGH | LEVEL;
    for (irq, input, flags) in [
        (0, 2, 0),
        (5, 5, shared),
        (9, 9, shared),
        (10, 10, shared),
        (11, 11, shared),
    ] {
        madt.extend([2, 10, 0, irq]);
        madt.extend(u32::to_le_bytes(input));
        madt.extend(u16::to_le_bytes(flags));
    }
    // NMI is LINT1 of every local APIC, as the bus has it.
    madt.extend([4, 6, ALL_PROCESSORS, 0, 0, 1]);
    madt
}

/// Where the HPET is.
fn hpet() -> Vec<u8> {
    let mut hpet = HPET_ID.to_le_bytes().to_vec();
    // A generic address: in memory, its widths as the HPET has them.
    hpet.extend([0; 4]);
    hpet.extend(u64::from(HPET_BASE).to_le_bytes());
    // The first HPET, without a least count or protected pages.
    hpet.extend([0; 4]);
    hpet
}

/// What a guest need not do because this is no hardware: read the PM timer more than once.
fn waet() -> [u8; 4] {
    const PM_TIMER_GOOD: u32 = 1 << 1;
    PM_TIMER_GOOD.to_le_bytes()
}
