//! A running machine moves between engines: the guest does not notice.
//!
//! Between tcg and itself under another name everywhere, and between tcg and KVM (with rescue, where it is a
//! partial one) where `/dev/kvm` opens. On a whole KVM, with whole systems: `nested.rs`.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use accel::kvm::{Kvm, Rescues};
use accel::tcg::Tcg;
use accel::{Accel, AccelError, CpuModel, CpuState, DebugPoints, DebugStop, Vm, VmConfig};
use devices::board::BoardOptions;
use devices::board::build::Parts;
use emu::arch::cpuid::Feature;
use emu::arch::{Cr0, Cr4, Efer, RFlags, Seg, Segment};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use testsuite::skip::skip;
use twin86::accel_option::Engine;
use twin86::control::{Control, News, Pause};
use twin86::embedded::{self, Run};
use twin86::engines::SwitchError;
use twin86::exits::{Exit, ExitKind};
use twin86::flow;
use twin86::guest;
use twin86::machine::{Boot, Machine, MachineConfig, Outcome};
use twin86::switch_option::{SwitchAt, When};

/// The software CPU by another name: an engine to move to where there is no KVM.
struct Twin;

impl Accel for Twin {
    fn name(&self) -> &'static str {
        "twin"
    }

    fn create_vm(&self, config: &VmConfig) -> Result<Arc<dyn Vm>, AccelError> {
        Tcg.create_vm(config)
    }
}

/// The engines that tcg can be left for here.
fn others() -> Vec<Box<dyn Accel>> {
    let mut found: Vec<Box<dyn Accel>> = vec![Box::new(Twin)];
    match Kvm::open() {
        Ok(kvm) => found.push(Box::new(kvm.with_rescue(Arc::default()))),
        Err(error) => skip("kvm", &error),
    }
    found
}

fn model() -> CpuModel {
    CpuModel::by_name("qemu64").expect("a model")
}

/// A move at each `every`-th access, to the other engine.
fn at_each(every: u64, accesses: u64) -> Vec<SwitchAt> {
    let at = |n| SwitchAt {
        when: When::Access(n * every),
        to: None,
    };
    (1..=accesses / every).map(at).collect()
}

/// The built-in guest on tcg, moved to `other` and back at each `every`-th access.
fn moved(other: &dyn Accel, every: u64, accesses: u64) -> embedded::Report {
    let run = Run {
        memory: 64 << 20,
        cpu: model(),
        parts: guest::ALL,
        icount: None,
        observer: None,
        limit: embedded::LIMIT,
        switches: at_each(every, accesses),
    };
    let output = Box::new(io::sink());
    let report = embedded::run_on(&run, &Tcg, &[other], 0, output).expect("the guest runs");
    let serial = String::from_utf8_lossy(&report.serial);
    let ok = format!("result: {} ok, 0 failed, 0 skipped", guest::PARTS.len());
    assert!(report.passed() && serial.contains(&ok), "{serial}");
    report
}

#[test]
fn the_built_in_guest_passes_wherever_it_is_moved() {
    for other in others() {
        let still = moved(&*other, u64::MAX, 0);
        assert_eq!(still.switches, 0);
        let agree = flow::compare_built_in(&still.exits, &still.exits);
        let accesses = agree.expect("it agrees with itself") as u64;
        for every in [1, 7, 100, 1000] {
            let report = moved(&*other, every, accesses);
            let name = other.name();
            assert!(
                report.switches >= accesses / every / 2,
                "{name} {every}: {}",
                report.switches
            );
            if let Err(found) = flow::compare_built_in(&still.exits, &report.exits) {
                panic!("{name}, moved at each {every}th access: {found:?}");
            }
            assert_eq!(still.serial, report.serial);
            let [tcg, theirs] = &report.stats[..] else {
                panic!("two engines: {:?}", report.stats);
            };
            assert_eq!((tcg.engine, theirs.engine), ("tcg", name));
            let sum = tcg.exits[&ExitKind::Out] + theirs.exits[&ExitKind::Out];
            let all = report.exits.iter();
            assert_eq!(
                sum,
                all.filter(|e| e.kind == ExitKind::Out).count() as u64,
                "both columns are the whole"
            );
        }
    }
}

/// Port of the debug-exit device.
const EXIT: u16 = 0x501;
/// Where the programs lie.
const CODE: u64 = 0x8000;

/// A machine that runs `code` from [`CODE`] on, with `data` in memory too, on tcg first.
fn machine(
    code: Vec<u8>,
    data: Vec<(u64, Arc<[u8]>)>,
    other: &dyn Accel,
    switches: Vec<SwitchAt>,
    enter: fn(&mut CpuState),
) -> Machine {
    let board = BoardOptions {
        ram: 16 << 20,
        debug_exit: Some((EXIT, 4)),
        ..BoardOptions::default()
    };
    let parts = Parts {
        bios: vec![0xF4; 0x1_0000],
        ..Parts::default()
    };
    let mut memory = data;
    memory.push((CODE, code.into()));
    let config = MachineConfig {
        no_reboot: true,
        switches,
        boot: Some(Boot {
            memory,
            ports: Vec::new(),
            enter: Box::new(enter),
        }),
        ..MachineConfig::new(board, parts, model())
    };
    Machine::with_engines(config, &Tcg, &[other]).expect("a machine")
}

/// What a program has written to a port, in order.
fn written(exits: &[Exit], port: u64) -> Vec<u64> {
    let to_port = |e: &&Exit| e.kind == ExitKind::Out && e.address == port;
    exits.iter().filter(to_port).map(|e| e.data).collect()
}

/// Real mode with flat segments of 64 KiB.
fn real(state: &mut CpuState) {
    state.rip = CODE;
    for segment in &mut state.segments[..6] {
        (segment.selector, segment.base) = (0, 0);
    }
}

/// 64-bit ring 3 that may do I/O, the first 2 MiB mapped as they are.
fn ring3(state: &mut CpuState) {
    state.rip = CODE;
    state.cr0 = Cr0::PE | Cr0::PG | Cr0::NE | Cr0::ET | Cr0::MP;
    state.cr3 = 0x1000;
    state.cr4 = Cr4::PAE | Cr4::OSFXSR;
    state.efer = Efer::LME | Efer::LMA;
    state.rflags |= RFlags::IOPL;
    for segment in &mut state.segments[..6] {
        *segment = Segment::from_descriptor(0x1B, 0x00CF_F300_0000_FFFF);
    }
    state.segments[Seg::Cs as usize] = Segment::from_descriptor(0x23, 0x00AF_FB00_0000_FFFF);
}

/// Page tables for [`ring3`].
fn tables() -> Vec<(u64, Arc<[u8]>)> {
    let entries = [(0x1000_u64, 0x2007_u64), (0x2000, 0x3007), (0x3000, 0x87)];
    let entry = |(at, value): (u64, u64)| (at, Arc::from(value.to_le_bytes()));
    entries.map(entry).to_vec()
}

/// Bytes of the text that is summed up, and where it lies.
const TEXT: (u64, usize) = (0x10_0000, 0x1_0000);
/// Of a text's checksum (FNV-1a).
const BASIS: u64 = 0xCBF2_9CE4_8422_2325;
/// The same.
const PRIME: u64 = 0x0100_0000_01B3;
/// Where the results go.
const RESULTS: u64 = 0x9000;
/// Bytes between two accesses.
const STRETCH: usize = 64;

/// Sums up the text, counts its stretches by SSE and x87, and tells each to port 80h.
fn checksum() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let (mut stretch, mut byte) = (a.create_label(), a.create_label());
    a.fninit()?;
    a.fldz()?;
    a.mov(rsi, TEXT.0)?;
    a.mov(rcx, TEXT.1 as u64)?;
    a.mov(rax, BASIS)?;
    a.mov(rbx, PRIME)?;
    a.pxor(xmm0, xmm0)?;
    a.movq(xmm9, rbx)?;
    a.set_label(&mut stretch)?;
    a.nop()?;
    a.set_label(&mut byte)?;
    a.movzx(edx, byte_ptr(rsi))?;
    a.xor(rax, rdx)?;
    a.imul_2(rax, rbx)?;
    a.inc(rsi)?;
    a.dec(rcx)?;
    a.test(cl, STRETCH as i32 - 1)?;
    a.jnz(byte)?;
    a.paddq(xmm0, xmm9)?;
    a.fld1()?;
    a.faddp(st1, st0)?;
    a.out(0x80, al)?;
    a.test(rcx, rcx)?;
    a.jnz(stretch)?;
    a.mov(qword_ptr(RESULTS), rax)?;
    a.movq(qword_ptr(RESULTS + 8), xmm0)?;
    a.fistp(qword_ptr(RESULTS + 16))?;
    a.mov(dx, i32::from(EXIT))?;
    a.out(dx, al)?;
    a.assemble(CODE)
}

#[test]
fn a_checksum_is_right_across_hundreds_of_moves() {
    let text: Vec<u8> = (0..TEXT.1).map(|n| ((n * n) >> 3) as u8).collect();
    let sum = text.iter();
    let sum = sum.fold(BASIS, |sum, &b| (sum ^ u64::from(b)).wrapping_mul(PRIME));
    let stretches = (TEXT.1 / STRETCH) as u64;
    for other in others() {
        for every in [1, 3] {
            let mut data = tables();
            data.push((TEXT.0, text.clone().into()));
            let plan = at_each(every, stretches);
            let moves = plan.len() as u64;
            let code = checksum().expect("a program");
            let mut machine = machine(code, data, &*other, plan, ring3);
            let outcome = machine.run().expect("a run");
            assert!(matches!(outcome, Outcome::Exit(_)), "{outcome:?}");
            assert_eq!(machine.switches(), moves, "{}", other.name());
            let mut results = [0; 24];
            let map = machine.board().map();
            map.bus_master().read(RESULTS, &mut results);
            let word = |n: usize| u64::from_le_bytes(results[n * 8..][..8].try_into().expect("8"));
            let found = [word(0), word(1), word(2)];
            let expected = [sum, PRIME.wrapping_mul(stretches), stretches];
            assert_eq!(found, expected, "{} at each {every}th", other.name());
        }
    }
}

/// One engine runs the code that the other one has changed.
#[test]
fn no_translation_outlives_a_stay_elsewhere() {
    const TIMES: u8 = 200;
    // l: mov al,0; out 80h,al; inc byte [l+1]; out 81h,al; cmp byte [l+1],TIMES; jne l; mov dx,501h; out dx,al
    let code = [
        0xB0, 0x00, 0xE6, 0x80, 0xFE, 0x06, 0x01, 0x80, 0xE6, 0x81, 0x80, 0x3E, 0x01, 0x80, TIMES,
        0x75, 0xEF, 0xBA, 0x01, 0x05, 0xEE,
    ];
    for other in others() {
        let plan = at_each(1, 2 * u64::from(TIMES));
        let mut machine = machine(code.to_vec(), Vec::new(), &*other, plan, real);
        machine.exits().record();
        machine.run().expect("a run");
        let seen = written(&machine.exits().take_record(), 0x80);
        let expected: Vec<u64> = (0..TIMES.into()).collect();
        assert_eq!(seen, expected, "{}", other.name());
    }
}

#[test]
fn the_time_stamp_counter_goes_on() {
    // mov cx,300; l: rdtsc; out 80h,eax; loop l; mov dx,501h; out dx,al
    let code = [
        0xB9, 0x2C, 0x01, 0x0F, 0x31, 0x66, 0xE7, 0x80, 0xE2, 0xF9, 0xBA, 0x01, 0x05, 0xEE,
    ];
    for other in others() {
        let mut machine = machine(code.to_vec(), Vec::new(), &*other, at_each(1, 300), real);
        machine.exits().record();
        machine.run().expect("a run");
        let seen = written(&machine.exits().take_record(), 0x80);
        assert_eq!(seen.len(), 300);
        for pair in seen.windows(2) {
            // Not back, and not by a second.
            let passed = (pair[1] as u32).wrapping_sub(pair[0] as u32);
            assert!(
                passed < 1 << 30,
                "{}: {passed:#x} in {seen:x?}",
                other.name()
            );
        }
    }
}

/// `l: inc dword [500h]; jmp l`.
const BUSY: &[u8] = &[0x66, 0xFF, 0x06, 0x00, 0x05, 0xEB, 0xF9];

/// Ends a run, whatever becomes of the test.
struct Quit(Control);

impl Drop for Quit {
    fn drop(&mut self) {
        self.0.quit();
    }
}

/// Runs `question` beside a machine that counts.
fn beside<R>(other: &dyn Accel, plan: Vec<SwitchAt>, question: impl FnOnce(&Control) -> R) -> R {
    let mut machine = machine(BUSY.to_vec(), Vec::new(), other, plan, real);
    let control = machine.control();
    thread::scope(|scope| {
        let quit = Quit(control.clone());
        let run = scope.spawn(move || machine.run().expect("a run"));
        let result = question(&control);
        drop(quit);
        assert_eq!(run.join().expect("no panic"), Outcome::Stopped);
        result
    })
}

#[test]
fn breakpoints_move_too() {
    for other in others() {
        let name = other.name();
        beside(&*other, Vec::new(), |control| {
            let points = DebugPoints {
                breakpoints: vec![CODE],
                ..DebugPoints::default()
            };
            let news = control.ask(move |machine| {
                machine.pause(Pause::User);
                machine.set_debug(&points).expect("a breakpoint");
                machine.switch_engine(name).expect("a move");
                let news = machine.watch();
                machine.resume();
                news
            });
            let news = news.expect("it runs");
            let stop = News::Paused(Pause::Debug(DebugStop::Breakpoint(CODE)));
            let next = || news.recv_timeout(Duration::from_secs(10));
            assert_eq!(next(), Ok(News::Resumed));
            assert_eq!(next(), Ok(stop), "{name}");
            // Back again, and the next time round.
            control.ask(|machine| {
                machine.switch_engine("tcg").expect("a move");
                machine.resume();
            });
            assert_eq!(next(), Ok(News::Resumed));
            assert_eq!(next(), Ok(stop), "tcg");
        });
    }
}

/// The move is at the very access.
#[test]
fn a_move_is_where_it_is_said() {
    // mov cx,100; l: mov al,cl; out 80h,al; loop l; mov dx,501h; out dx,al
    let code = [
        0xB9, 0x64, 0x00, 0x88, 0xC8, 0xE6, 0x80, 0xE2, 0xFA, 0xBA, 0x01, 0x05, 0xEE,
    ];
    for other in others() {
        let plan = [10, 37, 38].map(|n| SwitchAt {
            when: When::Access(n),
            to: None,
        });
        let mut machine = machine(code.to_vec(), Vec::new(), &*other, plan.to_vec(), real);
        machine.exits().record();
        machine.run().expect("a run");
        let seen = written(&machine.exits().take_record(), 0x80);
        assert!(seen.into_iter().eq((1..=100).rev()), "{}", other.name());
        let stats = machine.stats();
        let out = |n: usize| stats[n].exits[&ExitKind::Out];
        assert_eq!((out(0), out(1)), (11, 90), "{}", other.name());
    }
}

/// A stay of `insns=N` is N instructions long.
#[test]
fn a_stay_can_be_counted_in_instructions() {
    let other = Twin;
    let plan = [(1000, "tcg"), (3_000_001, "twin"), (5, "tcg")];
    let plan: Vec<_> = plan
        .map(|(count, _)| SwitchAt {
            when: When::Instructions(count),
            to: None,
        })
        .to_vec();
    // The engine of a test's own is no `Engine`: the other one is the one that stands by.
    let counted = beside(&other, plan, |control| {
        let switches = |machine: &mut Machine| machine.switches();
        while control.ask(switches).expect("it runs") < 3 {
            thread::sleep(Duration::from_millis(1));
        }
        control.ask(|machine| machine.stats()).expect("it runs")
    });
    let instructions = |n: usize| counted[n].counters.instructions;
    assert_eq!(instructions(0), Some(1005));
    assert!(instructions(1) >= Some(3_000_001), "{counted:?}");
}

/// An engine that has no SSE3.
struct Older;

impl Accel for Older {
    fn name(&self) -> &'static str {
        "older"
    }

    fn shown(&self, model: &CpuModel) -> Result<CpuModel, AccelError> {
        let mut model = model.clone();
        let basic = model.leaves.iter_mut().find(|l| l.function == 1);
        basic.expect("leaf 1").registers[2] &= !1;
        Ok(model)
    }

    fn create_vm(&self, config: &VmConfig) -> Result<Arc<dyn Vm>, AccelError> {
        assert!(!config.cpu.has(Feature::Sse3));
        Tcg.create_vm(config)
    }
}

#[test]
fn what_an_engine_lacks_is_named() {
    // Built for both, the guest does not see it.
    beside(&Older, Vec::new(), |control| {
        let moved = control.ask(|machine| machine.switch_engine("older"));
        assert!(moved.expect("it runs").is_ok());
    });
    // Come later, it cannot take over.
    beside(&Twin, Vec::new(), |control| {
        let added = control.ask(|machine| machine.add_engine(&Older));
        let Some(Err(error @ SwitchError::Features { .. })) = added else {
            panic!("{added:?}");
        };
        assert!(
            error
                .to_string()
                .starts_with("older lacks sse3, which the guest has seen"),
            "{error}"
        );
        let absent = control.ask(|machine| machine.switch_engine("older"));
        let error = absent.expect("it runs").expect_err("it is not there");
        assert_eq!(error.to_string(), "the machine has no engine older");
    });
}

#[test]
fn virtual_time_stays_on_tcg() {
    let parts = Parts {
        bios: vec![0xF4; 0x1_0000],
        ..Parts::default()
    };
    let config = MachineConfig {
        icount: Some(0),
        ..MachineConfig::new(BoardOptions::default(), parts, model())
    };
    let error = Machine::with_engines(config, &Tcg, &[&Twin]).err();
    let error = error.expect("no engine else").to_string();
    assert!(error.contains("-icount needs --accel=tcg"), "{error}");
}

/// A partial KVM by itself cannot hold 32-bit paging: the machine stays where it is.
#[test]
fn a_state_that_is_not_held_is_not_moved() {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => return skip("kvm", &error),
    };
    if !kvm.is_partial() {
        return skip("partial-kvm", &"this KVM holds every state");
    }
    fn paged(state: &mut CpuState) {
        real(state);
        state.cr0 = Cr0::PE | Cr0::PG | Cr0::ET;
        state.cr4 = Cr4::PSE;
        state.cr3 = 0x1000;
        for segment in &mut state.segments[..6] {
            *segment = Segment::from_descriptor(0x10, 0x00CF_9300_0000_FFFF);
        }
        state.segments[Seg::Cs as usize] = Segment::from_descriptor(8, 0x00CF_9B00_0000_FFFF);
    }
    // l: inc dword [500h]; jmp l
    let code = [0xFF, 0x05, 0x00, 0x05, 0x00, 0x00, 0xEB, 0xF8];
    let page = (0x1000, Arc::from(0x83_u32.to_le_bytes()));
    let mut machine = machine(code.to_vec(), vec![page], &kvm, Vec::new(), paged);
    let before = machine.state().expect("a state");
    let refused = machine.switch_engine("kvm");
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(machine.identity().engine, "tcg");
    assert_eq!(before, machine.state().expect("a state"));
    let control = machine.control();
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(20));
            control.quit();
        });
        assert_eq!(machine.run().expect("a run"), Outcome::Stopped);
    });
    assert!(machine.stats()[0].counters.instructions > Some(100));
}

/// The rescue table is the machine's, whatever ran in between.
#[test]
fn rescues_are_counted_in_kvms_column() {
    let table = Arc::new(Rescues::default());
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm.with_rescue(Arc::clone(&table)),
        Err(error) => return skip("kvm", &error),
    };
    let partial = kvm.is_partial();
    let report = moved(&kvm, 1, 1);
    let [tcg, kvm] = &report.stats[..] else {
        panic!("two engines: {:?}", report.stats);
    };
    assert!(tcg.counters.rescued.is_empty());
    assert_eq!(!kvm.counters.rescued.is_empty(), partial);
    assert_eq!(Engine::Kvm.name(), kvm.engine);
}
