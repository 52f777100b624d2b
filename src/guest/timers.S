# Interrupts of devices: pic-pit, apic, and the local APIC for the parts that need it.

.code64
# Software-enabled, spurious vector 3F, LINT0 as ExtINT (virtual wire), TPR 0.
lapic_on:
    movl $0x13f, LAPIC + 0xf0
    movl $0x700, LAPIC + 0x350
    movl $0, LAPIC + 0x80
    ret
# Off by IA32_APIC_BASE and on again: as after reset, whatever was pending is forgotten.
lapic_off:
    movl $0x1b, %ecx
    rdmsr
    btrl $11, %eax
    wrmsr
    btsl $11, %eax
    wrmsr
    movl $0x10000, LAPIC + 0x350
    ret
# Counts in V_A, acknowledges at the local APIC.
lapic_hook:
    incl V_A
    movl $0, LAPIC + 0xb0
    ret

# Both 8259: vectors 20h-2Fh, cascade on 2, all masked.
pic_setup:
    movb $0x11, %al
    outb %al, $0x20
    outb %al, $0xa0
    movb $0x20, %al
    outb %al, $0x21
    movb $0x28, %al
    outb %al, $0xa1
    movb $4, %al
    outb %al, $0x21
    movb $2, %al
    outb %al, $0xa1
    movb $1, %al
    outb %al, $0x21
    outb %al, $0xa1
    movb $0xff, %al
    outb %al, $0x21
    outb %al, $0xa1
    ret
# The local APIC's timer, as a hook: with the last tick wanted TPR holds back what may come behind it.
tick_hook:
    incl V_A
    movl V_A, %eax
    cmpl V_B, %eax
    jb 1f
    movl $0x30, LAPIC + 0x80
    movl $0x10000, LAPIC + 0x320
1:  movl $0, LAPIC + 0xb0
    ret
# Counter 0: mode 2, 1193182 / 1193 Hz.
pit_1khz:
    movb $0x34, %al
    outb %al, $0x43
    movb $(1193 & 0xff), %al
    outb %al, $0x40
    movb $(1193 >> 8), %al
    outb %al, $0x40
    ret
# Counter 0 to mode 0 with no count: silent.
pit_stop:
    movb $0x30, %al
    outb %al, $0x43
    ret
# Halts until V_A has reached ECX. STI's shadow closes the gap before HLT.
halt_until:
    cmpl %ecx, V_A
    jae 1f
    sti
    hlt
    cli
    jmp halt_until
1:  ret

# Opens IF until V_A has reached ECX, or long enough: a KVM that emulates ring 0 may deliver some
# instructions late.
open_until:
    movl $2000, %edx
    sti
1:  cmpl %ecx, V_A
    jae 2f
    decl %edx
    jnz 1b
2:  cli
    ret

# The 8259's EOI; the line is masked with the last tick wanted, so that the count is exact.
pit_hook:
    incl V_A
    movl V_A, %eax
    cmpl V_B, %eax
    jb 1f
    movb $0xff, %al
    outb %al, $0x21
1:  movb $0x20, %al
    outb %al, $0x20
    ret
part_pic_pit:
    call lapic_on
    call pic_setup
    inb $0x21, %al
    movzbl %al, %eax
    check64 $0xff, "the mask reads back"
    movl $(pit_hook - R), V_HOOK
    movl $5, V_B
    call pit_1khz
    movb $0xfe, %al
    outb %al, $0x21
    movl $5, %ecx
    call halt_until
    movl V_A, %eax
    check64 $5, "five ticks"
    movl V_VECTOR, %eax
    check64 $0x20, "the vector of IRQ 0"
    movb $0x0b, %al
    outb %al, $0x20
    inb $0x20, %al
    movzbl %al, %eax
    check64 $0, "ISR after EOI"
    # A sixth tick may have come behind the mask: the 8259's initialisation forgets it.
    call pit_stop                   # mode 0: OUT rises at the end of the count and stays
    call pic_setup
    movb $100, %al
    outb %al, $0x40
    xorb %al, %al
    outb %al, $0x40
    movl $6, V_B
    movb $0xfe, %al
    outb %al, $0x21
    movl $6, %ecx
    call halt_until
    movb $0x0a, %al
    outb %al, $0x20
    inb $0x20, %al
    andl $1, %eax
    check64 $0, "the request register after the acknowledge"
    movb $0xe2, %al                 # read back: status of counter 0
    outb %al, $0x43
    inb $0x40, %al
    andl $0xbf, %eax
    check64 $0xb0, "counter 0 in mode 0 at its end: OUT high"
    # ISR within the service: no EOI until it was read.
    movl $(pit_isr_hook - R), V_HOOK
    movl $7, V_B
    movb $0x30, %al
    outb %al, $0x43
    movb $100, %al
    outb %al, $0x40
    xorb %al, %al
    outb %al, $0x40
    movb $0xfe, %al
    outb %al, $0x21
    movl $7, %ecx
    call halt_until
    movl V_C, %eax
    check64 $1, "ISR in the handler"
    movq $0, V_HOOK
    call pit_stop
    call pic_setup
    jmp lapic_off
pit_isr_hook:
    movb $0x0b, %al
    outb %al, $0x20
    inb $0x20, %al
    movb %al, V_C
    jmp pit_hook

# AL: index; EAX: value.
ioapic_read:
    movzbl %al, %eax
    movl %eax, IOAPIC
    movl IOAPIC + 0x10, %eax
    ret
ioapic_write:
    movzbl %al, %eax
    movl %eax, IOAPIC
    movl %edx, IOAPIC + 0x10
    ret
# IOAPIC pin 2, edge: masked with the last tick wanted; TPR holds back what came before the mask.
ioapic_hook:
    incl V_A
    movl V_A, %eax
    cmpl V_B, %eax
    jb 1f
    movl $0x30, LAPIC + 0x80
    pushq %rdx
    movb $0x14, %al
    movl $0x10031, %edx
    call ioapic_write
    popq %rdx
1:  movl $0, LAPIC + 0xb0
    ret
part_apic:
    call pic_setup                  # the 8259 pair stays masked
    movl $0x1b, %ecx
    rdmsr
    shrl $8, %eax
    check64 $0xfee009, "IA32_APIC_BASE: enabled, boot processor"
    call lapic_on
    movl LAPIC + 0x30, %eax
    andl $0xf0, %eax
    check64 $0x10, "the local APIC's version"
    # One-shot timer.
    movl $(lapic_hook - R), V_HOOK
    movl $0xb, LAPIC + 0x3e0        # divide by 1
    movl $0x30, LAPIC + 0x320
    movl $0x4000, LAPIC + 0x380
    movl $1, %ecx
    call halt_until
    movl V_VECTOR, %eax
    check64 $0x30, "the timer's vector"
    movl LAPIC + 0x390, %eax
    check64 $0, "the timer stands at 0"
    # Periodic.
    movl $(tick_hook - R), V_HOOK
    movl $0, V_A
    movl $3, V_B
    movl $0x20030, LAPIC + 0x320
    movl $0x40000, LAPIC + 0x380
    movl $3, %ecx
    call halt_until
    movl V_A, %eax
    check64 $3, "three ticks of the periodic timer"
    # A fourth may wait in IRR.
    call lapic_off
    movl LAPIC + 0x320, %eax
    check64 $0x10000, "the timer's LVT once the APIC was off"
    call lapic_on
    movl LAPIC + 0x210, %eax        # IRR, vectors 20h-3Fh
    check64 $0, "IRR once the APIC was off"
    movl $(lapic_hook - R), V_HOOK
    movl $0, V_A
    # Self IPI, held back by TPR.
    movl $0x40, LAPIC + 0x80
    movl $0x00040032, LAPIC + 0x300
    movl $1, %ecx
    call open_until
    movl V_A, %eax
    check64 $0, "TPR 40h holds vector 32h back"
    movl LAPIC + 0x210, %eax
    check64 $(1 << (0x32 - 0x20)), "it waits in IRR"
    xorl %eax, %eax
    movq %rax, %cr8                 # CR8 is TPR
    movl $1, %ecx
    call open_until
    movl V_A, %eax
    check64 $1, "it comes when CR8 allows"
    movl V_VECTOR, %eax
    check64 $0x32, "the self IPI's vector"
    movl LAPIC + 0x110, %eax
    check64 $0, "ISR after EOI"
    # Of two pending, the higher class first; the lower after its EOI.
    movl $0, V_A
    movl $0, V_B
    movl $(lapic_order_hook - R), V_HOOK
    movl $0x00040021, LAPIC + 0x300
    movl $0x00040035, LAPIC + 0x300
    movl $2, %ecx
    call open_until
    movl V_B, %eax
    check64 $0x2135, "vector 35h before 21h"
    # IOAPIC: pin 2 is the 8254.
    movl $(ioapic_hook - R), V_HOOK
    movb $1, %al
    call ioapic_read
    shrl $16, %eax
    andl $0xff, %eax
    check64 $23, "the IOAPIC's last entry"
    movl LAPIC + 0x20, %edx
    andl $0xff000000, %edx
    movb $0x15, %al
    call ioapic_write
    movl $0, V_A
    movl $4, V_B
    call pit_1khz
    movl $0x31, %edx                # fixed, physical, edge, high
    movb $0x14, %al
    call ioapic_write
    movl $4, %ecx
    call halt_until
    movl V_VECTOR, %eax
    check64 $0x31, "the vector of pin 2"
    movl V_A, %eax
    check64 $4, "four ticks"
    movb $0x14, %al
    call ioapic_read
    check64 $0x10031, "the entry reads back, masked"
    call pit_stop
    movq $0, V_HOOK
    jmp lapic_off
lapic_order_hook:
    movl V_A, %eax
    leal (, %rax, 8), %eax
    pushq %rcx
    movl %eax, %ecx
    movl V_VECTOR, %eax
    shll %cl, %eax
    orl %eax, V_B
    addl $1, V_A
    popq %rcx
    movl $0, LAPIC + 0xb0
    ret
