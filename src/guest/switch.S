# Task switches beyond a nested CALL: prot-task16, prot-task-gate, prot-task-fault.
#
# QEMU's TCG has no T bit, raises #TS for a task gate into the LDT, saves no RF through a task gate and
# the old EIP for a new task's fault: it fails the last two parts there.
#
# Task A is the part itself, in TSS32; task B, in TSS32B, where it leads. Task C, in TSS_C, is an
# exception's handler behind a task gate: it notes what it finds and goes on where `try_task` says.

.set TSS16,    0x2600               # the 64-bit TSS's place, which is not in use here
.set TSS_C,    0x2680
.set SEL_16,   SEL_TSS64
.set SEL_C,    0x80
.set T_EIP,    0x20
.set T_FLAGS,  0x24
.set T_EAX,    0x28
.set T_ESP,    0x38
.set T_ES,     0x48
.set T_CS,     0x4c
.set T_SS,     0x50
.set T_DS,     0x54
.set T_FS,     0x58
.set T_LDT,    0x60
.set T_TRAP,   0x64
.set B_STACK,  0x6c00
.set NOTES_16, 0x4800               # the 16-bit task's
.set OLD_GATE, 0x4820
.set OLD_GATE_AT, 0x4828

.macro busy_byte selector, value, text
    movzbl GDT + \selector + 5, %eax
    check32 $\value, "\text"
.endm
# A task gate for a vector, leading to task C, which puts back what was there.
.macro task_vector vector
    movl $(IDT32 + \vector * 8), %edi
    call task_gate_at
.endm
# The fault that follows goes on at `label`, through task C.
.macro try_task label
    movl $(\label - R), V_RESUME
    movl %esp, V_RESUME_SP
.endm
# What task C found: the error code, and the task the fault was one of.
.macro task_trapped error, selector, text
    call task_found
    check32 $(\error | (\selector) << 16), "\text"
.endm

.code32
task_found:
    movl V_A, %eax
    shll $16, %eax
    movw V_ERROR, %ax
    movl $-1, V_ERROR
    ret
# All tasks available, A the present one, B as it begins.
tasks_fresh:
    movl $TSS32B, %edi
    call task_fresh
    movl $B_STACK, TSS32B + T_ESP
    movl $TSS_C, %edi
    call task_fresh
    movl $RING0_STACK, TSS_C + T_ESP
    movl $(task_c - R), TSS_C + T_EIP
    descriptor SEL_C, TSS_C, 0x67, 0x89
    descriptor SEL_TSS32B, TSS32B, 0x67, 0x89
task_a_again:
    movb $0x89, GDT + SEL_TSS32 + 5
    movl $SEL_TSS32, %eax
    ltr %ax
    pushl $2
    popfl                           # NT
    clts
    ret
# A TSS of ring 0 at EDI, that begins at `task_b_entry`.
task_fresh:
    pushl %edi
    movl $26, %ecx
    xorl %eax, %eax
    rep stosl
    popl %edi
    movl $(task_b_entry - R), T_EIP(%edi)
    movb $2, T_FLAGS(%edi)
    movb $KCODE32, T_CS(%edi)
    movl $KDATA, %eax
    movl %eax, T_ES(%edi)
    movl %eax, T_SS(%edi)
    movl %eax, T_DS(%edi)
    movb $0x68, 0x66(%edi)
    ret
# Changes no flags.
task_gate_at:
    movl %edi, OLD_GATE_AT
    movl (%edi), %eax
    movl %eax, OLD_GATE
    movl 4(%edi), %eax
    movl %eax, OLD_GATE + 4
    movl $(SEL_C << 16), (%edi)
    movl $0x8500, 4(%edi)
    ret
task_c:
    popl V_ERROR
    movl OLD_GATE_AT, %edi
    movl OLD_GATE, %eax
    movl %eax, (%edi)
    movl OLD_GATE + 4, %eax
    movl %eax, 4(%edi)
    movl %esp, V_SP
    movzwl TSS_C, %eax
    movl %eax, V_A
    movb $0x89, GDT + SEL_TSS32B + 5
    movb $0x89, GDT + SEL_C + 5
    call task_a_again
    movl $(task_c - R), TSS_C + T_EIP
    movl V_RESUME_SP, %esp
    jmp *V_RESUME
# Task B where nothing else is said: notes its registers and goes back the way it came.
task_b_entry:
    movl %eax, V_B
    movl %esp, V_B + 4
    pushfl
    popl V_C
    movl %cr3, %eax
    movl %eax, V_C + 4
    sldtw V_D
    movw TSS32B, %ax
    movw %ax, V_A
    strw V_A + 2
    iretl

# 16-bit task state: A (32) calls it, it calls B (32), and all return.
part_prot_task16:
    call tasks_fresh
    descriptor SEL_16, TSS16, 0x2b, 0x81
    descriptor 0x90, 0xf0000, 0xffff, 0x9a      # 16-bit code
    descriptor 0x98, 0, 0xffff, 0x92            # 16-bit data
    movl $TSS16, %edi
    movl $11, %ecx
    movl $0x11111111, %eax
    rep stosl
    movw $(task_16 - guest_rom), TSS16 + 0x0e
    movw $0x0402, TSS16 + 0x10      # DF
    movw $0xa1a1, TSS16 + 0x12      # AX
    movw $B_STACK, TSS16 + 0x1a     # SP
    movw $0x98, TSS16 + 0x22        # ES
    movw $0x90, TSS16 + 0x24        # CS
    movw $0x98, TSS16 + 0x26        # SS
    movw $0x98, TSS16 + 0x28        # DS
    movw $0, TSS16 + 0x2a           # LDT
    movw $(B_STACK - 0x100), TSS32B + T_ESP
    movl $0x12345678, %ebx
    movl $KDATA, %eax
    movl %eax, %fs
    movl $-1, TSS32 + T_FS
    movl $0, NOTES_16
    lcalll $SEL_16, $0
task_16_back:
    movl %ebx, %eax
    check32 $0x12345678, "A's EBX, all of it"
    movl TSS32 + T_EIP, %eax
    check32 $(task_16_back - R), "A's EIP, in 32 bits"
    movzwl TSS32 + T_FS, %eax
    check32 $KDATA, "A's FS, saved and loaded again"
    movl NOTES_16, %eax
    check32 $SEL_TSS32, "the link in the 16-bit TSS"
    movl NOTES_16 + 4, %eax
    check32 $0xa1a14402, "AX and FLAGS of the 16-bit task, with NT"
    movl NOTES_16 + 8, %eax
    check32 $(SEL_16 | B_STACK << 16), "TR and SP of the 16-bit task"
    movl V_A, %eax
    check32 $(SEL_16 | SEL_TSS32B << 16), "TR in B, and the link from B back to the 16-bit task"
    movl NOTES_16 + 12, %eax
    check32 $0x00980000, "the 16-bit task again, after B: DI and DS"
    movl TSS16 + 0x0c, %eax
    shrl $16, %eax
    check32 $(task_16_end - guest_rom), "its IP, saved by its IRET"
    movl TSS16 + 0x10, %eax
    check32 $0x00320402, "its FLAGS without NT, and AX"
    movzwl TSS16 + 0x22, %eax
    check32 $0x98, "its ES was saved"
    movl TSS16, %eax
    check32 $(0x11110000 | SEL_TSS32), "nothing else of the static part was written"
    movzwl TSS16 + 0x2a, %eax
    check32 $0, "the LDT selector is not written"
    busy_byte SEL_16, 0x81, "the 16-bit TSS is available again"
    busy_byte SEL_TSS32B, 0x89, "so is B's"
    busy_byte SEL_TSS32, 0x8b, "A is busy"
    # A limit too small for each kind.
    descriptor SEL_16, TSS16, 0x2a, 0x81
    try32 1f
    lcalll $SEL_16, $0
1:  trapped32 10, SEL_16, "#TS: a 16-bit TSS of 43 bytes"
    busy_byte SEL_16, 0x81, "it stays available"
    # As the present task: inner stacks are words, and it has no I/O map.
    descriptor SEL_16, TSS16, 0xff, 0x81
    movw $RING0_STACK, TSS16 + 2
    movw $KDATA, TSS16 + 4
    movl $SEL_16, %eax
    ltr %ax
    busy_byte SEL_16, 0x83, "LTR of a 16-bit TSS"
    movl $0, TSS16 + 0x66
    movl $0, RING0_STACK - 8
    faults32
2:  inb $0x61, %al
1:  trapped32 13, 0, "#GP: a 16-bit TSS has no I/O map"
    movl RING0_STACK - 8, %eax
    check32 $USER_STACK, "the inner stack by a 16-bit TSS"
    ret
.code16
task_16:
    movw %ax, NOTES_16 + 6
    movzwl TSS16, %eax
    movw %ax, NOTES_16
    pushfw
    popw NOTES_16 + 4
    cld
    strw NOTES_16 + 8
    movw %sp, NOTES_16 + 8 + 2
    movw $0x32, %ax
    pushw %di
    movw $0, %di
    lcallw $SEL_TSS32B, $0
    movw %di, NOTES_16 + 12
    movw %ds, NOTES_16 + 12 + 2
    std
    iretw
task_16_end:

.code32
part_prot_task_gate:
    call tasks_fresh
    # A task gate in the LDT.
    descriptor 0x90, LDT, 0x1f, 0x82
    movl $(SEL_TSS32B << 16), LDT + 8
    movl $0xe500, LDT + 12          # DPL 3
    movl $(SEL_TSS32B << 16), GDT + 0x98
    movl $0x8500, GDT + 0x9c        # DPL 0
    movl $0x00000fff, LDT + 16
    movl $0x00409203, LDT + 20      # base 30000
    movl $0x90, %eax
    lldt %ax
    # B has an LDT of its own, page tables and the T bit.
    descriptor 0xa0, LDT, 0x17, 0x82
    movl $0xa0, TSS32B + T_LDT
    movl $0x14, TSS32B + T_FS
    movl $0x1c0ffee1, TSS32B + T_EAX
    movl $0x15, %eax                # not read while paging is off
    movl %eax, TSS32B + 0x1c
    lcalll $0x0c, $0x12345678
    clts
    movl V_B, %eax
    check32 $0x1c0ffee1, "CALL through a task gate in the LDT"
    movl V_D, %eax
    check32 $0xa0, "B's LDT"
    sldtl %eax
    check32 $0, "the LDT after its return is that in A's TSS"
    movl V_C, %eax
    check32 $0x4002, "NT in B"
    movzwl TSS32B, %eax
    check32 $SEL_TSS32, "B's link"
    movl V_C + 4, %eax
    check32 $0, "CR3 is left alone while paging is off"
    # CR3 and paging: two directories, which differ at 800000.
    movl $0x16000, %edi
    movl $0x800, %ecx
    xorl %eax, %eax
    rep stosl
    movl $0x87, 0x16000             # 4 MiB pages
    movl $0x87, 0x17000
    movl $0x87, 0x16000 + 8         # A: 800000 is 0
    movl $0x400087, 0x17000 + 8     # B: 800000 is 400000
    movl %cr4, %eax
    orl $0x10, %eax
    movl %eax, %cr4
    movl $0xa1a1a1a1, 0x20000
    movl $0xb1b1b1b1, 0x420000
    movl $0x16000, %eax
    movl %eax, %cr3
    movl %eax, TSS32 + 0x1c
    movl $0x17000, TSS32B + 0x1c
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    movl $(task_paging - R), TSS32B + T_EIP
    movl 0x820000, %eax
    check32 $0xa1a1a1a1, "A's page tables"
    call 2f
    movl V_B, %eax
    check32 $0xb1b1b1b1, "B's page tables"
    movl %cr3, %eax
    check32 $0x16000, "A's CR3 again"
    movl 0x820000, %eax
    check32 $0xa1a1a1a1, "A's page tables again"
    jmp 3f
2:  lcalll $0x98, $0
    clts
    ret
3:  movl TSS32B + 0x1c, %eax
    check32 $0x17000, "the switch does not write CR3 to the TSS"
    movl $0x11, %eax
    movl %eax, %cr0
    # The T bit: a trap before B's first instruction.
    movl $(task_b_entry - R), TSS32B + T_EIP
    movw $1, TSS32B + T_TRAP
    movl $0, TSS32B + T_LDT
    movl $0, TSS32B + T_FS
    xorl %eax, %eax
    movl %eax, %dr6
    movl $0x455, %eax               # L0 to L3
    movl %eax, %dr7
    try32 1f
    lcalll $SEL_TSS32B, $0
1:  trapped32 1, 0, "#DB: the T bit"
    movl V_RIP, %eax
    check32 $(task_b_entry - R), "before the first instruction"
    movl V_SP, %eax
    check32 $(B_STACK - 24), "on B's stack"
    movl %dr6, %eax
    andl $0xe00f, %eax
    check32 $0x8000, "DR6.BT"
    movl %dr7, %eax
    check32 $0x400, "a switch clears the local enables"
    xorl %eax, %eax
    movl %eax, %dr6
    call tasks_fresh
    # A gate's DPL counts, the TSS's (0) does not.
    movl $0x90, %eax
    lldt %ax
    faults32
2:  lcalll $SEL_TSS32B, $0
1:  trapped32 13, SEL_TSS32B, "#GP: ring 3 calls a TSS of ring 0"
    faults32
2:  lcalll $0x98, $0
1:  trapped32 13, 0x98, "#GP: ring 3 calls a task gate of ring 0"
    try32 1f
    lcalll $0x9b, $0
1:  trapped32 13, 0x98, "#GP: a task gate with DPL below the RPL"
    movl $0x90, TSS32 + T_LDT
    try32 1f
    user32 2f
2:  lcalll $0x0f, $0
    int $0x30
1:  trapped32 13, 0x182, "ring 3 calls a task of ring 0 through a gate of ring 3"
    movzbl V_CS, %eax
    check32 $UCODE32, "and is returned to"
    clts
    # Into virtual-8086 mode by a switch.
    call tasks_fresh
    movl $0x23202, TSS32B + T_FLAGS
    movl $(task_8086 - guest_rom), TSS32B + T_EIP
    movl $0xf000, TSS32B + T_CS
    movl $0x2345, TSS32B + T_DS
    movl $0x0600, TSS32B + T_SS
    movl $0x0700, TSS32B + T_ESP
    movl $RING0_STACK, TSS32B + 4
    movl $KDATA, TSS32B + 8
    movb $0xee, IDT32 + 0x31 * 8 + 5
    try32 1f
    lcalll $SEL_TSS32B, $0
1:  trapped32 0x31, 0, "a switch into virtual-8086 mode"
    movl %ebx, %eax
    check32 $0x2345, "DS there"
    movl V_FLAGS, %eax
    check32 $0x27202, "its flags, with NT"
    movl RING0_STACK - 24, %eax
    check32 $0x0700, "its SP"
    ret
task_paging:
    movl 0x820000, %eax
    movl %eax, V_B
    iretl
.code16
task_8086:
    movl $0, %ebx
    movw %ds, %bx
    int $0x31

# B's segment `slot` holds `selector`: the fault is B's, and found in task C.
.code32
.macro bad_task slot, selector, vector, error, text
    pushl $((\slot) << 16 | (\selector))
    pushl $(IDT32 + \vector * 8)
    call to_bad_task
    task_trapped \error, SEL_TSS32B, "\text"
.endm
# The switch by `insn` faults in A, which goes on.
.macro refused_task vector, error, text, insn:vararg
    try32 1f
    \insn
1:  trapped32 \vector, \error, "\text"
.endm
to_bad_task:
    call tasks_fresh
    popl V_RESUME
    popl %edi
    call task_gate_at
    popl %eax
    movl %eax, %edx
    shrl $16, %edx
    movw %ax, TSS32B(%edx)
    movl %esp, V_RESUME_SP
    ljmpl $SEL_TSS32B, $0
part_prot_task_fault:
    call tasks_fresh
    # Before the point of no return: faults of A, nothing changed.
    movb $0x09, GDT + SEL_TSS32B + 5
    refused_task 11, SEL_TSS32B, "#NP: CALL to a task not present", lcalll $SEL_TSS32B, $0
    movb $0x8b, GDT + SEL_TSS32B + 5
    refused_task 13, SEL_TSS32B, "#GP: CALL to a busy task", lcalll $SEL_TSS32B, $0
    descriptor SEL_TSS32B, TSS32B, 0x66, 0x89
    refused_task 10, SEL_TSS32B, "#TS: a TSS of 103 bytes", lcalll $SEL_TSS32B, $0
    busy_byte SEL_TSS32B, 0x89, "it stays available"
    busy_byte SEL_TSS32, 0x8b, "A stays busy"
    movl $(SEL_TSS32B << 16), GDT + 0x90
    movl $0x0500, GDT + 0x94
    refused_task 11, 0x90, "#NP: a task gate not present", ljmpl $0x90, $0
    movb $0x85, GDT + 0x95
    movw $0x1000, GDT + 0x92
    refused_task 13, 0x1000, "#GP: a task gate to beyond the GDT", ljmpl $0x90, $0
    movw $KDATA, GDT + 0x92
    refused_task 13, KDATA, "#GP: a task gate to data", ljmpl $0x90, $0
    movw $(SEL_TSS32B | 4), GDT + 0x92
    refused_task 13, (SEL_TSS32B | 4), "#GP: a task gate into the LDT", ljmpl $0x90, $0
    movw $0, GDT + 0x92
    refused_task 13, 0, "#GP: a task gate to null", ljmpl $0x90, $0
    movw $SEL_TSS32B, GDT + 0x92
    movb $0x8b, GDT + SEL_TSS32B + 5
    refused_task 13, SEL_TSS32B, "#GP: a task gate to a busy task", ljmpl $0x90, $0
    # The same through the IDT.
    movl $(SEL_TSS32B << 16), IDT32 + 0x32 * 8
    movl $0x8500, IDT32 + 0x32 * 8 + 4
    refused_task 13, SEL_TSS32B, "#GP: INT to a busy task", int $0x32
    movb $0x09, GDT + SEL_TSS32B + 5
    refused_task 11, SEL_TSS32B, "#NP: INT to a task not present", int $0x32
    # IRET with NT: what the link may be.
    movb $0x89, GDT + SEL_TSS32B + 5
    movw $SEL_TSS32B, TSS32
    call task_nt
    refused_task 10, SEL_TSS32B, "#TS: IRET to a task that is not busy", iretl
    movw $0, TSS32
    call task_nt
    refused_task 10, 0, "#TS: IRET without a link", iretl
    movw $0x0c, TSS32
    call task_nt
    refused_task 10, 0x0c, "#TS: IRET to a link in the LDT", iretl
    movw $0x1000, TSS32
    call task_nt
    refused_task 10, 0x1000, "#TS: IRET to a link beyond the GDT", iretl
    movb $0x0b, GDT + SEL_TSS32B + 5
    movw $SEL_TSS32B, TSS32
    call task_nt
    refused_task 11, SEL_TSS32B, "#NP: IRET to a task not present", iretl
    busy_byte SEL_TSS32, 0x8b, "A is still busy"

    # An exception with a code through a task gate: a fault of A's.
    call tasks_fresh
    task_vector 13
    try_task 1f
    movl $0x1234, %eax
task_gp:
    movl %eax, %es
1:  task_trapped 0x1234, SEL_TSS32, "#GP through a task gate"
    movl TSS32 + T_EIP, %eax
    check32 $(task_gp - R), "A's EIP is that of the fault"
    movl TSS32 + T_FLAGS, %eax
    check32 $0x10002, "a fault saves RF"
    movl V_SP, %eax
    check32 $RING0_STACK, "the code was alone on the handler's stack"

    # Behind it: faults of B's, before its first instruction.
    descriptor 0x90, 0, 0xfffff, 0x13, 0xc      # data not present
    descriptor 0x98, 0, 0xfffff, 0x1b, 0xc      # code not present
    descriptor 0xa0, 0, 0xfffff, 0x91, 0xc      # read-only data
    descriptor 0xa8, 0, 0xfffff, 0x99, 0xc      # execute-only code
    descriptor 0xb0, LDT, 0xf, 0x02             # LDT not present
    bad_task T_LDT, KDATA, 10, KDATA, "#TS: no LDT"
    bad_task T_LDT, 0xb0, 10, 0xb0, "#TS: an LDT not present"
    bad_task T_LDT, 0x0c, 10, 0x0c, "#TS: an LDT in the LDT"
    bad_task T_CS, 0, 10, 0, "#TS: CS null"
    movl TSS32B + T_EIP, %eax
    check32 $(task_b_entry - R), "B's EIP was saved"
    bad_task T_CS, KDATA, 10, KDATA, "#TS: CS with data"
    bad_task T_CS, 0x98, 11, 0x98, "#NP: CS not present"
    bad_task T_CS, (UCODE32 & ~3), 10, (UCODE32 & ~3), "#TS: CS with DPL 3 and RPL 0"
    bad_task T_SS, 0, 10, 0, "#TS: SS null"
    bad_task T_SS, 0x90, 12, 0x90, "#SS: SS not present"
    bad_task T_SS, 0xa0, 10, 0xa0, "#TS: SS read-only"
    bad_task T_SS, UDATA, 10, (UDATA & ~3), "#TS: SS of ring 3"
    bad_task T_DS, 0x90, 11, 0x90, "#NP: DS not present"
    bad_task T_ES, 0xa8, 10, 0xa8, "#TS: ES execute-only"
    bad_task T_FS, 0x1000, 10, 0x1000, "#TS: FS beyond the GDT"
    busy_byte SEL_TSS32, 0x8b, "A is what goes on"
    # CS:EIP beyond the limit.
    descriptor 0x98, 0, 0xfff, 0x9b, 0x4
    bad_task T_CS, 0x98, 13, 0, "#GP: EIP beyond CS's limit"
    ret
task_nt:
    pushfl
    orl $0x4000, (%esp)
    popfl
    ret
