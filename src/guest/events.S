# Exceptions and interrupts in long mode, ring 0: events, events-step, events-int, events-debug, events-nmi.

.code64
part_events:
    try64 1f
events_ud:
    ud2
1:  trapped64 6, 0, "UD2"
    movq V_RIP, %rax
    check64 $(events_ud - R), "#UD is a fault"
    movl $100, %eax
    xorl %edx, %edx
    xorl %ecx, %ecx
    try64 1f
events_divide:
    divl %ecx
1:  trapped64 0, 0, "DIV by 0"
    movq V_RIP, %rax
    check64 $(events_divide - R), "#DE is a fault"
    movl $1, %edx
    movl $1, %ecx
    xorl %eax, %eax
    try64 1f
    divl %ecx
1:  trapped64 0, 0, "DIV with a quotient too large"
    movl $0x80000000, %eax
    cltd
    movl $-1, %ecx
    try64 1f
    idivl %ecx
1:  trapped64 0, 0, "IDIV 80000000 / -1"
    try64 1f
    .byte 0xce                      # INTO
1:  trapped64 6, 0, "#UD: INTO in 64-bit mode"
    movl $SEL_TSS64, %eax
    try64 1f
    movl %eax, %ds
1:  trapped64 13, SEL_TSS64, "#GP: DS with a TSS"
    movl $0x1000, %eax
    try64 1f
    movl %eax, %es
1:  trapped64 13, 0x1000, "#GP: a selector beyond the GDT"
    movl $0x0000ffff, GDT + 0x90
    movl $0x00cf1300, GDT + 0x94
    movl $0x90, %eax
    try64 1f
    movl %eax, %es
1:  trapped64 11, 0x90, "#NP: a segment not present"
    movl $0x90, %eax
    try64 1f
    movl %eax, %ss
1:  trapped64 12, 0x90, "#SS: a stack segment not present"
    # All registers but RAX come through a fault unchanged.
    movq $0x1111, %rbx
    movq $0x2222, %r15
    try64 1f
    ud2
1:  leaq (%rbx, %r15), %rax
    check64 $0x3333, "registers over a fault"
    # RF and TF clear, and IF: the handler runs with interrupts off through an interrupt gate.
    movb $0xff, %al
    outb %al, $0x21
    outb %al, $0xa1
    try64 1f
    sti
    nop
    ud2
1:  cli
    movl V_FLAGS, %eax
    andl $0x200, %eax
    check64 $0x200, "the frame's IF"
    # #DF: #GP cannot be delivered, its gate is not present. Survived on a stack of its own.
    movb $0x0e, IDT64 + 13 * 16 + 5
    movb $1, IDT64 + 8 * 16 + 4
    movabsq $0x0000800000000000, %rbx
    try64 1f
    movq (%rbx), %rax
1:  trapped64 8, 0, "#DF: #GP with its gate not present"
    movb $0x8e, IDT64 + 13 * 16 + 5
    # A page fault that cannot be delivered because its stack is not there.
    movq $0x30000000, TSS64 + 0x2c  # IST 2
    movb $2, IDT64 + 14 * 16 + 4
    try64 1f
    movl 0x30000010, %eax
1:  trapped64 8, 0, "#DF: #PF on a stack that is not mapped"
    ret

# Steps until the hook has counted V_A down, then clears TF in the frame.
step_hook:
    movq 40 - 8(%rsp), %rax         # the frame's RIP
    pushq %rcx
    movl V_B, %ecx
    movl %eax, DETAIL + 0x800(, %rcx, 4)
    incl V_B
    decl V_A
    jnz 1f
    andl $~0x100, 56(%rsp)
1:  popq %rcx
    ret
.macro step count
    movl $\count, V_A
    movl $0, V_B
    pushfq
    orl $0x100, (%rsp)
    popfq
.endm
.macro stepped n, label, text
    movl DETAIL + 0x800 + \n * 4, %eax
    check64 $(\label - R), "\text"
.endm
part_events_step:
    movl $(step_hook - R), V_HOOK
    step 3
    nop
1:  movl $5, %ecx
2:  jmp 3f
    nop
3:  nop
    stepped 0, 1b, "TF traps after the instruction that follows POPF"
    stepped 1, 2b, "the second step"
    stepped 2, 3b, "a step over a jump"
    movl V_VECTOR, %eax
    check64 $1, "the vector"
    movq %dr6, %rax
    andl $0x4000, %eax
    check64 $0x4000, "DR6.BS"
    # The handler runs without TF; a fault's own frame has it.
    movl V_COUNT, %eax
    check64 $3, "as many traps as steps"
    movq $0, V_HOOK
    ret

# An interrupt frame's return address goes on where it was: for the traps that follow.
pass_hook:
    ret
part_events_int:
    # A benign exception and a contributory one are no double fault.
    movb $0x0e, IDT64 + 6 * 16 + 5
    try64 1f
    ud2
1:  movl V_VECTOR, %eax
    check64 $11, "#UD with its gate not present is #NP"
    movl $0, V_COUNT
    movb $0x8e, IDT64 + 6 * 16 + 5
    movl $(pass_hook - R), V_HOOK
    int $0x30
1:  movq V_RIP, %rax
    check64 $(1b - R), "INT 30h pushes the next RIP"
    movl V_VECTOR, %eax
    check64 $0x30, "INT 30h"
    int3
2:  movq V_RIP, %rax
    check64 $(2b - R), "INT3 pushes the next RIP"
    movl V_VECTOR, %eax
    check64 $3, "INT3"
    .byte 0xcd, 3                   # INT 3 in two bytes
    movl V_VECTOR, %eax
    check64 $3, "INT 3 in two bytes"
    movl V_COUNT, %eax
    check64 $3, "three interrupts"
    movq $0, V_HOOK
    # A pending interrupt waits for the instruction after STI.
    call lapic_on
    movl $(lapic_hook - R), V_HOOK
    movl $0x00040032, LAPIC + 0x300    # self, vector 32h
    nop
    movl V_A, %eax
    check64 $0, "IF clear keeps it pending"
    sti
    incl %ecx
4:  incl %ecx
    cli
    movl V_A, %eax
    check64 $1, "the interrupt after STI"
    movq V_RIP, %rax
    check64 $(4b - R), "STI lets one instruction pass"
    # STI and CLI: no window.
    movl $0x00040032, LAPIC + 0x300
    sti
    cli
    nop
    movl V_A, %eax
    check64 $1, "STI, CLI opens no window"
    sti
    nop
5:  cli
    movl V_A, %eax
    check64 $2, "the one that was pending"
    # POPF has no shadow.
    movl $0x00040032, LAPIC + 0x300
    pushq $0x202
    popfq
6:  nop
    cli
    movq V_RIP, %rax
    check64 $(6b - R), "POPF has no shadow"
    movq $0, V_HOOK
    jmp lapic_off

# Notes DR6 and clears it; the frame gets RF, so that a breakpoint on code is passed.
debug_hook:
    movq %dr6, %rax
    movq %rax, V_A
    movl $0xffff0ff0, %eax
    movq %rax, %dr6
    orl $0x10000, 56 - 8(%rsp)
    ret
.macro debug_hit bits, label, text
    movl V_A, %eax
    andl $0xe00f, %eax
    check64 $\bits, "\text"
    movq V_RIP, %rax
    check64 $(\label - R), "RIP of the #DB before"
    movl $0, V_A
.endm
.macro debug_arm address, control
    movl $\address, %eax
    movq %rax, %dr0
    movl $\control, %eax
    movq %rax, %dr7
.endm
part_events_debug:
    movl $(step_hook - R), V_HOOK
    # A repeated string instruction traps after each item.
    movl $0x20000, %edi
    movl $3, %ecx
    step 4
4:  rep stosb
5:  nop
    nop
    stepped 0, 4b, "REP STOSB, one item"
    stepped 1, 4b, "REP STOSB, two items"
    stepped 2, 5b, "REP STOSB, done"
    movl $0, V_COUNT
    movl $(debug_hook - R), V_HOOK
    movl $0xffff0ff0, %eax
    movq %rax, %dr6
    debug_arm (1f - R), 0x402       # G0, execution
    nop
1:  nop
    nop
    debug_hit 1, 1b, "a breakpoint on code is a fault"
    debug_arm 0x20100, 0xd0402      # G0, write, 4 bytes
    movl 0x20100, %eax
    movl V_COUNT, %eax
    check64 $1, "a read does not hit a write breakpoint"
    movb %al, 0x20102
2:  nop
    debug_hit 1, 2b, "a write within the four bytes"
    movb %al, 0x20104
    movl %eax, 0x200fc
    movl V_COUNT, %eax
    check64 $2, "writes beside the four bytes"
    debug_arm 0x20100, 0xf0402      # G0, read and write, 4 bytes
    movl 0x20100, %eax
3:  nop
    debug_hit 1, 3b, "a read hits a breakpoint on both"
    movl $0x200f8, %edi
    movl $4, %ecx
    rep stosl
    movl V_A, %eax
    andl $0xe00f, %eax
    check64 $1, "REP STOSD over the four bytes"
    movl $0x400, %eax
    movq %rax, %dr7
    movq $0, V_HOOK
    movq %cr4, %rax
    orl $8, %eax                    # DE
    movq %rax, %cr4
    try64 5f
    movq %dr4, %rax
5:  trapped64 6, 0, "#UD: DR4 with CR4.DE"
    ret

# Sends another NMI from the first one's handler: it must wait for the IRET.
nmi_hook:
    cmpl $1, V_A
    adcl $0, V_C                    # counts entries at depth 0
    incl V_A
    incl V_B
    cmpl $1, V_B
    jne 1f
    call nmi_self
    nop
    nop
1:  decl V_A
    ret
nmi_self:
    movl LAPIC + 0x20, %eax           # own APIC ID: the self shorthand is for fixed interrupts only
    andl $0xff000000, %eax
    movl %eax, LAPIC + 0x310
    movl $0x00004400, LAPIC + 0x300
    ret
part_events_nmi:
    call lapic_on
    movl $(nmi_hook - R), V_HOOK
    call nmi_self
    nop
    nop
    nop
    movl V_B, %eax
    check64 $2, "an NMI, and the one its handler sent"
    movl V_C, %eax
    check64 $2, "the second waits for the first one's IRET"
    movl V_VECTOR, %eax
    check64 $2, "the vector"
    movl V_FLAGS, %eax
    andl $0x200, %eax
    check64 $0, "IF is clear: an NMI does not ask"
    # HLT ends with an NMI, IF clear.
    movl $2, V_B
    call nmi_self
    nop
    movl V_B, %eax
    check64 $3, "a third NMI"
    movq $0, V_HOOK
    jmp lapic_off
