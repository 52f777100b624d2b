# Hardware task switches and virtual-8086 mode: prot-task, vm86.

.code32
part_prot_task:
    # Task B, in TSS32B: its registers as the switch will load them.
    movl $TSS32B, %edi
    movl $26, %ecx
    xorl %eax, %eax
    rep stosl
    movl $(task_b - R), TSS32B + 0x20
    movl $0x0c02, TSS32B + 0x24     # DF and OF, which this code does not set
    movl $0xb0000001, TSS32B + 0x28 # EAX
    movl $0xb0000002, TSS32B + 0x2c # ECX
    movl $RING0_STACK, TSS32B + 0x38
    movl $KDATA, TSS32B + 0x48      # ES
    movl $KCODE32, TSS32B + 0x4c
    movl $KDATA, TSS32B + 0x50      # SS
    movl $KDATA, TSS32B + 0x54      # DS
    movw $0x68, TSS32B + 0x66
    clts
    movl $0xa0000001, %ebx
    pushfl
    lcalll $SEL_TSS32B, $0          # the offset is not looked at
task_resumed:
    popfl
    movl V_A, %eax
    check32 $0xb0000001, "the new task's EAX"
    movl V_A + 4, %eax
    check32 $0xb0000002, "the new task's ECX"
    movl V_B, %eax
    check32 $0x4c02, "the new task's EFLAGS, with NT"
    movl V_B + 4, %eax
    check32 $SEL_TSS32B, "TR in the new task"
    movl V_C, %eax
    check32 $SEL_TSS32, "the back link"
    movl V_C + 4, %eax
    andl $8, %eax
    check32 $8, "the switch sets CR0.TS"
    movl V_D, %eax
    check32 $0x8b008b00, "both tasks are busy while nested"
    movl TSS32 + 0x20, %eax
    check32 $(task_resumed - R), "the old task's EIP was saved"
    movl TSS32 + 0x34, %eax
    check32 $0xa0000001, "the old task's EBX was saved"
    movl %ebx, %eax
    check32 $0xa0000001, "EBX came back"
    strl %eax
    check32 $SEL_TSS32, "TR came back"
    movl GDT + SEL_TSS32B + 4, %eax
    check32 $0x00008900, "IRET makes the task it leaves available"
    movl GDT + SEL_TSS32 + 4, %eax
    check32 $0x00008b00, "the task it returns to is busy"
    pushfl
    popl %eax
    andl $0x4000, %eax
    check32 $0, "NT is clear again"
    movl TSS32B + 0x20, %eax
    check32 $(task_b_again - R), "task B goes on after its IRET"

    # JMP: no link, the task left is available.
    ljmpl $SEL_TSS32B, $0
    movl V_A, %eax
    check32 $0x8b008900, "JMP leaves one task busy"
    movl V_B, %eax
    andl $0x4000, %eax
    check32 $0, "JMP sets no NT"

    # A task gate in the IDT.
    movl $(SEL_TSS32B << 16), IDT32 + 0x34 * 8
    movl $0x8500, IDT32 + 0x34 * 8 + 4
    movl $(task_gate - R), TSS32B + 0x20
    int $0x34
    movl V_A, %eax
    check32 $(0x4000 | SEL_TSS32), "an interrupt through a task gate nests"
    try32 1f
    ljmpl $SEL_TSS32, $0
1:  trapped32 13, SEL_TSS32, "#GP: JMP to a busy task"
    movb $0x09, GDT + SEL_TSS32B + 5
    try32 1f
    ljmpl $SEL_TSS32B, $0
1:  trapped32 11, SEL_TSS32B, "#NP: JMP to a task not present"
    clts
    ret

task_b:
    movl %eax, V_A
    movl %ecx, V_A + 4
    pushfl
    popl V_B
    cld
    movl $0, V_B + 4
    strw V_B + 4
    movzwl TSS32B, %eax
    movl %eax, V_C
    movl %cr0, %eax
    movl %eax, V_C + 4
    movl GDT + SEL_TSS32 + 4, %eax
    shll $16, %eax
    movw GDT + SEL_TSS32B + 4, %ax
    movl %eax, V_D
    iretl
task_b_again:
    movl GDT + SEL_TSS32B + 4, %eax
    shll $16, %eax
    movw GDT + SEL_TSS32 + 4, %ax
    movl %eax, V_A
    pushfl
    popl V_B
    ljmpl $SEL_TSS32, $0
task_gate:
    pushfl
    popl %eax
    andl $0x4000, %eax
    orw TSS32B, %ax
    movl %eax, V_A
    iretl

# What follows is run in virtual-8086 mode with these flags, and raises an exception, which goes on
# at 1 in ring 0.
.macro vm86_faults flags
    pushl $(0x20002 | \flags)
    pushl $(1f - R)
    call vm86_go
    .code16
.endm
vm86_go:
    popl V_BACK
    popl V_RESUME
    popl V_BACK_FLAGS
    call try_again
    andl $0xffff, V_BACK
    pushl $0x4444                   # GS
    pushl $0x3333                   # FS
    pushl $0x2000                   # DS
    pushl $0x2001                   # ES
    pushl $0x0600                   # SS: 0600:0800 is the ring 3 stack
    pushl $0x0800
    pushl V_BACK_FLAGS
    pushl $0xf000
    pushl V_BACK
    iretl
part_vm86:
    movb $0xee, IDT32 + 0x31 * 8 + 5
    movl $0x2468ace0, 0x20010
    vm86_faults 0x3000
2:  movl %es:0, %eax                # 2001:0000
    movw %cs, %bx
    movl $0x600d, %ds:(0x20)
    pushw $0x1234
    popw %cx
    int $0x31
.code32
1:  check32 $0x2468ace0, "a segment of virtual-8086 mode"
    trapped32 0x31, 0, "INT 31h with IOPL 3"
    movzwl %bx, %eax
    check32 $0xf000, "CS in virtual-8086 mode"
    movl 0x20020, %eax
    check32 $0x600d, "a write in virtual-8086 mode"
    # The frame: nine words, the data segments made null.
    movzwl RING0_STACK - 4, %eax
    check32 $0x4444, "the frame's GS"
    movzwl RING0_STACK - 8, %eax
    check32 $0x3333, "the frame's FS"
    movzwl RING0_STACK - 12, %eax
    check32 $0x2000, "the frame's DS"
    movzwl RING0_STACK - 16, %eax
    check32 $0x2001, "the frame's ES"
    movzwl RING0_STACK - 20, %eax
    check32 $0x0600, "the frame's SS"
    movl RING0_STACK - 24, %eax
    check32 $0x0800, "the frame's ESP"
    movl RING0_STACK - 28, %eax
    check32 $0x23002, "the frame's EFLAGS"
    movl V_CS, %eax
    check32 $0xf000, "the frame's CS"
    movl %gs, %eax
    check32 $0, "GS is null in the handler"
    # IOPL 0: IF's instructions and INT go to the monitor, I/O to the bitmap.
    vm86_faults 0
2:  cli
    ud2
.code32
1:  trapped32 13, 0, "#GP: CLI with IOPL 0"
    vm86_faults 0
2:  pushfw
    ud2
.code32
1:  trapped32 13, 0, "#GP: PUSHF with IOPL 0"
    vm86_faults 0
2:  int $0x31
    ud2
.code32
1:  trapped32 13, 0, "#GP: INT 31h with IOPL 0"
    vm86_faults 0
2:  iretw
    ud2
.code32
1:  trapped32 13, 0, "#GP: IRET with IOPL 0"
    vm86_faults 0x3000
2:  inb $0x61, %al
    ud2
.code32
1:  trapped32 13, 0, "#GP: IN, whatever IOPL says"
    vm86_faults 0x3000
2:  hlt
    ud2
.code32
1:  trapped32 13, 0, "#GP: HLT"
    vm86_faults 0x3000
2:  lldt %ax
    hlt
.code32
1:  trapped32 6, 0, "#UD: LLDT"
    vm86_faults 0x3000
2:  ud2
.code32
1:  trapped32 6, 0, "UD2"
    vm86_faults 0x3000
    # POPF and IRET stay in the mode: IOPL and VM are not theirs to change.
2:  pushw $0x0ad5
    popfw
    pushw $0x0002
    pushw $0xf000
    pushw $(3f - guest_rom)
    iretw
3:  int $0x31
.code32
1:  trapped32 0x31, 0, "POPF and IRET with IOPL 3"
    movl V_FLAGS, %eax
    check32 $0x23002, "VM and IOPL after IRET"
    movl $0, V_FLAGS
    vm86_faults 0x3000
2:  pushw $0xf000
    pushw $(3f - guest_rom)
    lretw
3:  movw $0xffff, %ax
    movw %ax, %ds
    movl (0x14), %eax               # FFFF:0014 is 100004
    int $0x31
.code32
1:  movl %eax, %ecx
    movl 0x100004, %eax
    subl %ecx, %eax
    check32 $0, "FFFF:0014 with A20 on"
    ret
