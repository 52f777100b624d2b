# Devices behind ports: uart, cmos-ports.

.code64
.macro outport port, value
    movl $\port, %edx
    movb $\value, %al
    outb %al, %dx
.endm
.macro inport port
    movl $\port, %edx
    inb %dx, %al
    movzbl %al, %eax
.endm

part_uart:
    # The report's last character has left.
    movl $COM1 + 5, %edx
1:  inb %dx, %al
    testb $0x40, %al
    jz 1b
    outport COM1 + 7, 0xa5
    inport COM1 + 7
    check64 $0xa5, "the scratch register"
    inport COM1 + 2
    check64 $0xc1, "IIR: FIFOs on, nothing pending"
    outport COM1 + 3, 0x83
    inport COM1
    check64 $1, "the divisor behind DLAB"
    outport COM1 + 3, 0x03
    inport COM1 + 3
    check64 $3, "LCR reads back"
    # Loopback: MCR's four outputs are MSR's four inputs, THR is RBR.
    outport COM1 + 4, 0x1a          # loop, OUT2, RTS
    inport COM1 + 6                 # clears the deltas
    inport COM1 + 6
    check64 $0x90, "MSR in loopback: DCD, CTS"
    outport COM1 + 4, 0x15          # loop, OUT1, DTR
    inport COM1 + 6
    andl $0xf0, %eax                # QEMU notes no changes in loopback
    check64 $0x60, "MSR in loopback: RI, DSR"
    # Without FIFOs, which would add their timeout, a matter of time, to what IIR tells.
    outport COM1 + 2, 0
    outport COM1 + 1, 1             # IER: data
    outport COM1, 0x5a
    movl $100000, %ecx
    movl $COM1 + 5, %edx
2:  inb %dx, %al
    testb $1, %al
    jnz 3f
    decl %ecx
    jnz 2b
3:  andl $1, %eax
    check64 $1, "LSR: data ready in loopback"
    inport COM1 + 2
    check64 $4, "IIR: FIFOs off, data available"
    inport COM1
    check64 $0x5a, "the byte that came round"
    inport COM1 + 2
    check64 $1, "IIR once it was read"
    outport COM1 + 2, 7
    inport COM1 + 5
    check64 $0x60, "LSR: empty"
    outport COM1 + 1, 0
    outport COM1 + 4, 0x0b          # OUT2 gates the interrupt line
    # The transmitter is empty: enabling its interrupt raises it at once, on IRQ 4.
    call lapic_on
    call pic_setup
    movl $(uart_hook - R), V_HOOK
    outport 0x21, 0xef
    outport COM1 + 1, 2
    movl $1, %ecx
    call halt_until
    movl V_VECTOR, %eax
    check64 $0x24, "the vector of IRQ 4"
    movl V_B, %eax
    check64 $0xc2, "IIR: transmitter empty"
    inport COM1 + 2
    check64 $0xc1, "reading IIR takes it back"
    movl $2, %ecx
    call open_until
    movl V_A, %eax
    check64 $1, "one interrupt"
    outport COM1 + 1, 0
    outport COM1 + 4, 3
    movq $0, V_HOOK
    call pic_setup
    jmp lapic_off
uart_hook:
    pushq %rdx
    inport COM1 + 2
    movl %eax, V_B
    incl V_A
    movb $0x20, %al
    outb %al, $0x20
    popq %rdx
    ret

# CMOS byte AL, in EAX.
cmos_read:
    outb %al, $0x70
    inb $0x71, %al
    movzbl %al, %eax
    ret
.macro cmos index
    movb $\index, %al
    call cmos_read
.endm
part_cmos_ports:
    cmos 0x0d
    check64 $0x80, "register D: VRT"
    cmos 0x0b
    movl %eax, %ebx
    # SET stops the update: UIP stays clear and the time can be read at leisure.
    movb $0x0b, %al
    outb %al, $0x70
    movb %bl, %al
    orb $0x80, %al
    outb %al, $0x71
    cmos 0x0a
    andl $0x80, %eax
    check64 $0, "UIP with SET"
    # Binary or BCD as register B says; here BCD: no digit beyond 9, no minute beyond 59.
    cmos 0x00
    call bcd_ok
    check64 $1, "seconds"
    cmos 0x02
    call bcd_ok
    check64 $1, "minutes"
    movb $0x0b, %al
    outb %al, $0x70
    movb %bl, %al
    andb $0x7f, %al
    outb %al, $0x71
    # UIP is up for 2 ms a second at most: it is seen clear soon. Polled with nothing in between: how
    # often is a matter of time, and left out where records are compared.
    movb $0x0a, %al
    outb %al, $0x70
    movl $1000000, %ecx
1:  inb $0x71, %al
    movzbl %al, %eax
    testb $0x80, %al
    jz 2f
    decl %ecx
    jnz 1b
2:  andl $0x80, %eax
    check64 $0, "UIP goes down"
    cmos 0x0c
    cmos 0x0c
    andl $0x0f, %eax
    check64 $0, "register C: unused bits"
    # The RAM behind the clock.
    cmos 0x7f
    movl %eax, %ebx
    movb $0x7f, %al
    outb %al, $0x70
    movb $0x5a, %al
    outb %al, $0x71
    cmos 0x7f
    check64 $0x5a, "CMOS RAM keeps a byte"
    movb $0x7f, %al
    outb %al, $0x70
    movb %bl, %al
    outb %al, $0x71
    cmos 0x15
    movl %eax, %ebx
    cmos 0x16
    shll $8, %eax
    orl %ebx, %eax
    check64 $640, "base memory, KiB"

    # Port 61h: the refresh bit toggles every 15 us.
    xorl %esi, %esi
    movl $1000000, %ecx
3:  inb $0x61, %al
    movl $1, %edx
    testb $0x10, %al
    jnz 4f
    movl $2, %edx
4:  orl %edx, %esi
    cmpl $3, %esi
    je 5f
    decl %ecx
    jnz 3b
5:  movl %esi, %eax
    check64 $3, "the refresh bit is seen in both states"
    inb $0x61, %al
    andb $0x0c, %al
    orb $3, %al
    outb %al, $0x61
    inb $0x61, %al
    andl $3, %eax
    check64 $3, "gate and speaker read back"
    # Counter 2 in mode 0: OUT (bit 5) is low until the count is done, and with the gate closed it
    # never is.
    inb $0x61, %al
    andb $0x0c, %al
    outb %al, $0x61
    movb $0xb0, %al
    outb %al, $0x43
    movb $100, %al
    outb %al, $0x42
    xorb %al, %al
    outb %al, $0x42
    inb $0x61, %al
    andl $0x20, %eax
    check64 $0, "OUT of counter 2, its gate closed"
    inb $0x61, %al
    andb $0x0c, %al
    orb $1, %al
    outb %al, $0x61
    movl $1000000, %ecx
6:  inb $0x61, %al
    testb $0x20, %al
    jnz 7f
    decl %ecx
    jnz 6b
7:  andl $0x20, %eax
    check64 $0x20, "OUT of counter 2, its gate open"
    inb $0x61, %al
    andb $0x0c, %al
    outb %al, $0x61
    movb $0xb4, %al
    outb %al, $0x43
    movb $0x34, %al
    outb %al, $0x42
    movb $0x12, %al
    outb %al, $0x42
    movb $0xe8, %al                 # read back: status of counter 2
    outb %al, $0x43
    inb $0x42, %al
    movzbl %al, %eax
    andl $0x3f, %eax
    check64 $0x34, "the status of counter 2: LSB then MSB, mode 2"

    # debugcon: a line, by bytes and by REP OUTSB; a read says E9.
    movl $0x402, %edx
    leaq debugcon_text(%rip), %rsi
    movb (%rsi), %al
    outb %al, %dx
    incq %rsi
    movl $(debugcon_end - debugcon_text - 1), %ecx
    rep outsb
    movl %ecx, %eax
    check64 $0, "REP OUTSB to debugcon"
    # Nothing there: the bus floats.
    inport 0x2f0
    check64 $0xff, "a port with no device"
    ret
# EAX is 1 if AL is two BCD digits below 60.
bcd_ok:
    movl %eax, %ecx
    andl $0x0f, %ecx
    cmpl $10, %ecx
    setb %cl
    cmpl $0x60, %eax
    setb %al
    andb %cl, %al
    movzbl %al, %eax
    ret
debugcon_text:
    .ascii "twin86 guest: debugcon\n"
debugcon_end:
