//! The reference: `qemu-system-x86_64`, driven by the same lines.
//!
//! Its packages lack the accelerator `qtest`, and with it `clock_step`. So time goes on here as it does
//! for a guest: the processor runs an endless loop, with a clock that counts instructions (`-icount`), and
//! gdb's protocol lets it go and stops it. How long that was is read from a counter, exactly: times are
//! multiples of `2^shift` nanoseconds, and there is one that gives the count. Our side then moves by the same.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::op::{Op, Outcome};
use super::{DifferError, Setup, Watch};

/// The program.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// How many bytes of commands are under way at once: what a pipe holds, so that nobody waits for the other.
const BATCH: usize = 1 << 15;
/// The two 8259, by their paths in a machine of this version.
const CHIPS: [&str; 2] = [
    "/machine/unattached/device[6]",
    "/machine/unattached/device[7]",
];
/// Where the loop lies.
const LOOP: u64 = 0x7C00;
/// `jmp` to itself.
const SPIN: &str = "0xebfe";
/// By then what the machines were told first has had its effect.
const SETTLED: u64 = 100_000;
/// Instructions of the loop in a microsecond, about.
const PER_MICROSECOND: u64 = 150;

/// A fresh machine of the reference.
pub struct Qemu {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    gdb: UnixStream,
    socket: PathBuf,
    watch: Watch,
    shift: u32,
    now: u64,
    line: String,
}

/// Counts sockets, so that none has the name of another.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Qemu {
    /// Whether it is installed.
    pub fn exists() -> bool {
        let version = Command::new(PROGRAM).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    }

    /// Starts one.
    ///
    /// # Errors
    /// If it is not installed, or does not do what it should.
    pub fn new(setup: &Setup, disk: &Path) -> Result<Self, DifferError> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("twin86-differ-{}-{number}", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let gdb = format!("socket,id=g,path={},server=on,wait=off", socket.display());
        let icount = format!("shift={},sleep=off", setup.shift);
        let mut command = Command::new(PROGRAM);
        command.args(
            "-M pc -accel tcg -S -qtest stdio -qtest-log none -display none -nic none".split(' '),
        );
        command.args("-parallel none -monitor none -serial null -vga std".split(' '));
        command.args("-rtc base=2020-01-01T00:00:00,clock=vm -gdb chardev:g".split(' '));
        command.args(["-chardev", &gdb, "-icount", &icount]);
        if setup.disk {
            let drive = format!(
                "file={},format=raw,if=ide,index=0,snapshot=on",
                disk.display()
            );
            command.args(["-drive", &drive]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let gone = || DifferError::Protocol("no pipe".into());
        let input = child.stdin.take().ok_or_else(gone)?;
        let output = BufReader::new(child.stdout.take().ok_or_else(gone)?);
        let gdb = connect(&socket)?;
        gdb.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut qemu = Self {
            child,
            input,
            output,
            gdb,
            socket,
            watch: setup.watch,
            shift: setup.shift,
            now: 0,
            line: String::new(),
        };
        qemu.command(&format!("write {LOOP:#x} 2 {SPIN}"))?;
        for line in setup.preface() {
            qemu.command(&line)?;
        }
        // It takes single registers from who has read its description only.
        qemu.gdb
            .write_all(&packet("qXfer:features:read:target.xml:0,ffb"))?;
        qemu.packets(1)?;
        qemu.step(SETTLED)?;
        qemu.command(&setup.intercept(CHIPS[0]))?;
        Ok(qemu)
    }

    /// Its time, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Plays a part of a script.
    ///
    /// # Errors
    /// If the program is gone or does not answer as it should.
    pub fn play(&mut self, ops: &[Op]) -> Result<Vec<Outcome>, DifferError> {
        let mut outcomes = Vec::with_capacity(ops.len());
        let mut batch = String::new();
        let mut waiting = 0;
        for op in ops {
            if let Op::Step(ns) = op {
                self.flush(&mut batch, &mut waiting, &mut outcomes)?;
                outcomes.push(self.step(*ns)?);
                continue;
            }
            match op {
                Op::Wire(wire, level) => {
                    let (chip, input) = (CHIPS[usize::from(wire / 8)], wire % 8);
                    let level = u8::from(*level);
                    batch.push_str(&format!(
                        "set_irq_in {chip} unnamed-gpio-in {input} {level}"
                    ));
                }
                op => batch.push_str(&op.to_string()),
            }
            batch.push('\n');
            waiting += 1;
            if batch.len() > BATCH || waiting == 500 {
                self.flush(&mut batch, &mut waiting, &mut outcomes)?;
            }
        }
        self.flush(&mut batch, &mut waiting, &mut outcomes)?;
        Ok(outcomes)
    }

    fn flush(
        &mut self,
        batch: &mut String,
        waiting: &mut usize,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), DifferError> {
        self.input.write_all(batch.as_bytes())?;
        batch.clear();
        for _ in 0..std::mem::take(waiting) {
            outcomes.push(self.outcome()?);
        }
        Ok(())
    }

    fn outcome(&mut self) -> Result<Outcome, DifferError> {
        let mut outcome = Outcome::default();
        loop {
            self.line.clear();
            if self.output.read_line(&mut self.line)? == 0 {
                return Err(DifferError::Protocol("the reference has ended".into()));
            }
            if outcome.take(self.line.trim_end()) {
                return Ok(outcome);
            }
        }
    }

    fn command(&mut self, line: &str) -> Result<Outcome, DifferError> {
        self.input.write_all(line.as_bytes())?;
        self.input.write_all(b"\n")?;
        self.outcome()
    }

    /// Lets time go on by about `ns`, and never not at all.
    fn step(&mut self, ns: u64) -> Result<Outcome, DifferError> {
        let wanted = self.now + ns;
        let mut all = Outcome::default();
        let mut pause = Duration::ZERO;
        loop {
            let left = wanted.saturating_sub(self.now) >> self.shift;
            let spin = Duration::from_micros(left / PER_MICROSECOND);
            self.run_for(spin.max(pause))?;
            let read = match self.watch {
                Watch::Hpet => "readq 0xfed000f0",
                Watch::PmTimer => "inl 0x608",
            };
            let outcome = self.command(read)?;
            let before = self.now;
            self.now = self.time(outcome.value().unwrap_or(0))?;
            all.irqs.extend(outcome.irqs);
            if self.now > before && self.now.saturating_add(ns / 4) >= wanted {
                all.answer = format!("OK {}", self.now);
                return Ok(all);
            }
            pause = pause * 2 + Duration::from_micros(10);
        }
    }

    /// The time at which a counter stands at `count`.
    fn time(&self, count: u64) -> Result<u64, DifferError> {
        let (hz, mask) = match self.watch {
            Watch::Hpet => (100_000_000, u64::MAX),
            Watch::PmTimer => (3_579_545, 0xFF_FFFF),
        };
        let ticks = |ns: u64| (u128::from(ns) * hz / 1_000_000_000) as u64;
        // It is less than one turn of the counter later.
        let count = ticks(self.now) + (count.wrapping_sub(ticks(self.now)) & mask);
        let first = (u128::from(count) * 1_000_000_000).div_ceil(hz) as u64;
        let time = first.next_multiple_of(1 << self.shift);
        if ticks(time) != count {
            let text = format!("no multiple of 2^{} ns is count {count}", self.shift);
            return Err(DifferError::Protocol(text));
        }
        Ok(time)
    }

    /// Lets the processor run for about so long.
    fn run_for(&mut self, spin: Duration) -> Result<(), DifferError> {
        let mut packets = Vec::new();
        let registers = [
            // A reset may have been asked for: base of CS, then RIP.
            "P12=00000000".to_string(),
            format!("P10={:016x}", LOOP.swap_bytes()),
            "c".to_string(),
        ];
        for text in registers {
            packets.push(b'+');
            packets.extend(packet(&text));
        }
        self.gdb.write_all(&packets)?;
        let begun = Instant::now();
        if spin > Duration::from_millis(1) {
            std::thread::sleep(spin);
        }
        while begun.elapsed() < spin {
            std::hint::spin_loop();
        }
        self.gdb.write_all(b"\x03")?;
        self.packets(3)
    }

    /// Takes so many of gdb's packets.
    fn packets(&mut self, count: usize) -> Result<(), DifferError> {
        let mut seen = 0;
        // What stands behind `#` counts down.
        let mut tail = 0;
        while seen < count {
            let mut bytes = [0; 8192];
            let got = self.gdb.read(&mut bytes)?;
            if got == 0 {
                return Err(DifferError::Protocol("no answer by gdb's protocol".into()));
            }
            for byte in &bytes[..got] {
                if tail > 0 {
                    tail -= 1;
                    seen += usize::from(tail == 0);
                } else if *byte == b'#' {
                    tail = 2;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn packet(text: &str) -> Vec<u8> {
    let sum = text.bytes().fold(0_u8, u8::wrapping_add);
    format!("${text}#{sum:02x}").into_bytes()
}

/// The program makes its socket while it starts.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Err(_) if begun.elapsed() < Duration::from_secs(20) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}
