# The image's header, the fixed addresses in RAM, and the home loop that runs the chosen parts.
#
# The image is 64 KiB. It runs at F0000-FFFFF: 16-bit code with CS=F000, 32- and 64-bit code flat
# at F0000 + offset. `label - guest_rom` is an offset in the image, `label - R` a linear address.
# Nothing is assumed of the machine but what the processor's and the chips' resets give.

.pushsection .rodata.twin86_guest, "a", @progbits
.p2align 4
.globl twin86_guest_rom
twin86_guest_rom:
guest_rom:
.set R, guest_rom - 0xF0000

# Header. The program patches `chosen` and `unavailable` in its copy (mod.rs: CHOSEN, UNAVAILABLE).
    .ascii "twin86 guest 1\0\0"
chosen:
    .quad -1
unavailable:
    .quad 0
    .long PARTS
    .long part_table - guest_rom

# RAM, fixed:
#   00000 IVT                      01000 variables (V_*)        02000 GDT, 2200/2400 TSS32, 2600 TSS64, 2800 LDT
#   03000 IDT32, 03400 IDT64       04000 details of a part      05800/06000 IST1/IST2 tops, 06800 ring 3, 07000 ring 0
#   07C00 main stack, downwards    10000 long mode's tables (14000, 15000 are a part's own)
#   16000 tables of the 32-bit and PAE parts                    20000 data pages   30000 code written by parts
#   100000 A20 and big real mode   200000 ring 3's sieve, 1 MiB
# Linear, in long mode only:
.set IOAPIC,     0x1000000
.set LAPIC,      0x1200000
.set V_INDEX,    0x1000
.set V_OK,       0x1004
.set V_FAILED,   0x1008
.set V_SKIPPED,  0x100c
# From here on zeroed before each part.
.set V_PART,     0x1040
.set V_CHECKS,   0x1040
.set V_RESULT,   0x1044            # 0 ok, 1 a check failed, 2 an exception nobody waited for
.set V_TEXT,     0x1048
.set V_EXPECTED, 0x1050
.set V_ACTUAL,   0x1058
.set V_COUNT,    0x1060            # exceptions and interrupts taken
.set V_ARMED,    0x1064            # the next exception goes on at V_RESUME
.set V_VECTOR,   0x1068
.set V_ERROR,    0x1070
.set V_RIP,      0x1078
.set V_CS,       0x1080
.set V_FLAGS,    0x1088
.set V_SP,       0x1090
.set V_RESUME,   0x1098
.set V_RESUME_SP,0x10a0
.set V_CR2,      0x10a8
.set V_HOOK,     0x10b0            # called by the trap code; ends in IRET to where it came from
.set V_DETAIL,   0x10b8            # where the next detail character goes
.set V_A,        0x10c0            # a part's own
.set V_B,        0x10c8
.set V_C,        0x10d0
.set V_D,        0x10d8
.set V_BACK,     0x10e0            # where try32 goes on, or the outer ring begins
.set V_BACK_FLAGS, 0x10e8
.set V_RETURN,   0x10f0
.set V_PART_END, 0x1100
.set GDT,        0x2000
.set TSS32,      0x2200
.set TSS32B,     0x2400
.set TSS64,      0x2600
.set LDT,        0x2800
.set IDT32,      0x3000
.set IDT64,      0x3400
.set DETAIL,     0x4000
.set IST1_TOP,   0x5800
.set IST2_TOP,   0x6000
.set USER_STACK, 0x6800
.set RING0_STACK,0x7000
.set STACK,      0x7c00

# A part's row: name, mode (0 real, 1 protected, 2 long), entry. The order is that of PARTS in mod.rs.
.macro part name, mode, entry
    .short .Lname\@ - guest_rom, \mode, \entry - guest_rom, 0
    .subsection 1
.Lname\@: .asciz "\name"
    .subsection 0
.endm
.p2align 3
part_table:
    part "real",        0, part_real
    part "real-bcd",    0, part_real_bcd
    part "real-int",    0, part_real_int
    part "unreal",      0, part_unreal
    part "prot",        1, part_prot
    part "prot-query",  1, part_prot_query
    part "prot-fault",  1, part_prot_fault
    part "prot-limit",  1, part_prot_limit
    part "prot-ring3",  1, part_prot_ring3
    part "prot-task",   1, part_prot_task
    part "vm86",        1, part_vm86
    part "prot-callgate",1, part_prot_callgate
    part "prot-conform",1, part_prot_conform
    part "prot-expand", 1, part_prot_expand
    part "prot-task16", 1, part_prot_task16
    part "prot-task-gate", 1, part_prot_task_gate
    part "prot-task-fault", 1, part_prot_task_fault
    part "prot-iopl",   1, part_prot_iopl
    part "prot-iomap",  1, part_prot_iomap
    part "prot16",      1, part_prot16
    part "vm86-flags",  1, part_vm86_flags
    part "vm86-limit",  1, part_vm86_limit
    part "vm86-irq",    1, part_vm86_irq
    part "vm86-vme",    1, part_vm86_vme
    part "paging32",    1, part_paging32
    part "pae",         1, part_pae
    part "long",        2, part_long
    part "long-paging", 2, part_long_paging
    part "long-strict", 2, part_long_strict
    part "long-syscall",2, part_long_syscall
    part "long-ring3",  2, part_long_ring3
    part "long-ist",    2, part_long_ist
    part "long-smc",    2, part_long_smc
    part "events",      2, part_events
    part "events-step", 2, part_events_step
    part "events-int",  2, part_events_int
    part "events-debug",2, part_events_debug
    part "events-nmi",  2, part_events_nmi
    part "pic-pit",     2, part_pic_pit
    part "apic",        2, part_apic
    part "uart",        2, part_uart
    part "cmos-ports",  2, part_cmos_ports
    part "pci",         2, part_pci
    part "pam",         2, part_pam
    part "a20",         2, part_a20
.set PARTS, 45                      # the rows above; a test in mod.rs compares them with its table

.code16
start:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $STACK, %sp
    # Fast A20 on; bit 0 would reset the machine.
    inb $0x92, %al
    andb $0xfe, %al
    orb $2, %al
    outb %al, $0x92
    # Reset leaves the 8254 counting and the 8259 pair open: no interrupt until a part wants one.
    movb $0xff, %al
    outb %al, $0x21
    outb %al, $0xa1
    movw $V_INDEX, %di
    movw $(V_PART - V_INDEX), %cx
    xorb %al, %al
    rep stosb
    call console_init
    movw $(text_banner - guest_rom), %si
    call print
next_part:
    movl V_INDEX, %ebx
    cmpl $PARTS, %ebx
    jae report_end
    btl %ebx, %cs:(chosen - guest_rom)
    jnc part_done
    movw %bx, %di
    shlw $3, %di
    movw %cs:(part_table - guest_rom)(%di), %si
    call print_name
    btl %ebx, %cs:(unavailable - guest_rom)
    jnc run_part
    incl V_SKIPPED
    movw $(text_skipped - guest_rom), %si
    call print
    jmp part_done

run_part:
    pushw %di
    movw $V_PART, %di
    movw $(V_PART_END - V_PART), %cx
    xorb %al, %al
    rep stosb
    movw $DETAIL, V_DETAIL
    # A fresh GDT and task segments, whatever the part before did to them.
    movw $(gdt - guest_rom), %si
    movw $GDT, %di
    movw $(gdt_end - gdt), %cx
    rep movsb %cs:(%si), %es:(%di)
    movw $TSS32, %di
    movw $(LDT - TSS32), %cx
    rep stosb
    popw %di
    movw %cs:(part_table - guest_rom + 4)(%di), %bp
    movw %cs:(part_table - guest_rom + 2)(%di), %bx
    shlw $1, %bx
    jmp *%cs:(mode_entries - guest_rom)(%bx)
mode_entries:
    .short run_real - guest_rom, enter32 - guest_rom, enter64 - guest_rom

# All modes come back here, in real mode, with every register unknown but CS.
home:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    movl $STACK, %esp
    cmpl $0, V_RESULT
    jne part_failed
    incl V_OK
    movw $(text_ok - guest_rom), %si
    call print
    movl V_CHECKS, %eax
    call print_decimal
    movw $(text_checks - guest_rom), %si
    call print
    call print_details
    jmp part_done
part_failed:
    incl V_FAILED
    call console_init               # it may have been COM1's own part, in loopback
    call print_failure
    call print_details
part_done:
    incl V_INDEX
    jmp next_part

report_end:
    movw $(text_result - guest_rom), %si
    call print
    movl V_OK, %eax
    call print_decimal
    movw $(text_result_ok - guest_rom), %si
    call print
    movl V_FAILED, %eax
    call print_decimal
    movw $(text_result_failed - guest_rom), %si
    call print
    movl V_SKIPPED, %eax
    call print_decimal
    movw $(text_result_skipped - guest_rom), %si
    call print
    call console_drain
    # isa-debug-exit makes of this status 33 (all ok) or 35.
    movb $0x10, %al
    cmpl $0, V_FAILED
    je 1f
    incb %al
1:  movw $0x501, %dx
    outb %al, %dx
    # Without that device the run ends in a halt that nothing can wake.
2:  cli
    hlt
    jmp 2b

.subsection 1
text_banner:         .asciz "twin86 guest\r\n"
text_ok:             .asciz "ok ("
text_checks:         .asciz " checks)\r\n"
text_skipped:        .asciz "skipped (this KVM cannot run it)\r\n"
text_result:         .asciz "result: "
text_result_ok:      .asciz " ok, "
text_result_failed:  .asciz " failed, "
text_result_skipped: .asciz " skipped\r\n"
.subsection 0
