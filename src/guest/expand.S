# Segments at their limits: prot-expand. QEMU's TCG has none of the checks in this part.

# An instruction that faults with error code 0.
.macro limit_faults vector, text, insn:vararg
    try32 1f
    \insn
1:  trapped32 \vector, 0, "\text"
.endm
# In ring 3 on the stack `ss`:`sp`: what follows at 2 faults.
.macro stack_faults ss, sp
    try32 1f
    outer32 UCODE32, (2f - R), \ss, \sp
.endm
.code32
part_prot_expand:
    movb $0xee, IDT32 + 0x31 * 8 + 5
    # 16-bit expand-down data: 1000 to FFFF.
    descriptor 0x90, 0x20000, 0xfff, 0x96
    movl $0x90, %eax
    movl %eax, %gs
    movl $0x11223344, 0x21000
    movl $0x55667788, 0x2fffc
    movl %gs:0x1000, %eax
    check32 $0x11223344, "expand-down, 16-bit: the first bytes"
    movl %gs:0xfffc, %eax
    check32 $0x55667788, "expand-down, 16-bit: the last bytes"
    limit_faults 13, "#GP: the byte at the limit", movb %gs:0xfff, %al
    limit_faults 13, "#GP: a word over the limit", movw %gs:0xfff, %ax
    limit_faults 13, "#GP: over the end of 64 KiB", movl %gs:0xfffd, %eax
    limit_faults 13, "#GP: beyond 64 KiB", movb %gs:0x10000, %al
    descriptor 0x90, 0x20000, 0xffff, 0x96
    movl $0x90, %eax
    movl %eax, %gs
    limit_faults 13, "#GP: expand-down, 16-bit, with nothing in it", movb %gs:0xffff, %al
    # 32-bit ones reach to the top of 4 GiB, whatever the limit's granularity.
    descriptor 0x90, 0x20000, 0, 0x96, 4
    movl $0x90, %eax
    movl %eax, %gs
    movb %gs:1, %al
    limit_faults 13, "#GP: expand-down with limit 0: the byte 0", movb %gs:0, %al
    limit_faults 13, "#GP: expand-down over the top of 4 GiB", movl %gs:0xfffffffd, %eax
    movl %gs:0xfffffffc, %eax       # 1FFFC
    descriptor 0x90, 0x20000, 0xfffff, 0x96, 0xc
    movl $0x90, %eax
    movl %eax, %gs
    limit_faults 13, "#GP: expand-down, 32-bit, with nothing in it", movb %gs:0xffffffff, %al
    # Expand-up: an operand must end within the limit.
    descriptor 0x90, 0x20000, 0x7f, 0x92, 4
    movl $0x90, %eax
    movl %eax, %gs
    movl %gs:0x7c, %eax
    limit_faults 13, "#GP: an operand over the limit", movl %gs:0x7d, %eax
    limit_faults 13, "#GP: an 8-byte operand over the limit", fildll %gs:0x79
    movl %eax, %gs:0x7c
    limit_faults 13, "#GP: ADD over the limit", addl %eax, %gs:0x7e
    # Conforming code in DS is as read-only as any.
    descriptor 0x98, 0x20000, 0xffff, 0x9f, 4
    movl $0x98, %eax
    movl %eax, %gs
    movl %gs:0x1000, %eax
    check32 $0x11223344, "a read of conforming code through GS"
    limit_faults 13, "#GP: a write to conforming code", movl %eax, %gs:0

    # Stacks, in ring 3: the handler has its own. 98: expand-down, 32-bit, from 4000.
    descriptor 0x98, 0x20000, 0x3fff, 0xf7, 4
    stack_faults 0x9b, 0x4004
2:  pushl $0x1234                   # fits
    pushl $0x5678
1:  trapped32 12, 0, "#SS: PUSH below an expand-down stack"
    movl RING0_STACK - 8, %eax
    check32 $0x4000, "ESP as it was before that PUSH"
    movl 0x24000, %eax
    check32 $0x1234, "the PUSH that did fit"
    stack_faults 0x9b, 0
2:  pushl $0x4321                   # FFFFFFFC is above the limit: linear 1FFFC
    popl %ebx
    movl %esp, %ecx
    int $0x31
1:  movl %ebx, %eax
    check32 $0x4321, "PUSH at ESP 0 of an expand-down stack"
    movl %ecx, %eax
    check32 $0, "POP to ESP 0"
    stack_faults 0x9b, 0x3ffe
2:  popl %eax
1:  trapped32 12, 0, "#SS: POP below an expand-down stack"
    stack_faults 0x9b, 0x4002
2:  movw %ss:0x3fff, %ax
1:  trapped32 12, 0, "#SS: a read through SS"
    stack_faults 0x9b, 0x5000
2:  movl $0x3f00, %ebp
    movl (%ebp), %eax
1:  trapped32 12, 0, "#SS: EBP means SS"
    stack_faults 0x9b, 0x5000
2:  movl $0x3f00, %ebp
    movl %ds:(%ebp), %eax           # DS is null here
1:  trapped32 13, 0, "#GP: EBP with DS"
    stack_faults 0x9b, 0x400c
2:  pushal
1:  trapped32 12, 0, "#SS: PUSHAD with too little room"
    movl RING0_STACK - 8, %eax
    check32 $0x400c, "ESP as it was before PUSHAD"
    stack_faults 0x9b, 0x4010
2:  enter $0x10, $0
1:  trapped32 12, 0, "#SS: ENTER allocates below the limit"
    movl RING0_STACK - 8, %eax
    check32 $0x4010, "ESP as it was before ENTER"
    stack_faults 0x9b, 0x5000
2:  movl $0x3ffe, %ebp
    leave
1:  trapped32 12, 0, "#SS: LEAVE below the limit"
    # 16-bit, expand-down from 1000: SP wraps inside, the upper half of ESP stays.
    descriptor 0x98, 0x20000, 0xfff, 0xf7
    stack_faults 0x9b, 0
2:  movl $0x12340000, %esp
    pushl $0x77770000
    movl %esp, %ebx
    popl %ecx
    movl %esp, %edx
    int $0x31
1:  movl %ebx, %eax
    check32 $0x1234fffc, "PUSH at SP 0"
    movl %ecx, %eax
    check32 $0x77770000, "POP at FFFC"
    movl %edx, %eax
    check32 $0x12340000, "POP to SP 0"
    stack_faults 0x9b, 0x1002
2:  pushl $0
1:  trapped32 12, 0, "#SS: a dword below a 16-bit expand-down stack"
    stack_faults 0x9b, 2
2:  pushl $0
1:  trapped32 12, 0, "#SS: PUSH over the end of 64 KiB"
    stack_faults 0x9b, 0xfffe
2:  popl %eax
1:  trapped32 12, 0, "#SS: POP over the end of 64 KiB"
    # A gate needs room for all it pushes: here 2 parameters and 4 more.
    descriptor CODE1, 0, 0xfffff, 0xbb, 0xc
    descriptor DATA1, 0, 0x3fff, 0xb7, 0x4
    call_gate 0x90, CODE1, (gate_ring1 - R), 0xec, 2
    movl $0x4018, TSS32 + 0x0c
    movl $(DATA1 | 1), TSS32 + 0x10
    faults32
2:  pushl $0x61
    pushl $0x62
    lcalll $0x93, $0
1:  trapped32 0x31, 0, "a gate with just enough room"
    movl RING0_STACK - 8, %eax
    check32 $0x4000, "the stack it filled"
    movl $0x4017, TSS32 + 0x0c
    gate_faults 0x93, 12, DATA1, "#SS: a gate with a byte too little room"
    # The outer stack's parameters are read through its own limit.
    movl $0x4100, TSS32 + 0x0c
    descriptor 0x98, 0, 0x67ff, 0xf3, 4
    stack_faults 0x9b, 0x67fc
2:  lcalll $0x93, $0
1:  trapped32 12, 0, "#SS: parameters beyond the outer stack"
    # A frame that does not fit on ring 1's stack.
    movl $((CODE1 << 16) | ((gate_ring1 - R) & 0xffff)), IDT32 + 0x32 * 8
    movl $(((gate_ring1 - R) & 0xffff0000) | 0xee00), IDT32 + 0x32 * 8 + 4
    movl $0x4013, TSS32 + 0x0c
    faults32
2:  int $0x32
1:  trapped32 12, DATA1, "#SS: an interrupt with a byte too little room"
    movl $0x4014, TSS32 + 0x0c
    faults32
2:  int $0x32
1:  trapped32 0x31, 0, "an interrupt with just enough room"
    ret
