use super::*;
use crate::arch::segment::TableRegister;
use crate::test_bench::Bench;

/// SDM Vol. 3A, "Error Code": EXT tells an event from outside from the program's own.
#[test]
fn a_fault_in_delivery_names_the_gate_and_who_asked() {
    let mut bench = Bench::protected();
    // All gates are of a type that is none.
    bench.cpu.idtr = TableRegister {
        base: 0x4000,
        limit: 0x7FF,
    };
    let told = Delivered::Interrupt(0x30);
    let outside = Event::hardware(&bench.cpu, 0x30, told);
    let own = Event::software(&bench.cpu, 0x30, 0);
    for (event, code) in [(outside, 0x183), (own, 0x182), (own.privileged(), 0x183)] {
        let result = bench.cpu.deliver(&event);
        let expected = Exception::with_code(GP, code);
        assert_eq!(bench.outcome(result), Err(expected));
    }
}
