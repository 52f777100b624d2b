.code32
part_prot_ring3: ret
.code32
part_prot_task: ret
.code32
part_vm86: ret
.code32
part_paging32: ret
.code32
part_pae: ret
.code64
part_long: ret
.code64
part_long_paging: ret
.code64
part_long_syscall: ret
.code64
part_long_ring3: ret
.code64
part_long_ist: ret
.code64
part_long_smc: ret
.code64
part_events: ret
.code64
part_events_step: ret
.code64
part_events_int: ret
.code64
part_events_debug: ret
.code64
part_events_nmi: ret
.code64
part_pic_pit: ret
.code64
part_apic: ret
.code64
part_uart: ret
.code64
part_cmos_ports: ret
.code64
part_pci: ret
.code64
part_pam: ret
.code64
part_a20: ret
