//! The guest that is built into the program, run as the program runs it: what it reports, that the
//! engines agree on its flow, and that a machine shares nothing with another one.

use std::io;
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use accel::kvm::{Kvm, Rescues};
use accel::lockstep::{Lockstep, Mode};
use accel::tcg::Tcg;
use accel::{Accel, AccelError, CpuIo, CpuModel, CpuState, MemoryMap, Vcpu, Vm, VmConfig};
use devices::board::BoardOptions;
use devices::board::build::Parts;
use emu::arch::{Cr0, Cr4, Efer, RFlags, Seg, Segment};
use emu::io::NoBoard;
use emu::state::{Activity, Shadow};
use testsuite::guest::Guest;
use testsuite::random::Random;
use testsuite::skip::skip;
use twin86::embedded::{self, EmbeddedError, Report, Run};
use twin86::flow;
use twin86::guest;
use twin86::machine::{Machine, MachineConfig, Outcome};
use twin86::trace::{Items, Log};

fn model() -> CpuModel {
    CpuModel::by_name("qemu64").expect("qemu64 is a model")
}

fn all_parts() -> Run {
    Run {
        memory: 64 << 20,
        cpu: model(),
        parts: guest::ALL,
        icount: None,
        observer: None,
        limit: embedded::LIMIT,
        switches: Vec::new(),
    }
}

/// The bits of some parts.
fn parts(names: &[&str]) -> u64 {
    let bit = |name: &&str| {
        let at = guest::PARTS.iter().position(|part| part.name == *name);
        1 << at.unwrap_or_else(|| panic!("{name} is no part"))
    };
    names.iter().map(bit).sum()
}

fn run(run: &Run, accel: &dyn Accel, unavailable: u64) -> Report {
    embedded::run(run, accel, unavailable, Box::new(io::sink())).expect("the guest runs")
}

/// Checks that each part has reported, and passed but for the unavailable ones.
fn check(report: &Report, unavailable: u64) {
    let serial = String::from_utf8_lossy(&report.serial);
    assert!(report.passed(), "{:?}\n{serial}", report.outcome);
    for (n, part) in guest::PARTS.iter().enumerate() {
        let line = serial.lines().find(|line| {
            let name = line.split(' ').next();
            name == Some(part.name)
        });
        let line = line.unwrap_or_else(|| panic!("no line for {}\n{serial}", part.name));
        let word = if unavailable >> n & 1 == 0 {
            "ok"
        } else {
            "skipped"
        };
        let said = line
            .trim_start_matches(part.name)
            .trim_start_matches([' ', '.']);
        assert!(said.starts_with(word), "{line}");
    }
    let skipped = unavailable.count_ones() as usize;
    let ok = guest::PARTS.len() - skipped;
    let result = format!("result: {ok} ok, 0 failed, {skipped} skipped");
    assert!(serial.contains(&result), "no `{result}` in\n{serial}");
}

/// KVM with the parts it cannot run, each named; `None` where there is no KVM.
fn kvm() -> Option<(Kvm, u64)> {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => {
            skip("kvm", &error);
            return None;
        }
    };
    if !kvm.is_partial() {
        return Some((kvm, 0));
    }
    let unavailable = guest::not_on_partial_kvm();
    for (n, part) in guest::PARTS.iter().enumerate() {
        if unavailable >> n & 1 != 0 {
            skip(
                "whole-kvm",
                &format_args!("part {}: a partial KVM cannot run it", part.name),
            );
        }
    }
    Some((kvm, unavailable))
}

#[test]
fn every_part_passes_on_tcg() {
    let report = run(&all_parts(), &Tcg, 0);
    check(&report, 0);
}

/// The virtual-8086 mode extensions and protected-mode virtual interrupts, which qemu64 has not.
#[test]
fn virtual_interrupts_pass_on_tcg() {
    let run_of = Run {
        cpu: CpuModel::by_name("max").expect("max is a model"),
        parts: parts(&["prot-iopl", "vm86-vme"]),
        ..all_parts()
    };
    let report = run(&run_of, &Tcg, 0);
    let serial = String::from_utf8_lossy(&report.serial);
    assert!(report.passed(), "{:?}\n{serial}", report.outcome);
    assert!(!serial.contains("(0 checks)"), "{serial}");
}

#[test]
fn kvm_passes_and_agrees_with_tcg() {
    let Some((kvm, unavailable)) = kvm() else {
        return;
    };
    let on_kvm = run(&all_parts(), &kvm, unavailable);
    check(&on_kvm, unavailable);
    let on_tcg = run(&all_parts(), &Tcg, unavailable);
    let agree = flow::compare_built_in(&on_tcg.exits, &on_kvm.exits);
    assert!(agree.expect("tcg and kvm agree") > 3000);
}

/// With the software CPU to run what KVM refuses, a partial one runs every part too.
#[test]
fn kvm_with_rescue_runs_every_part() {
    let table = Arc::new(Rescues::default());
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm.with_rescue(Arc::clone(&table)),
        Err(error) => return skip("kvm", &error),
    };
    let on_kvm = run(&all_parts(), &kvm, 0);
    check(&on_kvm, 0);
    let on_tcg = run(&all_parts(), &Tcg, 0);
    let agree = flow::compare_built_in(&on_tcg.exits, &on_kvm.exits);
    agree.expect("tcg and kvm agree");
    assert_eq!(table.total() != 0, kvm.is_partial(), "{:?}", table.table());
}

/// Parts that a partial KVM passes, but not as a processor would; in this mode, or in each.
const PARTED: &[(&str, Option<Mode>, &str)] = &[
    (
        "long-ring3",
        None,
        "a partial KVM's SYSCALL saves RFLAGS with IF in R11",
    ),
    (
        "events",
        None,
        "a partial KVM leaves the first of two page faults in CR2 before #DF",
    ),
    (
        "long-paging",
        Some(Mode::Slice),
        "a partial KVM's store over a page's end writes its first part and then faults",
    ),
];

/// KVM leads and the software CPU follows, part by part; on a partial KVM those parts that it runs.
fn lockstep_agrees(mode: Mode) {
    let Some((_, unavailable)) = kvm() else {
        return;
    };
    let mut failed = Vec::new();
    for (n, part) in guest::PARTS.iter().enumerate() {
        if unavailable >> n & 1 != 0 {
            continue;
        }
        let parted = PARTED
            .iter()
            .find(|(name, in_mode, _)| *name == part.name && in_mode.is_none_or(|m| m == mode));
        if let Some((name, _, why)) = parted.filter(|_| unavailable != 0) {
            skip(
                "whole-kvm",
                &format_args!("part {name} in lockstep by {mode:?}: {why}"),
            );
            continue;
        }
        let accel = match Kvm::open() {
            Ok(kvm) => Lockstep::new(Box::new(kvm), mode),
            Err(error) => return skip("kvm", &error),
        };
        let one = Run {
            parts: parts(&[part.name]),
            ..all_parts()
        };
        match embedded::run(&one, &accel, 0, Box::new(io::sink())) {
            Ok(report) if report.passed() => {
                let counts = &report.stats[0].counters.lockstep;
                assert!(counts["agreed points"] > 100, "{}: {counts:?}", part.name);
            }
            Ok(report) => {
                let serial = String::from_utf8_lossy(&report.serial).into_owned();
                failed.push(format!("{}: {:?}\n{serial}", part.name, report.outcome));
            }
            Err(error) => failed.push(format!("{}: {error}", part.name)),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn engines_agree_at_each_exit() {
    lockstep_agrees(Mode::Exit);
}

#[test]
fn engines_agree_at_each_instruction() {
    lockstep_agrees(Mode::Step);
}

#[test]
fn two_machines_run_in_one_process() {
    let reports = std::thread::scope(|scope| {
        let one = || scope.spawn(|| run(&all_parts(), &Tcg, 0));
        [one(), one()].map(|thread| thread.join().expect("no machine panics"))
    });
    for report in &reports {
        check(report, 0);
    }
    let [a, b] = reports;
    let agree = flow::compare_built_in(&a.exits, &b.exits);
    agree.expect("two runs agree");
}

/// A log that is kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A run in virtual time with its `-d exec,int` log.
fn logged(shift: u32) -> (Report, Vec<u8>) {
    let kept = Kept::default();
    let items = Items::of(&["exec", "int"]);
    let options = Run {
        parts: parts(&["real-int", "long", "pic-pit", "apic"]),
        icount: Some(shift),
        observer: items.observer(&Log::new(Box::new(kept.clone()))),
        ..all_parts()
    };
    let report = run(&options, &Tcg, 0);
    let log = std::mem::take(&mut *kept.0.lock().unwrap_or_else(PoisonError::into_inner));
    (report, log)
}

#[test]
fn two_runs_in_virtual_time_are_equal_to_the_byte() {
    for shift in [0, 3] {
        let ((a, a_log), (b, b_log)) = (logged(shift), logged(shift));
        assert!(a.passed(), "{}", String::from_utf8_lossy(&a.serial));
        // Not `comparable`: with halts, and with what was read of time.
        assert_eq!(a.exits, b.exits, "exits at 2^{shift} ns");
        assert_eq!(a.serial, b.serial);
        assert!(a_log.len() > 100_000, "a log of {} bytes", a_log.len());
        let parted = a_log.iter().zip(&b_log).position(|(a, b)| a != b);
        assert_eq!(parted, None, "logs at 2^{shift} ns part at this byte");
        assert_eq!(a_log.len(), b_log.len());
    }
}

#[test]
fn a_guest_that_does_not_end_is_stopped_and_named() {
    let options = Run {
        limit: Duration::ZERO,
        // What takes long: it cannot be over before the watchdog looks.
        parts: parts(&["long-ring3"]),
        ..all_parts()
    };
    match embedded::run(&options, &Tcg, 0, Box::new(io::sink())) {
        Err(error @ EmbeddedError::Hung { engine: "tcg", .. }) => {
            assert!(error.to_string().contains("did not end on tcg"), "{error}");
        }
        Err(error) => panic!("{error}"),
        Ok(report) => panic!("it ended: {:?}", report.outcome),
    }
}

/// A machine whose BIOS is nothing but `code` at the reset vector.
fn bare(accel: &dyn Accel, code: &[u8], icount: Option<u32>) -> Machine {
    let mut bios = vec![0; 0x1_0000];
    bios[0xFFF0..0xFFF0 + code.len()].copy_from_slice(code);
    let config = MachineConfig {
        icount,
        no_reboot: true,
        ..MachineConfig::new(
            BoardOptions {
                ram: 16 << 20,
                ..BoardOptions::default()
            },
            Parts {
                bios,
                ..Parts::default()
            },
            model(),
        )
    };
    Machine::new(config, accel).expect("a machine")
}

/// Runs `code`, and stops it from another thread.
fn stopped(accel: &dyn Accel, code: &[u8], icount: Option<u32>) -> Outcome {
    let mut machine = bare(accel, code, icount);
    let control = machine.control();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            control.quit();
        });
        machine.run().expect("a run")
    })
}

#[test]
fn what_halts_or_loops_for_ever_can_be_stopped() {
    const CLI_HLT: &[u8] = &[0xFA, 0xF4];
    const JMP_SELF: &[u8] = &[0xEB, 0xFE];
    for code in [CLI_HLT, JMP_SELF] {
        for icount in [None, Some(0)] {
            assert_eq!(stopped(&Tcg, code, icount), Outcome::Stopped);
        }
        match Kvm::open() {
            Ok(kvm) => assert_eq!(stopped(&kvm, code, None), Outcome::Stopped),
            Err(error) => skip("kvm", &error),
        }
    }
}

/// An engine that takes only memory maps with A20 open.
struct Refusing;

/// See [`Refusing`].
struct RefusingVm(Arc<dyn Vm>);

impl Accel for Refusing {
    fn name(&self) -> &'static str {
        "refusing"
    }

    fn create_vm(&self, config: &VmConfig) -> Result<Arc<dyn Vm>, AccelError> {
        Ok(Arc::new(RefusingVm(Tcg.create_vm(config)?)))
    }
}

impl Vm for RefusingVm {
    fn set_memory_map(&self, map: MemoryMap) -> Result<(), AccelError> {
        if map.a20() {
            return self.0.set_memory_map(map);
        }
        Err(AccelError::Slots {
            needed: 2,
            limit: 1,
        })
    }

    fn take_dirty(&self, marks: &[AtomicU8]) -> Result<Vec<usize>, AccelError> {
        self.0.take_dirty(marks)
    }

    fn create_vcpu(&self, index: u32, io: Arc<dyn CpuIo>) -> Result<Box<dyn Vcpu>, AccelError> {
        self.0.create_vcpu(index, io)
    }
}

#[test]
fn a_run_ends_when_the_engine_refuses_a_memory_map() {
    // mov al, 2; out 92h, al; mov al, 0; out 92h, al; jmp $
    let code = [0xB0, 2, 0xE6, 0x92, 0xB0, 0, 0xE6, 0x92, 0xEB, 0xFE];
    let error = bare(&Refusing, &code, None).run().expect_err("no map");
    assert_eq!(error.to_string(), "the memory map needs 2 slots, KVM has 1");
}

/// What any mode can hold, at random.
fn scramble(state: &mut CpuState, random: &mut Random) {
    state.gpr = std::array::from_fn(|_| random.draw());
    let flags = RFlags::STATUS | RFlags::DF | RFlags::IF | RFlags::AC | RFlags::ID | RFlags::NT;
    state.rflags = RFlags::FIXED | RFlags::from_bits_truncate(random.draw()) & flags;
    state.cr2 = random.draw();
    state.dr = std::array::from_fn(|_| random.draw() & 0x7FFF_FFFF_FFFF);
    state.gdtr.base = random.below(1 << 32);
    state.idtr.limit = random.draw() as u16;
    let fpu = &mut state.fpu;
    fpu.fcw = 0x37F;
    fpu.fsw = random.draw() as u16 & 0x7F00;
    fpu.ftw = random.draw() as u8;
    fpu.regs = std::array::from_fn(|_| (random.draw(), random.draw() as u16));
    fpu.mxcsr = random.draw() as u32 & 0xFFBF;
    fpu.xmm = std::array::from_fn(|_| {
        (u128::from(random.draw()) << 64 | u128::from(random.draw())).to_le_bytes()
    });
    state.msrs.star = random.draw();
    state.msrs.lstar = random.draw() & 0x7FFF_FFFF_FFFF;
    state.msrs.kernel_gs_base = random.draw() & 0x7FFF_FFFF_FFFF;
    state.msrs.sysenter_eip = random.below(1 << 32);
    state.nmi_masked = random.chance(50);
    state.shadow = random.pick(&[Shadow::None, Shadow::Sti]);
    state.activity = random.pick(&[Activity::Running, Activity::Halted]);
}

fn real_state(random: &mut Random) -> CpuState {
    let mut state = CpuState::reset(model().signature());
    scramble(&mut state, random);
    state.rip = random.below(0x1_0000);
    for segment in &mut state.segments[..6] {
        *segment = Segment::real(random.draw() as u16, segment.access);
    }
    state
}

fn long_state(random: &mut Random) -> CpuState {
    let mut state = CpuState::reset(model().signature());
    scramble(&mut state, random);
    state.rip = random.draw() & 0x7FFF_FFFF_FFFF;
    let (code, data) = random.pick(&[
        (0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF),
        (0x00AF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF),
    ]);
    for seg in [Seg::Es, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs] {
        state.segments[seg as usize] = Segment::from_descriptor(0x10, data);
    }
    state.segments[Seg::Cs as usize] = Segment::from_descriptor(8, code);
    for seg in [Seg::Fs, Seg::Gs] {
        state.segments[seg as usize].base = random.draw() & 0x7FFF_FFFF_FFFF;
    }
    state.cr0 = Cr0::PE | Cr0::PG | Cr0::ET | Cr0::NE | Cr0::WP;
    state.cr3 = 0x1000;
    state.cr4 = Cr4::PAE | Cr4::OSFXSR;
    state.efer = Efer::LME | Efer::LMA | Efer::SCE | Efer::NXE;
    state
}

/// Every state that is set is read back as it was.
fn states_survive(accel: &dyn Accel) {
    let config = VmConfig {
        cpu: model(),
        tsc_hz: 1_000_000_000,
        virtual_time: None,
        observer: None,
    };
    let memory = Guest::new().expect("memory for a guest");
    let vm = accel.create_vm(&config).expect("a machine");
    vm.set_memory_map(memory.memory_map().expect("a map"))
        .expect("a map that is taken");
    let mut vcpu = vm.create_vcpu(0, Arc::new(NoBoard)).expect("a processor");
    let mut survives = |state: CpuState, what: &str| {
        let state = state.canonical();
        vcpu.set_state(&state).expect("a state that is taken");
        let back = vcpu.state().expect("a state");
        let differences = state.differences(&back);
        assert!(
            differences.is_empty(),
            "{} {what}: {differences:#?}",
            accel.name()
        );
        assert_eq!(state, back, "{} {what}", accel.name());
    };
    survives(CpuState::reset(model().signature()), "after reset");
    for seed in 0..50 {
        let random = &mut Random::new(seed);
        survives(real_state(random), &format!("real mode, seed {seed}"));
        survives(long_state(random), &format!("long mode, seed {seed}"));
    }
}

#[test]
fn states_survive_on_tcg() {
    states_survive(&Tcg);
}

#[test]
fn states_survive_on_kvm() {
    match Kvm::open() {
        Ok(kvm) => states_survive(&kvm),
        Err(error) => skip("kvm", &error),
    }
}

#[test]
fn engines_agree_where_the_own_cpu_says() {
    lockstep_agrees(Mode::Slice);
}
