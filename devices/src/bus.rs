//! The port and memory space of the board, and the devices behind them.
//!
//! The bus is the only place that splits accesses: a device sees none wider or narrower than its
//! region declares, none that crosses a region's end, and (unless the region says otherwise) none
//! that is not naturally aligned. An access is cut the way software has come to rely on:
//!
//! - wider than the region's widest: consecutive pieces, lowest address first, each as wide as the
//!   region and its alignment allow. A 16-bit access to an 8-bit port is two 8-bit accesses to
//!   consecutive ports, and the second may land in another device.
//! - narrower than the region's narrowest: a read takes the aligned unit and gives the bytes asked
//!   for; a write puts the bytes into their lanes of a unit that is otherwise zero.
//! - where no device answers the bus floats: reads give all ones, writes are lost. There is no
//!   wrap-around: the byte after the last address of a space floats.
//!
//! **Lock order.** A device's lock is taken by the bus alone, one at a time, and never while
//! another device's is held. Under it a device may use its interrupt lines (the chips' lock comes
//! last), guest memory and the clock. What it asks of the machine is applied after its lock is
//! dropped and before the access returns; each device has its own queue, emptied under its lock,
//! so an access applies exactly what it caused, whatever other processors do.
//!
//! Ranges that move while the machine runs (PCI BARs) are [`Window`]s: all are set anew at each change,
//! and one gets only the addresses at which no fixed region and no window before it answers.
//!
//! Not modelled: bus timing, LOCK#.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::{At, Clock, Device, Request, Requests, RestoreError, State};

/// What a byte reads as where no device drives the bus.
pub const FLOAT: u8 = 0xFF;

/// The widest access any device sees, in bytes.
const WIDEST: usize = 8;

/// A deadline that never comes.
const NEVER: u64 = u64::MAX;

/// One of the two address spaces of a PC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The 64 KiB of I/O ports.
    Port,
    /// Physical memory outside RAM and ROM.
    Memory,
}

impl Space {
    const fn last(self) -> u64 {
        match self {
            Self::Port => 0xFFFF,
            Self::Memory => u64::MAX,
        }
    }
}

/// Which accesses a region's device is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths {
    /// The narrowest access, in bytes: 1, 2, 4 or 8.
    pub min: u8,
    /// The widest access, in bytes: 1, 2, 4 or 8.
    pub max: u8,
    /// Whether accesses need not be aligned to their width (only with `min` 1).
    pub unaligned: bool,
}

impl Widths {
    /// Bytes only: the ISA chips.
    pub const BYTE: Self = Self::between(1, 1);
    /// Bytes, words and doublewords: PCI configuration and most PCI functions.
    pub const UP_TO_DWORD: Self = Self::between(1, 4);
    /// Doublewords only.
    pub const DWORD: Self = Self::between(4, 4);

    /// Aligned accesses of `min` to `max` bytes.
    pub const fn between(min: u8, max: u8) -> Self {
        Self {
            min,
            max,
            unaligned: false,
        }
    }

    fn are_sound(self) -> bool {
        let width = |w: u8| w.is_power_of_two() && usize::from(w) <= WIDEST;
        width(self.min)
            && width(self.max)
            && self.min <= self.max
            && (self.min == 1 || !self.unaligned)
    }
}

/// A range of addresses at which a device answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where the addresses are.
    pub space: Space,
    /// First and last address.
    pub range: RangeInclusive<u64>,
    /// What the device is shown.
    pub widths: Widths,
}

impl Region {
    /// A region of I/O ports.
    pub const fn ports(range: RangeInclusive<u64>, widths: Widths) -> Self {
        Self {
            space: Space::Port,
            range,
            widths,
        }
    }

    /// A region of memory-mapped registers.
    pub const fn memory(range: RangeInclusive<u64>, widths: Widths) -> Self {
        Self {
            space: Space::Memory,
            range,
            widths,
        }
    }
}

/// A region that comes and goes while the machine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The device that answers.
    pub device: &'static str,
    /// Which of its regions this is.
    pub number: u8,
    /// Where it is now.
    pub region: Region,
}

/// Why a bus could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Two devices answer at one address.
    #[error("{new} at {at:#x} overlaps {old}")]
    Overlap {
        /// The device that came later.
        new: &'static str,
        /// The device that was there.
        old: &'static str,
        /// The first address both claim.
        at: u64,
    },
    /// Two devices have one name, by which their state is saved.
    #[error("there are two devices named {name}")]
    Name {
        /// The name.
        name: &'static str,
    },
    /// A region is empty or lies outside its space.
    #[error("region {region} of {device} ({first:#x}..={last:#x}) is not in the {space:?} space")]
    Range {
        /// The device.
        device: &'static str,
        /// The region's index.
        region: usize,
        /// Its space.
        space: Space,
        /// Its first address.
        first: u64,
        /// Its last address.
        last: u64,
    },
    /// A region's widths contradict each other or its size.
    #[error("region {region} of {device} cannot be accessed as {widths:?}")]
    Widths {
        /// The device.
        device: &'static str,
        /// The region's index.
        region: usize,
        /// The widths declared.
        widths: Widths,
    },
}

/// Why a saved machine was refused.
#[derive(Debug, thiserror::Error)]
pub enum RestoreAllError {
    /// The saved machine lacks a device this one has.
    #[error("the saved state has no {device}")]
    Missing {
        /// The device.
        device: &'static str,
    },
    /// The saved machine has a device this one lacks.
    #[error("the saved state has a {device}, this machine has none")]
    Unknown {
        /// The device.
        device: String,
    },
    /// A device refused its state; those before it have taken theirs.
    #[error("{device} cannot be restored")]
    Device {
        /// The device.
        device: &'static str,
        /// Why.
        #[source]
        source: RestoreError,
    },
}

/// Carries out what devices ask of the machine.
pub trait Apply: Send + Sync {
    /// Applies one request. No device's lock is held; the guest's access has not returned yet.
    fn apply(&self, request: Request);
}

/// Collects devices and their regions, in the order in which they are reset and saved.
#[derive(Default)]
pub struct BusBuilder {
    fixed: Spaces,
    slots: Vec<Slot>,
}

/// The devices of a board and the two spaces they answer in.
pub struct Bus {
    windows: Arc<Windows>,
    slots: Vec<Slot>,
    clock: Clock,
    machine: Arc<dyn Apply>,
    /// The earliest of all deadlines; written under `settling`, read without a lock.
    next: AtomicU64,
    settling: Mutex<()>,
}

/// A device, its lock, and what the bus knows of it.
struct Slot {
    name: &'static str,
    device: Mutex<Box<dyn Device>>,
    requests: Requests,
    /// Guest nanoseconds at which the device wants to be polled; written under its lock.
    deadline: AtomicU64,
}

/// Who answers where: the fixed regions, and the windows as they are now.
pub struct Windows {
    fixed: Spaces,
    /// For each port one plus the place of its region among the fixed ones, or 0.
    fixed_ports: Box<[u16]>,
    names: Vec<&'static str>,
    now: RwLock<Spaces>,
}

/// The regions of both spaces.
#[derive(Clone, Default)]
struct Spaces {
    ports: Ranges,
    memory: Ranges,
}

/// The regions of one space, sorted, without overlap.
#[derive(Clone, Default)]
struct Ranges {
    list: Vec<Range>,
}

#[derive(Clone, Copy)]
struct Range {
    first: u64,
    last: u64,
    /// The address of the region's first byte: `first`, but where another region covers its start.
    base: u64,
    widths: Widths,
    slot: usize,
    region: u8,
}

/// A part of an access that one device, or the floating bus, answers.
struct Piece {
    len: usize,
    hit: Option<(Range, u64)>,
}

impl BusBuilder {
    /// A bus without devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a device. `regions` number as in [`At::region`]; `requests` is this device's own queue.
    ///
    /// # Errors
    /// If the name is taken, or a region overlaps another, lies outside its space or declares
    /// impossible widths.
    pub fn add(
        self,
        name: &'static str,
        regions: &[Region],
        device: Box<dyn Device>,
        requests: Requests,
    ) -> Result<Self, BusError> {
        self.add_numbered(name, 0, regions, device, requests)
    }

    /// The same with regions that number from `first` on: those below it are [`Window`]s.
    ///
    /// # Errors
    /// As [`BusBuilder::add`].
    pub fn add_numbered(
        mut self,
        name: &'static str,
        first: u8,
        regions: &[Region],
        device: Box<dyn Device>,
        requests: Requests,
    ) -> Result<Self, BusError> {
        if self.slots.iter().any(|slot| slot.name == name) {
            return Err(BusError::Name { name });
        }
        for (index, region) in regions.iter().enumerate() {
            self.add_region(name, usize::from(first) + index, region)?;
        }
        self.slots.push(Slot {
            name,
            device: Mutex::new(device),
            requests,
            deadline: AtomicU64::new(NEVER),
        });
        Ok(self)
    }

    fn add_region(
        &mut self,
        device: &'static str,
        index: usize,
        region: &Region,
    ) -> Result<(), BusError> {
        let (space, widths) = (region.space, region.widths);
        let (first, last) = (*region.range.start(), *region.range.end());
        let number = u8::try_from(index).ok();
        let Some(number) = number.filter(|_| first <= last && last <= space.last()) else {
            return Err(BusError::Range {
                device,
                region: index,
                space,
                first,
                last,
            });
        };
        // Is `last - first + 1` whole units? Written so that the whole space does not overflow.
        let min = u64::from(widths.min.max(1));
        let whole_units = (last - first) % min == min - 1;
        if !widths.are_sound() || !whole_units {
            return Err(BusError::Widths {
                device,
                region: index,
                widths,
            });
        }
        let range = Range {
            first,
            last,
            base: first,
            widths,
            slot: self.slots.len(),
            region: number,
        };
        let inserted = self.fixed.of_mut(space).insert(range);
        inserted.map_err(|(old, at)| BusError::Overlap {
            new: device,
            old: self.slots.get(old).map_or(device, |slot| slot.name),
            at,
        })
    }

    /// The finished bus; `machine` carries out the devices' requests.
    pub fn build(self, clock: Clock, machine: Arc<dyn Apply>) -> Bus {
        let windows = Windows {
            names: self.slots.iter().map(|slot| slot.name).collect(),
            now: RwLock::new(self.fixed.clone()),
            fixed_ports: self.fixed.ports.by_address(),
            fixed: self.fixed,
        };
        let bus = Bus {
            windows: Arc::new(windows),
            slots: self.slots,
            clock,
            machine,
            next: AtomicU64::new(NEVER),
            settling: Mutex::new(()),
        };
        for slot in &bus.slots {
            bus.visit(slot, |_| ());
        }
        bus
    }
}

impl Windows {
    /// Sets where the windows are; those of devices that are not on this bus are left out.
    pub fn set(&self, windows: &[Window]) {
        let mut spaces = self.fixed.clone();
        for window in windows {
            let Some(slot) = self.names.iter().position(|name| *name == window.device) else {
                continue;
            };
            let region = &window.region;
            spaces.of_mut(region.space).insert_where_free(Range {
                first: *region.range.start(),
                last: *region.range.end(),
                base: *region.range.start(),
                widths: region.widths,
                slot,
                region: window.number,
            });
        }
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = spaces;
    }

    /// The fixed region at an address: no window stands before it, so no lock is needed.
    fn fixed(&self, space: Space, at: u64) -> Option<&Range> {
        match space {
            Space::Port => {
                let place = *self.fixed_ports.get(usize::try_from(at).ok()?)?;
                self.fixed
                    .ports
                    .list
                    .get(usize::from(place).checked_sub(1)?)
            }
            Space::Memory => self.fixed.memory.find(at).ok(),
        }
    }

    fn now(&self) -> RwLockReadGuard<'_, Spaces> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spaces {
    fn of(&self, space: Space) -> &Ranges {
        match space {
            Space::Port => &self.ports,
            Space::Memory => &self.memory,
        }
    }

    fn of_mut(&mut self, space: Space) -> &mut Ranges {
        match space {
            Space::Port => &mut self.ports,
            Space::Memory => &mut self.memory,
        }
    }
}

impl Bus {
    /// Where windows are set.
    pub fn windows(&self) -> &Arc<Windows> {
        &self.windows
    }

    /// Reads from a space; bytes nobody answers float.
    pub fn read(&self, space: Space, address: u64, data: &mut [u8]) {
        data.fill(FLOAT);
        let mut done = 0;
        while let Some(piece) = self.piece(space, address, done, data.len()) {
            let end = done + piece.len;
            if let Some((range, offset)) = piece.hit {
                self.visit(&self.slots[range.slot], |device| {
                    range.read(device, offset, &mut data[done..end]);
                });
            }
            done = end;
        }
        tracing::trace!(target: "bus", ?space, address, ?data, "read");
    }

    /// Writes to a space; bytes nobody takes are lost.
    pub fn write(&self, space: Space, address: u64, data: &[u8]) {
        tracing::trace!(target: "bus", ?space, address, ?data, "write");
        let mut done = 0;
        while let Some(piece) = self.piece(space, address, done, data.len()) {
            let end = done + piece.len;
            if let Some((range, offset)) = piece.hit {
                self.visit(&self.slots[range.slot], |device| {
                    range.write(device, offset, &data[done..end]);
                });
            }
            done = end;
        }
    }

    /// String input (`INS`): fills `data` with items of `width` bytes, all from `port`.
    pub fn read_items(&self, port: u16, width: usize, data: &mut [u8]) {
        if data.len() <= width {
            return self.read(Space::Port, port.into(), data);
        }
        let mut done = 0;
        while done < data.len() {
            let width = width.clamp(1, data.len() - done);
            let whole = self.whole(port, width);
            let Some((range, offset)) = whole else {
                self.read(Space::Port, port.into(), &mut data[done..done + width]);
                done += width;
                continue;
            };
            let slot = &self.slots[range.slot];
            done += self.visit(slot, |device| {
                let items = data[done..].chunks_exact_mut(width);
                slot.in_one_visit(items, |item| {
                    item.fill(FLOAT);
                    range.read(device, offset, item);
                }) * width
            });
        }
    }

    /// String output (`OUTS`): writes the items of `width` bytes in `data`, all to `port`.
    pub fn write_items(&self, port: u16, width: usize, data: &[u8]) {
        if data.len() <= width {
            return self.write(Space::Port, port.into(), data);
        }
        let mut done = 0;
        while done < data.len() {
            let width = width.clamp(1, data.len() - done);
            let whole = self.whole(port, width);
            let Some((range, offset)) = whole else {
                self.write(Space::Port, port.into(), &data[done..done + width]);
                done += width;
                continue;
            };
            let slot = &self.slots[range.slot];
            done += self.visit(slot, |device| {
                let items = data[done..].chunks_exact(width);
                slot.in_one_visit(items, |item| range.write(device, offset, item)) * width
            });
        }
    }

    /// Where an access of `width` bytes lands, if one device takes it at once.
    fn whole(&self, port: u16, width: usize) -> Option<(Range, u64)> {
        let piece = self.piece(Space::Port, port.into(), 0, width)?;
        piece.hit.filter(|_| piece.len == width)
    }

    /// Guest time at which a device next has something to do; takes no lock.
    pub fn next_deadline(&self) -> Option<Duration> {
        let next = self.next.load(Ordering::Acquire);
        (next != NEVER).then(|| Duration::from_nanos(next))
    }

    /// Polls the devices that are due at `now`; returns the next deadline of all.
    pub fn poll_due(&self, now: Duration) -> Option<Duration> {
        let now = nanoseconds(Some(now));
        if self.next.load(Ordering::Acquire) <= now {
            for slot in &self.slots {
                if slot.deadline.load(Ordering::Acquire) <= now {
                    self.visit(slot, |_| ());
                }
            }
        }
        self.next_deadline()
    }

    /// Polls a device now, whatever its deadline: its backend has something for it. A name that
    /// stands for no device is no mistake: the board may have been built without it.
    pub fn poll_device(&self, name: &str) {
        if let Some(slot) = self.slots.iter().find(|slot| slot.name == name) {
            self.visit(slot, |_| ());
        }
    }

    /// Hardware reset of every device, in the order they were added.
    pub fn reset_all(&self) {
        for slot in &self.slots {
            self.visit(slot, |device| device.reset());
        }
    }

    /// Every device's state by name, as of now. Quiet processors are the caller's business.
    pub fn save_all(&self) -> BTreeMap<String, State> {
        let now = self.clock.now();
        let state = |slot: &Slot| {
            let state = self.visit(slot, |device| {
                device.poll(now);
                device.save()
            });
            (slot.name.to_owned(), state)
        };
        self.slots.iter().map(state).collect()
    }

    /// Takes over every device's state.
    ///
    /// # Errors
    /// If the devices are not those of this bus (nothing is changed then), or one refuses its state.
    pub fn restore_all(&self, from: &BTreeMap<String, State>) -> Result<(), RestoreAllError> {
        if let Some(device) = from.keys().find(|name| !self.has(name)) {
            return Err(RestoreAllError::Unknown {
                device: device.clone(),
            });
        }
        let lacking = |slot: &&Slot| !from.contains_key(slot.name);
        if let Some(slot) = self.slots.iter().find(lacking) {
            return Err(RestoreAllError::Missing { device: slot.name });
        }
        for slot in &self.slots {
            self.visit(slot, |device| device.restore(&from[slot.name]))
                .map_err(|source| RestoreAllError::Device {
                    device: slot.name,
                    source,
                })?;
        }
        Ok(())
    }

    /// The devices' names, in the order they were added.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.slots.iter().map(|slot| slot.name)
    }

    /// Which device answers where now, ports first, in ascending order.
    pub fn regions(&self) -> Vec<(&'static str, Region)> {
        let region = |space| {
            move |range: &Range| {
                let region = Region {
                    space,
                    range: range.first..=range.last,
                    widths: range.widths,
                };
                (self.slots[range.slot].name, region)
            }
        };
        let now = self.windows.now();
        let ports = now.ports.list.iter().map(region(Space::Port));
        let memory = now.memory.list.iter().map(region(Space::Memory));
        ports.chain(memory).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.slots.iter().any(|slot| slot.name == name)
    }

    fn piece(&self, space: Space, address: u64, done: usize, len: usize) -> Option<Piece> {
        let wanted = len.checked_sub(done).filter(|&wanted| wanted != 0)?;
        let at = address.checked_add(u64::try_from(done).ok()?)?;
        if let Some(range) = self.windows.fixed(space, at) {
            return Some(range.piece(at, wanted));
        }
        (at <= space.last()).then(|| self.windows.now().of(space).piece(at, wanted))
    }

    /// Does something with a device under its lock, then applies what it asked for.
    fn visit<T>(&self, slot: &Slot, what: impl FnOnce(&mut dyn Device) -> T) -> T {
        let mut device = slot.lock();
        let result = what(device.as_mut());
        let mut moved = false;
        let before = slot.deadline.load(Ordering::Acquire);
        if before != NEVER || device.keeps_time() {
            let deadline = nanoseconds(device.poll(self.clock.now()));
            slot.deadline.store(deadline, Ordering::Release);
            moved = before != deadline;
        }
        let requests = slot.requests.take();
        drop(device);
        if moved {
            self.settle();
        }
        for request in requests {
            self.machine.apply(request);
        }
        result
    }

    /// Finds the earliest deadline again.
    fn settle(&self) {
        let _guard = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let deadlines = self
            .slots
            .iter()
            .map(|s| s.deadline.load(Ordering::Acquire));
        self.next
            .store(deadlines.min().unwrap_or(NEVER), Ordering::Release);
    }
}

impl Slot {
    /// Does the same with one item after another, until the device asks for something: that comes
    /// before the next item. Returns how many items there were.
    fn in_one_visit<I>(&self, items: impl Iterator<Item = I>, mut each: impl FnMut(I)) -> usize {
        let mut done = 0;
        for item in items {
            each(item);
            done += 1;
            if self.requests.is_waiting() {
                break;
            }
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Device>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ranges {
    /// Inserts a range in order; fails with the slot it overlaps and the first common address.
    fn insert(&mut self, new: Range) -> Result<(), (usize, u64)> {
        let index = self.list.partition_point(|old| old.last < new.first);
        if let Some(old) = self.list.get(index).filter(|old| old.first <= new.last) {
            return Err((old.slot, old.first.max(new.first)));
        }
        self.list.insert(index, new);
        Ok(())
    }

    /// Inserts what of a range is free.
    fn insert_where_free(&mut self, new: Range) {
        let mut first = new.first;
        let mut free = Vec::new();
        let start = self.list.partition_point(|old| old.last < new.first);
        for old in &self.list[start..] {
            if old.first > new.last {
                break;
            }
            if first < old.first {
                free.push((first, old.first - 1));
            }
            // The last address of a space may be taken: nothing is free behind it.
            match old.last.checked_add(1) {
                Some(next) => first = next,
                None => return self.insert_parts(new, &free),
            }
        }
        if first <= new.last {
            free.push((first, new.last));
        }
        self.insert_parts(new, &free);
    }

    fn insert_parts(&mut self, of: Range, free: &[(u64, u64)]) {
        for &(first, last) in free {
            let index = self.list.partition_point(|old| old.last < first);
            self.list.insert(index, Range { first, last, ..of });
        }
    }

    /// The first piece of an access of `wanted` bytes at `at`.
    fn piece(&self, at: u64, wanted: usize) -> Piece {
        match self.find(at) {
            Ok(range) => range.piece(at, wanted),
            Err(next) => {
                let gap = next.map_or(u64::MAX, |range| range.first - at);
                Piece {
                    len: wanted.min(usize::try_from(gap).unwrap_or(usize::MAX)),
                    hit: None,
                }
            }
        }
    }

    /// The range at an address, else the next one above it.
    fn find(&self, at: u64) -> Result<&Range, Option<&Range>> {
        let index = self.list.partition_point(|range| range.last < at);
        match self.list.get(index) {
            Some(range) if range.first <= at => Ok(range),
            next => Err(next),
        }
    }

    /// For each port one plus the place of its range, or 0.
    fn by_address(&self) -> Box<[u16]> {
        let mut places = vec![0; 0x1_0000].into_boxed_slice();
        for (range, place) in self.list.iter().zip(1u16..) {
            // Ranges of ports lie inside their space.
            places[range.first as usize..=range.last as usize].fill(place);
        }
        places
    }
}

impl Range {
    /// The first piece of an access of `wanted` bytes at `at`, which lies in this range.
    fn piece(&self, at: u64, wanted: usize) -> Piece {
        let offset = at - self.base;
        Piece {
            len: self.piece_len(offset, wanted),
            hit: Some((*self, offset)),
        }
    }

    /// How many bytes of an access at `offset` this range takes at once.
    fn piece_len(&self, offset: u64, wanted: usize) -> usize {
        let left = (self.last - self.base - offset).saturating_add(1);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let most = wanted.min(left).min(usize::from(self.widths.max));
        // Never 0: the caller wants something and the offset is inside.
        let power = 1usize << most.max(1).ilog2();
        if self.widths.unaligned {
            power
        } else {
            let alignment = 1usize << offset.trailing_zeros().min(WIDEST.ilog2());
            power.min(alignment)
        }
    }

    fn read(&self, device: &mut dyn Device, offset: u64, data: &mut [u8]) {
        let (unit, lanes) = self.unit(offset, data.len());
        if lanes.len() == unit.width {
            return device.read(unit.at, data);
        }
        let mut whole = [FLOAT; WIDEST];
        device.read(unit.at, &mut whole[..unit.width]);
        data.copy_from_slice(&whole[lanes]);
    }

    fn write(&self, device: &mut dyn Device, offset: u64, data: &[u8]) {
        let (unit, lanes) = self.unit(offset, data.len());
        if lanes.len() == unit.width {
            return device.write(unit.at, data);
        }
        let mut whole = [0; WIDEST];
        whole[lanes].copy_from_slice(data);
        device.write(unit.at, &whole[..unit.width]);
    }

    /// The access the device is shown for one piece, and which of its bytes the piece is.
    fn unit(&self, offset: u64, len: usize) -> (Unit, std::ops::Range<usize>) {
        let width = len.max(usize::from(self.widths.min));
        // A piece narrower than the region's narrowest is aligned, so it lies in one unit.
        let lane = if width == len {
            0
        } else {
            usize::try_from(offset & (u64::from(self.widths.min) - 1)).unwrap_or(0)
        };
        let at = At {
            region: self.region,
            offset: offset - lane as u64,
        };
        (Unit { at, width }, lane..lane + len)
    }
}

/// One access as a device sees it.
struct Unit {
    at: At,
    width: usize,
}

fn nanoseconds(time: Option<Duration>) -> u64 {
    time.map_or(NEVER, |t| u64::try_from(t.as_nanos()).unwrap_or(NEVER))
}

#[cfg(test)]
mod tests;
