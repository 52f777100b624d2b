use super::*;
use proptest::prelude::*;

const T0: Duration = Duration::ZERO;

fn at(ns: u64) -> Duration {
    Duration::from_nanos(ns)
}

/// An application processor's APIC, enabled by software.
fn enabled() -> LocalApic {
    let mut apic = LocalApic::new(1);
    apic.write(0xf0, 0x1ff, T0);
    apic
}

fn fixed(vector: u8, level: bool) -> Message {
    Message {
        target: Target::All,
        delivery: Delivery::Fixed,
        vector,
        level,
    }
}

#[test]
fn registers_after_reset() {
    let mut apic = LocalApic::new(3);
    #[rustfmt::skip]
    let expected = [
        (0x020, 0x0300_0000), (0x030, 0x0005_0014), (0x080, 0), (0x090, 0), (0x0a0, 0), (0x0b0, 0),
        (0x0d0, 0), (0x0e0, 0xffff_ffff), (0x0f0, 0xff), (0x100, 0), (0x170, 0), (0x180, 0),
        (0x200, 0), (0x280, 0), (0x300, 0), (0x310, 0), (0x320, 0x1_0000), (0x330, 0x1_0000),
        (0x340, 0x1_0000), (0x350, 0x1_0000), (0x360, 0x1_0000), (0x370, 0x1_0000), (0x380, 0),
        (0x390, 0), (0x3e0, 0),
    ];
    for (offset, value) in expected {
        assert_eq!(apic.read(offset, T0), value, "{offset:#x}");
    }
    assert_eq!(apic.base(), 0xfee0_0800);
    let mut bootstrap = LocalApic::new(0);
    assert_eq!(bootstrap.base(), 0xfee0_0900);
    assert_eq!(bootstrap.read(0x350, T0), 0x700);
}

#[test]
fn only_writable_bits_are_kept() {
    let mut apic = enabled();
    #[rustfmt::skip]
    let expected = [
        (0x020, 0xff00_0000), (0x030, 0x0005_0014), (0x080, 0xff), (0x0d0, 0xff00_0000),
        (0x0e0, 0xffff_ffff), (0x0f0, 0x1ff), (0x310, 0xff00_0000), (0x320, 0x3_00ff),
        (0x330, 0x1_07ff), (0x340, 0x1_07ff), (0x350, 0x1_a7ff), (0x360, 0x1_a7ff),
        (0x370, 0x1_00ff), (0x3e0, 0xb),
    ];
    for (offset, value) in expected {
        apic.write(offset, u32::MAX, T0);
        assert_eq!(apic.read(offset, T0), value, "{offset:#x}");
    }
    apic.write(0x0e0, 0, T0);
    assert_eq!(apic.read(0x0e0, T0), 0x0fff_ffff);
}

#[test]
fn vectors_come_by_priority_class_above_ppr() {
    let mut apic = enabled();
    for vector in [0x31, 0x52, 0x51, 0x20] {
        assert!(apic.accept(&fixed(vector, false)));
    }
    apic.set_tpr(0x25);
    assert_eq!(apic.acknowledge(), Some(0x52));
    assert_eq!(apic.ppr(), 0x50);
    apic.set_tpr(0x51);
    assert_eq!(apic.ppr(), 0x51, "of one class, TPR");
    apic.set_tpr(0x25);
    assert_eq!(apic.acknowledge(), None, "same class");
    apic.accept(&fixed(0x60, false));
    assert_eq!(apic.acknowledge(), Some(0x60));
    assert_eq!(apic.read(0x130, T0), 1, "ISR");
    assert_eq!(apic.write(0xb0, 0, T0), None);
    assert_eq!(apic.acknowledge(), None);
    apic.write(0xb0, 0, T0);
    assert_eq!(apic.acknowledge(), Some(0x51));
    apic.write(0xb0, 0, T0);
    assert_eq!(apic.acknowledge(), Some(0x31));
    apic.write(0xb0, 0, T0);
    assert_eq!(apic.read(0xa0, T0), 0x25);
    assert_eq!(apic.acknowledge(), None, "class of the task priority");
    apic.set_tpr(0x1f);
    assert_eq!(apic.acknowledge(), Some(0x20));
}

#[test]
fn eoi_of_a_level_interrupt_is_broadcast() {
    let mut apic = enabled();
    apic.accept(&fixed(0x41, true));
    assert_eq!(apic.read(0x1a0, T0), 2, "TMR");
    apic.acknowledge();
    assert_eq!(apic.write(0xb0, 0, T0), Some(Effect::EndOfInterrupt(0x41)));
    apic.accept(&fixed(0x41, false));
    apic.acknowledge();
    assert_eq!(apic.write(0xb0, 0, T0), None);
    assert_eq!(apic.write(0xb0, 0, T0), None, "nothing in service");
}

#[test]
fn software_disabled_apic_takes_all_but_vectors() {
    let mut apic = enabled();
    apic.write(0x320, 0x40, T0);
    apic.accept(&fixed(0x50, false));
    apic.write(0xf0, 0xff, T0);
    assert_eq!(apic.read(0x320, T0), 0x1_0040);
    apic.write(0x320, 0x40, T0);
    assert_eq!(apic.read(0x320, T0), 0x1_0040, "cannot be unmasked");
    assert!(!apic.accept(&fixed(0x60, false)));
    assert_eq!(apic.deliverable(), Some(0x50), "held");
    for delivery in [
        Delivery::Nmi,
        Delivery::Smi,
        Delivery::Init,
        Delivery::StartUp,
    ] {
        assert!(apic.accept(&Message {
            delivery,
            ..fixed(0x9a, false)
        }));
    }
    let latched = apic.latched;
    assert!(latched.nmi && latched.smi && latched.init);
    assert_eq!(latched.sipi, Some(0x9a));
}

#[test]
fn errors_show_after_a_write_and_interrupt_once() {
    let mut apic = enabled();
    apic.write(0x370, 0xfe, T0);
    apic.read(0x040, T0);
    assert_eq!(apic.read(0x280, T0), 0);
    assert_eq!(apic.acknowledge(), Some(0xfe));
    apic.write(0xb0, 0, T0);
    apic.read(0x040, T0);
    assert_eq!(apic.deliverable(), None, "already logged");
    assert_eq!(apic.write(0x300, 0x4_000f, T0), None);
    apic.accept(&fixed(0x0f, false));
    apic.write(0x280, 0, T0);
    assert_eq!(apic.read(0x280, T0), 0xe0);
    apic.write(0x280, 0, T0);
    assert_eq!(apic.read(0x280, T0), 0);
}

#[test]
fn illegal_error_vector_is_an_error_itself() {
    let mut apic = enabled();
    apic.write(0x370, 0x05, T0);
    apic.write(0x3f0, 0, T0);
    apic.write(0x280, 0, T0);
    assert_eq!(apic.read(0x280, T0), 0xc0);
    assert_eq!(apic.deliverable(), None);
}

#[test]
fn icr_makes_messages() {
    let mut apic = enabled();
    let mut send = |high: u32, low: u32| {
        apic.write(0x310, high, T0);
        apic.write(0x300, low, T0)
    };
    let message = |target, delivery, vector| {
        Some(Effect::Send(Message {
            target,
            delivery,
            vector,
            level: false,
        }))
    };
    use Delivery::{Fixed, Init, LowestPriority, Nmi, StartUp};
    assert_eq!(
        send(0x0200_0000, 0x0000_c540),
        message(Target::Physical(2), Init, 0x40)
    );
    assert_eq!(send(0x0200_0000, 0x0000_8500), None, "INIT level de-assert");
    assert_eq!(
        send(0x0200_0000, 0x0000_4608),
        message(Target::Physical(2), StartUp, 8)
    );
    assert_eq!(
        send(0x0300_0000, 0x0000_0931),
        message(Target::Logical(3), LowestPriority, 0x31)
    );
    assert_eq!(
        send(0, 0x0004_0031),
        message(Target::Itself(1), Fixed, 0x31)
    );
    assert_eq!(send(0, 0x0008_8031), message(Target::All, Fixed, 0x31));
    assert_eq!(send(0, 0x000c_0400), message(Target::AllBut(1), Nmi, 0));
    assert_eq!(send(0, 0x000c_0300), None);
    assert_eq!(apic.read(0x300, T0), 0x000c_0300);
}

#[test]
fn logical_destinations_are_flat_or_clustered() {
    let mut apic = enabled();
    apic.write(0xd0, 0x2200_0000, T0);
    for (id, flat, cluster) in [
        (0x02, true, false),
        (0x20, true, false),
        (0x22, true, true),
        (0x23, true, true),
        (0x21, true, false),
        (0x11, false, false),
        (0xff, true, true),
    ] {
        apic.write(0xe0, 0xffff_ffff, T0);
        assert_eq!(apic.is_addressed(Target::Logical(id)), flat, "flat {id:#x}");
        apic.write(0xe0, 0x0fff_ffff, T0);
        assert_eq!(
            apic.is_addressed(Target::Logical(id)),
            cluster,
            "cluster {id:#x}"
        );
    }
    assert!(apic.is_addressed(Target::Physical(1)) && apic.is_addressed(Target::Physical(0xff)));
    assert!(!apic.is_addressed(Target::Physical(0)) && !apic.is_addressed(Target::AllBut(1)));
}

#[test]
fn one_shot_timer_counts_down_by_the_divider() {
    let mut apic = enabled();
    apic.write(0x320, 0x40, T0);
    apic.write(0x3e0, 0x3, T0); // by 16
    apic.write(0x380, 100, at(5));
    assert_eq!(apic.deadline(), Some(at(1605)));
    assert_eq!(apic.read(0x390, at(5 + 15)), 100);
    assert_eq!(apic.read(0x390, at(5 + 16)), 99);
    assert_eq!(apic.read(0x390, at(1604)), 1);
    assert_eq!(apic.deliverable(), None);
    assert_eq!(apic.read(0x390, at(1605)), 0);
    assert_eq!(apic.acknowledge(), Some(0x40));
    assert_eq!(apic.deadline(), None);
    apic.catch_up(at(1 << 40));
    assert_eq!(apic.deliverable(), None);
    assert_eq!(apic.read(0x380, at(1 << 40)), 100);
}

#[test]
fn divider_codes() {
    for (code, divisor) in [
        (0, 2),
        (1, 4),
        (2, 8),
        (3, 16),
        (8, 32),
        (9, 64),
        (10, 128),
        (11, 1),
    ] {
        let mut apic = enabled();
        apic.write(0x320, 0x40, T0);
        apic.write(0x3e0, code, T0);
        apic.write(0x380, 10, T0);
        assert_eq!(apic.deadline(), Some(at(10 * divisor)), "{code:#x}");
    }
}

#[test]
fn periodic_timer_keeps_its_phase_and_coalesces() {
    let mut apic = enabled();
    apic.write(0x3e0, 0xb, T0);
    apic.write(0x320, 0x2_0040, T0);
    apic.write(0x380, 100_000, T0);
    for n in 1..4 {
        assert_eq!(apic.deadline(), Some(at(n * 100_000)));
        apic.catch_up(at(n * 100_000 + 7));
        assert_eq!(apic.acknowledge(), Some(0x40));
        apic.write(0xb0, 0, at(n * 100_000 + 7));
    }
    apic.catch_up(at(950_000));
    assert_eq!(apic.acknowledge(), Some(0x40));
    apic.write(0xb0, 0, at(950_000));
    assert_eq!(apic.deliverable(), None);
    assert_eq!(apic.deadline(), Some(at(1_000_000)));
    assert_eq!(apic.read(0x390, at(950_000)), 50_000);
    // A masked timer runs, but nobody is woken for it.
    apic.write(0x320, 0x3_0040, at(950_000));
    assert_eq!(apic.deadline(), None);
    assert_eq!(apic.read(0x390, at(1_010_000)), 90_000);
    apic.write(0x320, 0x2_0040, at(1_010_000));
    assert_eq!(apic.deliverable(), None);
    apic.write(0x380, 0, at(1_010_000));
    assert_eq!(apic.deadline(), None);
}

#[test]
fn shortest_period_does_not_ask_for_every_tick() {
    let mut apic = enabled();
    apic.write(0x3e0, 0xb, T0);
    apic.write(0x320, 0x2_0040, T0);
    apic.write(0x380, 1, at(3));
    assert_eq!(apic.deadline(), Some(at(10_000)));
    apic.catch_up(at(10_000));
    assert_eq!(apic.deadline(), Some(at(20_000)));
}

#[test]
fn changed_divider_goes_on_from_the_count() {
    let mut apic = enabled();
    apic.write(0x320, 0x40, T0);
    apic.write(0x3e0, 0xb, T0);
    apic.write(0x380, 1000, T0);
    apic.write(0x3e0, 0x0, at(400));
    assert_eq!(apic.read(0x390, at(400)), 600);
    assert_eq!(apic.deadline(), Some(at(400 + 1200)));
}

#[test]
fn lint0_by_mode() {
    let mut apic = enabled();
    apic.set_pin(Pin::Lint0, true);
    assert!(!apic.wants_8259(), "masked");
    apic.write(0x350, 0x700, T0);
    assert!(apic.wants_8259());
    apic.set_pin(Pin::Lint0, false);
    assert!(!apic.wants_8259());
    apic.write(0x350, 0x031, T0);
    apic.set_pin(Pin::Lint0, true);
    assert_eq!(apic.acknowledge(), Some(0x31));
    apic.write(0xb0, 0, T0);
    apic.write(0x350, 0x8032, T0);
    assert_eq!(apic.read(0x350, T0), 0xc032, "remote IRR");
    assert_eq!(apic.acknowledge(), Some(0x32));
    apic.write(0xb0, 0, T0);
    assert_eq!(apic.acknowledge(), Some(0x32), "still asserted");
    apic.set_pin(Pin::Lint0, false);
    apic.write(0xb0, 0, T0);
    assert_eq!(apic.deliverable(), None);
    assert_eq!(apic.read(0x350, T0), 0x8032);
}

#[test]
fn lint1_is_nmi_when_told_so_or_without_apic() {
    let mut apic = enabled();
    apic.set_pin(Pin::Lint1, true);
    assert!(!apic.latched.nmi);
    apic.set_pin(Pin::Lint1, false);
    apic.write(0x360, 0x400, T0);
    apic.set_pin(Pin::Lint1, true);
    assert!(apic.latched.nmi);
    let mut bare = LocalApic::new(1);
    bare.set_base(0xfee0_0000).expect("legal");
    bare.set_pin(Pin::Lint1, true);
    assert!(bare.latched.nmi);
}

#[test]
fn base_register_disables_and_refuses_reserved_bits() {
    let mut apic = enabled();
    for bad in [1, 1 << 9, 1 << 10, 1 << 52, u64::MAX] {
        assert_eq!(apic.set_base(bad), Err(ReservedBits { value: bad }));
    }
    apic.accept(&fixed(0x40, false));
    apic.set_base(0xfee0_0100).expect("legal");
    assert_eq!(apic.base(), 0xfee0_0000, "not the bootstrap processor");
    assert_eq!(apic.read(0x20, T0), u32::MAX);
    assert!(!apic.accept(&Message {
        delivery: Delivery::Nmi,
        ..fixed(0, false)
    }));
    apic.set_base(0xfec0_0800).expect("legal");
    assert_eq!((apic.read(0xf0, T0), apic.deliverable()), (0xff, None));
}

#[test]
fn init_keeps_id_and_base() {
    let mut apic = enabled();
    apic.write(0x20, 0x0700_0000, T0);
    apic.set_base(0xfed0_0800).expect("legal");
    apic.set_tpr(0x80);
    apic.latched.nmi = true;
    apic.init();
    assert_eq!(apic.read(0x20, T0), 0x0700_0000);
    assert_eq!((apic.base(), apic.tpr()), (0xfed0_0800, 0));
    assert!(!apic.latched.nmi && !apic.accepts_vectors());
}

#[test]
fn offsets_inside_a_register_mean_nothing() {
    let mut apic = enabled();
    apic.write(0x84, 0x55, T0);
    assert_eq!(apic.read(0x80, T0), 0);
    assert_eq!(apic.read(0x3f1, T0), 0);
    apic.write(0x280, 0, T0);
    assert_eq!(apic.read(0x280, T0), 0, "and are no error");
}

proptest! {
    /// "Interrupt Acceptance for Fixed Interrupts": what is acknowledged is above all in service,
    /// and above the task priority.
    #[test]
    fn priority_is_never_inverted(
        steps in prop::collection::vec((0u8..4, any::<u8>()), 0..200),
    ) {
        let mut apic = enabled();
        let mut serviced: Vec<u8> = Vec::new();
        for (what, value) in steps {
            match what {
                0 => _ = apic.accept(&fixed(value, value & 1 != 0)),
                1 => apic.set_tpr(value),
                2 => {
                    apic.write(0xb0, 0, T0);
                    serviced.pop();
                }
                _ => if let Some(vector) = apic.acknowledge() {
                    prop_assert!(vector >= 16 && vector >> 4 > apic.tpr() >> 4);
                    prop_assert!(serviced.iter().all(|s| s >> 4 < vector >> 4));
                    serviced.push(vector);
                },
            }
            prop_assert_eq!(apic.isr.highest(), serviced.last().copied());
        }
    }

    /// The deadline is exactly when the count reaches zero.
    #[test]
    fn timer_expires_at_its_deadline(
        start in 0u64..1 << 50, initial in 1u32.., divide: u32, periodic: bool,
    ) {
        let mut apic = enabled();
        apic.write(0x320, 0x40 | u32::from(periodic) << 17, T0);
        apic.write(0x3e0, divide, T0);
        apic.write(0x380, initial, at(start));
        let due = apic.deadline().expect("running");
        prop_assert!(due > at(start));
        if !periodic {
            prop_assert_eq!(apic.read(0x390, due - at(1)), 1);
            prop_assert_eq!(apic.deliverable(), None);
            prop_assert_eq!(apic.read(0x390, due), 0);
        }
        apic.catch_up(due);
        prop_assert_eq!(apic.deliverable(), Some(0x40));
        prop_assert!(apic.deadline().is_none_or(|next| next > due));
    }
}
