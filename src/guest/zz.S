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
